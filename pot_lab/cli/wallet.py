"""`pot-lab wallet`: make an account, show balances, move money."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pot_lab.cli.common import FILE, GroupWithDefault, account_option, connect_lab, json_option, network_option
from pot_lab.errors import PotLabError

if TYPE_CHECKING:
    from pot_lab.notebook.lab import Lab
    from pot_lab.protocol.views import AccountView


@click.group(cls=GroupWithDefault, default="show")
def wallet() -> None:
    """Balances, stakes and payouts of an account.

    Without a command: show.
    """


@wallet.command
@network_option
@account_option
@json_option
def show(network: str | None, account: str | None, as_json: bool) -> None:
    """Show balance, stakes, earned and claimed POT."""
    with connect_lab(network, account) as lab:
        _print_wallet(lab, lab.client.account(lab.identity.address), as_json)


@wallet.command
@click.argument("role", type=click.Choice(["provider", "validator", "verifier", "aggregator"]), metavar="ROLE")
@click.argument("amount", required=False, metavar="[POT]")
@network_option
@account_option
@json_option
def stake(role: str, amount: str | None, network: str | None, account: str | None, as_json: bool) -> None:
    """Stake POT for a role.

    ROLE is provider, validator, verifier or aggregator. POT is by default the network's minimum for it.
    """
    from pot_lab.notebook.quantities import grains
    from pot_lab.protocol.parameters import Role

    with connect_lab(network, account) as lab:
        chosen = Role[role.upper()]
        minimum = lab.client.network().parameters.min_stake_grains[chosen]
        lab.wallet.stake(chosen, minimum if amount is None else grains(amount))
        _print_wallet(lab, lab.client.account(lab.identity.address), as_json)


@wallet.command
@network_option
@account_option
@json_option
def claim(network: str | None, account: str | None, as_json: bool) -> None:
    """Pay out what the account has earned.

    Moves it from the settlement contract into the account.
    """
    with connect_lab(network, account) as lab:
        view = lab.client.account(lab.identity.address)
        if view.claimable_cumulative_grains:
            lab.wallet.claim(lab.identity.address, view.claimable_cumulative_grains, list(view.claim_proof))
        _print_wallet(lab, view, as_json)


@wallet.command
@click.argument("path", type=FILE)
@json_option
def new(path: Path, as_json: bool) -> None:
    """Make an account and write its keystore to PATH.

    Its password is $POT_LAB_PASSWORD, or is read from the terminal.
    """
    from pot_lab.crypto.identity import Identity, format_address
    from pot_lab.crypto.keystore import save_keystore

    password = os.environ.get("POT_LAB_PASSWORD") or _read_password()
    made = Identity.generate()
    try:
        save_keystore(path, made, password)
    except FileExistsError:
        raise PotLabError("a keystore is never overwritten", seen=path, wanted="a path where no file is") from None
    except OSError as error:
        raise PotLabError("the keystore cannot be written", seen=f"{path}: {error.strerror}") from error
    click.echo(json.dumps({"address": format_address(made.address)}) if as_json else format_address(made.address))


def _read_password() -> str:
    import getpass

    first = getpass.getpass("password for the new keystore: ")
    if not first or first != getpass.getpass("once more: "):
        raise PotLabError("the two passwords differ, or are empty")
    return first


def _print_wallet(lab: Lab, view: AccountView, as_json: bool) -> None:
    from pot_lab.notebook.quantities import pot
    from pot_lab.protocol.parameters import Role

    stakes = {Role(each.role).name.lower(): each.bonded_grains for each in view.stakes if each.bonded_grains}
    balance, claimed = lab.wallet.balance_grains(), lab.wallet.claimed_grains(lab.identity.address)
    if as_json:
        facts = {
            "address": lab.address,
            "balance_grains": balance,
            "stakes_grains": stakes,
            "earned_grains": view.earned_grains,
            "claimed_grains": claimed,
        }
        click.echo(json.dumps(facts))
        return
    click.echo(f"account  {lab.address}")
    click.echo(f"balance  {pot(balance)} POT")
    for name, amount in stakes.items():
        click.echo(f"stake    {pot(amount)} POT as {name}")
    click.echo(f"earned   {pot(view.earned_grains)} POT, of which {pot(claimed)} POT claimed")
