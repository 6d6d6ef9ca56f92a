"""`pot-lab chain`: put the contracts on a chain, and see what they are and hold."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pot_lab.cli.chain_proposal import proposal
from pot_lab.cli.common import FILE, json_option, network_option, print_aside
from pot_lab.cli.network import ask_first, founder_option, placed_contracts, terms_of, yes_option
from pot_lab.errors import PotLabError

if TYPE_CHECKING:
    from pot_lab.chain.contract import Contracts
    from pot_lab.chain.inspection import ChainState, ContractInspector, TimelockState

_WEI_PER_COIN = 10**18
_chain_option = click.option(
    "--chain", "rpc_url", metavar="URL", help="A node of the chain (default: the network file's)."
)
_contracts_option = click.option(
    "--contracts", type=FILE, metavar="FILE", help="What `pot-lab chain deploy` wrote, where there is no network yet."
)


@click.group
def chain() -> None:
    """Deploy the contracts, and check them on any node."""


@chain.command
@click.argument("cards", type=FILE, nargs=-1, required=True, metavar="CARD...")
@click.option("--chain", "rpc_url", required=True, metavar="URL", help="A node of the chain; several with commas.")
@founder_option
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A ledger parameter; see parameters.md.")
@click.option("--grant", "grants", multiple=True, metavar="ADDRESS=POT", help="POT for an account, from the supply.")
@click.option("--treasury", metavar="ADDRESS", help="Gets slashed stake (default: the account).")
@click.option("--out", type=FILE, default=Path("contracts.toml"), show_default=True, help="The file to write.")
@yes_option
@json_option
def deploy(
    cards: tuple[Path, ...],
    rpc_url: str,
    account: Path,
    settings: tuple[str, ...],
    grants: tuple[str, ...],
    treasury: str | None,
    out: Path,
    yes: bool,
    as_json: bool,
) -> None:
    """Deploy all contracts for the aggregators of these cards.

    The account pays in the chain's own coin and holds the supply of POT. A timelock owns the contracts: a quorum of the
    aggregators proposes to it, and its delay is the parameter timelock_ms. `pot-lab network found --contracts FILE`
    makes a network of them; its --set, --grant and --treasury have to be the same.
    """
    import tomli_w

    from pot_lab.chain.deploy import deploy as deploy_contracts
    from pot_lab.crypto.identity import format_address
    from pot_lab.discovery import open_account
    from pot_lab.files import replace_durably
    from pot_lab.network.founding.card import Card, entries_of_cards
    from pot_lab.network.founding.found import contract_setup
    from pot_lab.network.genesis import parameters_of

    if out.exists():
        raise PotLabError("the contracts' addresses are never overwritten", seen=out, wanted="--out with another path")
    entries = entries_of_cards([Card.load(path) for path in cards])
    terms = terms_of(
        name="-",
        rpc_url=rpc_url,
        store="",
        private_links=None,
        confirmations=0,
        settings=settings,
        grants=grants,
        treasury=treasury,
    )
    setup = contract_setup(entries, parameters_of(dict(terms.parameters)), terms)
    founder = open_account(None, account)
    print_aside(f"account {format_address(founder.address)} deploys six contracts for {len(entries)} aggregators")
    ask_first("Deploy them?", yes)
    made = deploy_contracts(rpc_url, founder, setup)
    replace_durably(out, tomli_w.dumps(made.as_table()).encode(), mode=0o644)
    if as_json:
        click.echo(json.dumps(made.as_table()))
        return
    for name, value in made.as_table().items():
        click.echo(f"{name:<12} {value}")


@chain.command
@network_option
@_chain_option
@_contracts_option
@json_option
def status(network: str | None, rpc_url: str | None, contracts: Path | None, as_json: bool) -> None:
    """Show what the contracts hold, and who decides.

    Owners, signers, epochs, pauses and money.
    """
    with _inspected(network, rpc_url, contracts) as (inspector, _):
        state = inspector.state()
    click.echo(json.dumps(state_facts(state)) if as_json else state_text(state))


@chain.command
@network_option
@_chain_option
@_contracts_option
@click.pass_context
@json_option
def verify(
    context: click.Context, network: str | None, rpc_url: str | None, contracts: Path | None, as_json: bool
) -> None:
    """Compare the contracts with this package's build.

    Their bytecode, what they were made with, and how they are wired. Exit code 1 if anything differs.
    """
    with _inspected(network, rpc_url, contracts) as (inspector, placed):
        troubles = inspector.verify()
    if as_json:
        click.echo(json.dumps({"contracts": placed.as_table(), "troubles": troubles}))
    else:
        for trouble in troubles:
            click.echo(f"differs  {trouble}")
        if not troubles:
            click.echo("the contracts are those of this package, wired to each other")
    context.exit(1 if troubles else 0)


@chain.command
@click.option("--check", is_flag=True, help="Check that the build belongs to the Solidity beside it.")
@click.pass_context
@json_option
def artifacts(context: click.Context, check: bool, as_json: bool) -> None:
    """Show the compiled contracts of this package."""
    from pot_lab.chain.contract import artifact_troubles
    from pot_lab.chain.contract import artifacts as committed

    build = committed()
    troubles = artifact_troubles() if check else []
    sizes = {name: len(entry["bytecode"]) // 2 for name, entry in build["contracts"].items()}
    if as_json:
        facts = {"compiler": build["compiler"], "settings": build["settings"], "bytes": sizes, "troubles": troubles}
        click.echo(json.dumps(facts))
    else:
        click.echo(f"compiler  {build['compiler']}, for {build['settings']['evmVersion']}")
        for name, size in sizes.items():
            click.echo(f"  {name:<18} {size:6} bytes of creation code")
        for trouble in troubles:
            click.echo(f"differs  {trouble}")
        if check and not troubles:
            click.echo("the build belongs to the sources beside it")
    context.exit(1 if troubles else 0)


chain.add_command(proposal)


@contextmanager
def _inspected(
    network: str | None, rpc_url: str | None, contracts: Path | None
) -> Iterator[tuple[ContractInspector, Contracts]]:
    from pot_lab.chain.inspection import ContractInspector
    from pot_lab.discovery import find_network
    from pot_lab.network.chain_access import chain_of, contracts_of
    from pot_lab.network.config import NetworkConfig

    if contracts is not None:
        if rpc_url is None:
            raise click.UsageError("--contracts needs --chain")
        placed, url = placed_contracts(contracts), rpc_url
    else:
        config = NetworkConfig.load(find_network(network)[0])
        placed, url = contracts_of(config), rpc_url or chain_of(config).rpc_url
    with ContractInspector(url, placed) as inspector:
        yield inspector, placed


def state_facts(state: ChainState) -> dict[str, Any]:
    """What `--json` prints."""
    from pot_lab.crypto.identity import format_address

    return {
        "block": state.block,
        "block_time_s": state.block_time_s,
        "owners": {name: format_address(owner) for name, owner in state.owners.items()},
        "owner_is_contract": dict(state.owner_is_contract),
        "pending_owners": {name: format_address(owner) for name, owner in state.pending_owners.items() if any(owner)},
        "timelock": None if state.timelock is None else _timelock_facts(state.timelock),
        "guardian": format_address(state.guardian),
        "treasury": format_address(state.treasury),
        "staked_grains": state.staked_grains,
        "escrowed_grains": state.escrowed_grains,
        "held_grains": state.held_grains,
        "funded_grains": state.funded_grains,
        "promised_grains": state.promised_grains,
        "epoch": state.epoch,
        "settled_at_s": state.settled_at_s,
        "paused_until_s": state.paused_until_s,
        "is_paused": state.is_paused,
        "signer_set_id": state.signer_set_id,
        "threshold": state.threshold,
        "signers": [format_address(signer) for signer in state.signers],
    }


def state_text(state: ChainState) -> str:
    """The same in lines for a person."""
    from pot_lab.crypto.identity import format_address
    from pot_lab.notebook.quantities import pot

    lines = [f"block       {state.block}, {_date(state.block_time_s)}"]
    for name, owner in state.owners.items():
        kind = "a contract" if state.owner_is_contract[name] else "an account: one key can change the contract"
        lines.append(f"owner       {name}: {format_address(owner)}, {kind}")
        if any(state.pending_owners[name]):
            lines.append(f"            offered to {format_address(state.pending_owners[name])}, not accepted yet")
    rewards = f"{pot(state.funded_grains)} funded and {pot(state.promised_grains)} promised since the first epoch"
    if (lock := state.timelock) is not None:
        by_quorum = f"a quorum of the signers, through {format_address(lock.governor or b'')}"
        named = [by_quorum if each == lock.governor else format_address(each) for each in lock.proposers]
        who = ", ".join(named) or "nobody"
        by = "anybody" if any(not any(each) for each in lock.executors) else f"{len(lock.executors)} accounts"
        lines.append(f"timelock    every act waits {lock.delay_s / 3600:g} h; proposed by {who}; executed by {by}")
    lines += [
        f"guardian    {format_address(state.guardian)}",
        f"treasury    {format_address(state.treasury)}",
        f"stakes      {pot(state.staked_grains)} POT",
        f"escrows     {pot(state.escrowed_grains)} POT",
        f"rewards     {pot(state.held_grains)} POT held; {rewards}",
        f"epoch       {state.epoch}" + (f", settled {_date(state.settled_at_s)}" if state.epoch else ": none yet"),
        f"paused      {'until ' + _date(state.paused_until_s) if state.is_paused else 'no'}",
        f"signers     {state.threshold} of {len(state.signers)}, set {state.signer_set_id}",
    ]
    lines += [f"            {format_address(signer)}" for signer in state.signers]
    return "\n".join(lines)


def _timelock_facts(lock: TimelockState) -> dict[str, Any]:
    from pot_lab.crypto.identity import format_address

    def all_of(accounts: tuple[bytes, ...]) -> list[str]:
        return [format_address(each) for each in accounts]

    return {
        "address": format_address(lock.address),
        "delay_s": lock.delay_s,
        "proposers": all_of(lock.proposers),
        "governor": None if lock.governor is None else format_address(lock.governor),
        "executors": all_of(lock.executors),
        "admins": all_of(lock.admins),
    }


def _date(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
