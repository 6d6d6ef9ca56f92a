"""`pot-lab chain proposal`: what the contracts' owner shall do; drafted, signed by a quorum, proposed, carried out."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pot_lab.cli.common import FILE, json_option, network_option, print_aside
from pot_lab.cli.network import ask_first, yes_option
from pot_lab.cli.paying import Paying, loaded, paying_options, quiet_dry_run, remote_signer
from pot_lab.errors import PotLabError

if TYPE_CHECKING:
    from pot_lab.chain.governance import OwnerAct, OwnerActs

_file = click.argument("path", type=FILE, metavar="FILE")


@click.group
def proposal() -> None:
    """Tell the contracts' owner what to do.

    A proposal is a FILE that goes from one signer to the next: draft it, have a quorum sign it, send it, and execute it
    once the timelock's delay is over. Whoever sends pays the gas and needs no right. What members vote on needs none of
    this: the aggregators propose that by themselves.
    """


@proposal.command
@_file
@click.option(
    "--call",
    "calls",
    multiple=True,
    required=True,
    metavar="'CONTRACT.FUNCTION ARGUMENTS'",
    help="What is done, e.g. 'escrow.setMinReward 5000000000': amounts in grains, times in seconds, lists with commas. "
    "CONTRACT is token, registry, escrow, settlement or timelock. May be given several times.",
)
@click.option("--reason", required=True, help="Why, in words.")
@network_option
@json_option
def draft(path: Path, calls: tuple[str, ...], reason: str, network: str | None, as_json: bool) -> None:
    """Write the next proposal to FILE.

    Nobody has signed it yet.
    """
    from pot_lab.chain.governance import read_call
    from pot_lab.files import replace_durably

    if path.exists():
        raise PotLabError("a proposal is never overwritten", seen=path, wanted="a path where no file is")
    with _governance(network) as governance:
        act = governance.draft([read_call(each) for each in calls], reason)
        replace_durably(path, act.to_file({}), mode=0o644)
        _print(governance, act, {}, as_json)


@proposal.command
@_file
@network_option
@json_option
def show(path: Path, network: str | None, as_json: bool) -> None:
    """Say in words what a proposal does.

    Also who signed it, and how it stands.
    """
    act, signatures, _ = _read(path)
    with _governance(network) as governance:
        _print(governance, act, signatures, as_json)


@proposal.command
@_file
@click.option("--cancel", is_flag=True, help="Sign that it shall be dropped while it waits.")
@network_option
@click.option("--account", metavar="PATH", help="The keystore of a signer (default: $POT_LAB_ACCOUNT).")
@click.option("--signer", metavar="URL", help="A program that keeps the key; --account is then its address.")
@yes_option
@json_option
def sign(
    path: Path, cancel: bool, network: str | None, account: str | None, signer: str | None, yes: bool, as_json: bool
) -> None:
    """Add your signature to FILE.

    What is signed is said in words before. Only signatures of the signers that the settlement contract has now count.
    """
    from pot_lab.files import replace_durably

    act, signatures, cancellations = _read(path)
    paying = Paying(network=network, account=account, signer=signer, yes=yes, dry_run=False, as_json=as_json)
    with _governance(network, paying) as governance:
        print_aside(governance.words(act))
        ask_first("Sign that it is dropped?" if cancel else "Sign it?", yes)
        if cancel:
            who, signature = governance.sign_cancellation(act)
            cancellations[who] = signature
        else:
            who, signature = governance.sign(act)
            signatures[who] = signature
        replace_durably(path, act.to_file(signatures, cancellations), mode=0o644)
        _print(governance, act, signatures, as_json)


@proposal.command
@_file
@click.option("--founder", is_flag=True, help="By the founder alone, where nothing was settled for long.")
@paying_options
def send(path: Path, founder: bool, paying: Paying) -> None:
    """Hand a signed proposal to the timelock.

    It waits there for the timelock's delay.
    """
    act, signatures, _ = _read(path)
    with quiet_dry_run(paying.as_json), _governance(paying.network, paying) as governance:
        if founder:
            governance.recover(act)
        else:
            governance.propose(act, signatures)
        _print(governance, act, signatures, paying.as_json)


@proposal.command
@_file
@paying_options
def execute(path: Path, paying: Paying) -> None:
    """Carry out what has waited."""
    act, signatures, _ = _read(path)
    with quiet_dry_run(paying.as_json), _governance(paying.network, paying) as governance:
        governance.execute(act)
        _print(governance, act, signatures, paying.as_json)


@proposal.command
@_file
@paying_options
def cancel(path: Path, paying: Paying) -> None:
    """Drop a proposal that waits.

    A quorum has to have signed that (`sign --cancel`).
    """
    act, signatures, cancellations = _read(path)
    with quiet_dry_run(paying.as_json), _governance(paying.network, paying) as governance:
        governance.cancel(act, cancellations)
        _print(governance, act, signatures, paying.as_json)


def _read(path: Path) -> tuple[OwnerAct, dict[bytes, bytes], dict[bytes, bytes]]:
    from pot_lab.chain.governance import OwnerAct

    content = path.read_bytes()
    act, signatures = OwnerAct.from_file(content)
    return act, signatures, OwnerAct.cancellations_in(content)


@contextlib.contextmanager
def _governance(network: str | None, paying: Paying | None = None) -> Iterator[OwnerActs]:
    from pot_lab.cli.common import confirm_with, network_and_account
    from pot_lab.network.chain_access import owner_acts_of

    if paying is None:
        governance = owner_acts_of(loaded(network), None)
    elif paying.signer is not None:
        governance = owner_acts_of(loaded(network), remote_signer(paying.signer, paying.account))
    else:
        config, identity = network_and_account(network, paying.account, "client")
        governance = owner_acts_of(config, identity)
    if paying is not None:
        governance.confirm_by(confirm_with(paying.yes, paying.dry_run))
    try:
        yield governance
    finally:
        governance.close()


def _print(governance: OwnerActs, act: OwnerAct, signatures: dict[bytes, bytes], as_json: bool) -> None:
    from pot_lab.crypto.identity import format_address

    until_s, wanted = governance.waits_until_s(act), governance.threshold()
    facts: dict[str, Any] = {
        "number": act.number,
        "id": "0x" + act.id.hex(),
        "signer_set_id": act.signer_set_id,
        "does": governance.does(act),
        "reason": act.reason,
        "signatures": sorted(map(format_address, signatures)),
        "signatures_wanted": wanted,
        "stands": _stands(governance, act, until_s),
        "executable_from_s": until_s or None,
    }
    if as_json:
        click.echo(json.dumps(facts))
        return
    click.echo(governance.words(act))
    click.echo(f"  signed   by {len(signatures)}, {wanted} are needed")
    for each in facts["signatures"]:
        click.echo(f"           {each}")
    when = "" if not until_s else f", from {time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime(until_s))} on"
    click.echo(f"  stands   {facts['stands']}{when if facts['stands'] == 'waits' else ''}")


def _stands(governance: OwnerActs, act: OwnerAct, until_s: int | None) -> str:
    if until_s is None:
        return "not proposed"
    if until_s == 0:
        return "done"
    return "can be executed" if governance.is_ready(act) else "waits"
