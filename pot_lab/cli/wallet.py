"""`pot-lab wallet`: make or import an account, show balances, move money."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pot_lab.cli.common import (
    FILE,
    GroupWithDefault,
    account_option,
    connect_lab,
    json_option,
    network_and_account,
    network_option,
)
from pot_lab.cli.paying import Paying, chain_wallet, loaded, paying_lab, paying_options, paying_wallet
from pot_lab.errors import PotLabError

if TYPE_CHECKING:
    from pot_lab.chain.wallet import ChainWallet
    from pot_lab.crypto.identity import Identity
    from pot_lab.network.config import NetworkConfig
    from pot_lab.notebook.lab import Lab
    from pot_lab.protocol.views import AccountView

_SECRET_BYTES = 32
_role_argument = click.argument(
    "role", type=click.Choice(["provider", "validator", "verifier", "aggregator"]), metavar="ROLE"
)


@click.group(cls=GroupWithDefault, default="show")
def wallet() -> None:
    """Balances, stakes and payouts of an account.

    Without a command: show. Each transaction is shown in words, with what it may cost, before it is sent.
    """


@wallet.command
@network_option
@account_option
@json_option
def show(network: str | None, account: str | None, as_json: bool) -> None:
    """Show balance, stakes, earned and claimed POT."""
    with connect_lab(network, account) as lab:
        _print_wallet(lab, lab.identity.address, lab.client.account(lab.identity.address), as_json)


@wallet.command
@click.argument("address", required=False, metavar="[ADDRESS]")
@network_option
@account_option
@json_option
def balance(address: str | None, network: str | None, account: str | None, as_json: bool) -> None:
    """Show an account's POT and its coin for gas.

    Asks the chain only: no aggregator need run. ADDRESS is by default the account's own.
    """
    from pot_lab.crypto.identity import format_address, parse_address
    from pot_lab.notebook.quantities import pot

    config, identity = _network_and_account(network, account, None if address is None else parse_address(address))
    who = identity if isinstance(identity, bytes) else identity.address
    with chain_wallet(config, None) as chain:
        held, coin = chain.balance_grains(who), chain.coin_wei(who)
    if as_json:
        click.echo(json.dumps({"address": format_address(who), "balance_grains": held, "coin_wei": coin}))
        return
    click.echo(f"account  {format_address(who)}")
    click.echo(f"balance  {pot(held)} POT")
    click.echo(f"coin     {coin / 10**18:.9g} for gas")


@wallet.command
@_role_argument
@click.argument("amount", required=False, metavar="[POT]")
@paying_options
def stake(role: str, amount: str | None, paying: Paying) -> None:
    """Stake POT for a role.

    ROLE is provider, validator, verifier or aggregator. POT is by default the network's minimum for it.
    """
    from pot_lab.notebook.quantities import grains
    from pot_lab.protocol.parameters import Role

    with paying_lab(paying) as (lab, me):
        chosen = Role[role.upper()]
        minimum = lab.client.network().parameters.min_stake_grains[chosen]
        lab.chain_wallet.stake(chosen, minimum if amount is None else grains(amount))
        # what the chain has now: the ledger knows of it only after its confirmations
        _print_stake(lab.chain_wallet, me, role, paying.as_json)


@wallet.command
@_role_argument
@click.argument("amount", required=False, metavar="[POT]")
@paying_options
def unstake(role: str, amount: str | None, paying: Paying) -> None:
    """Begin to take a stake back.

    POT is by default all that is staked for ROLE. It can be slashed until `withdraw`, after the unbonding period.
    """
    from pot_lab.notebook.quantities import grains
    from pot_lab.protocol.parameters import Role

    chosen = Role[role.upper()]
    with paying_wallet(paying) as (chain, me):
        bonded = chain.stake_of(me, chosen).bonded_grains
        chain.request_unstake(chosen, bonded if amount is None else grains(amount))
        _print_stake(chain, me, role, paying.as_json)


@wallet.command
@_role_argument
@paying_options
def withdraw(role: str, paying: Paying) -> None:
    """Take out a stake whose unbonding period is over."""
    from pot_lab.protocol.parameters import Role

    with paying_wallet(paying) as (chain, me):
        chain.withdraw(Role[role.upper()])
        _print_stake(chain, me, role, paying.as_json)


@wallet.command
@paying_options
def claim(paying: Paying) -> None:
    """Pay out what the account has earned.

    Moves it from the settlement contract into the account.
    """
    with paying_lab(paying) as (lab, me):
        view = lab.client.account(me)
        if view.claimable_cumulative_grains > lab.chain_wallet.claimed_grains(me):
            lab.chain_wallet.claim(me, view.claimable_cumulative_grains, list(view.claim_proof))
        _print_wallet(lab, me, view, paying.as_json)


@wallet.command
@click.argument("order", metavar="ORDER")
@paying_options
def refund(order: str, paying: Paying) -> None:
    """Give an order's escrow back to its client.

    ORDER is the order's whole id. It works once the order's last date and the contract's grace are over and the network
    settled without it, or once the longer grace of a network that stands still is over. It asks the chain only: no
    aggregator need run. Anybody may send it; the money goes to the client.
    """
    from pot_lab.chain.lookup import find_order
    from pot_lab.crypto.identity import format_address
    from pot_lab.network.chain_access import chain_of

    try:
        name = bytes.fromhex(order.removeprefix("0x"))
    except ValueError:
        name = b""
    if len(name) != 32:
        raise PotLabError("not an order id", seen=order, wanted="32 bytes as 64 hex digits")
    with paying_wallet(paying) as (chain, _):
        terms = find_order(chain_of(loaded(paying.network)).rpc_url, chain.contracts, name)
        if terms is None:
            raise PotLabError("the chain has no such order", seen=order)
        chain.refund(terms.seal_by_s, terms.spec_hash, terms.nonce, client=terms.client)
        client = format_address(terms.client)
        click.echo(json.dumps({"order": name.hex(), "client": client}) if paying.as_json else f"paid back to {client}")


@wallet.command("payout-address")
@click.argument("address", required=False, metavar="[ADDRESS]")
@click.option("--own", is_flag=True, help="To the account itself again.")
@paying_options
def payout_address(address: str | None, own: bool, paying: Paying) -> None:
    """Show or set where payouts go.

    With ADDRESS all payouts of the account go there from now on, whoever claims them: what an aggregator or a miner
    earns need not lie with a key that is on its host. Without it the address in force is shown.
    """
    from pot_lab.crypto.identity import format_address, parse_address

    if address is not None and own:
        raise click.UsageError("--own goes without ADDRESS")
    to = None if address is None else parse_address(address)
    with paying_wallet(paying) as (chain, me):
        if own or to is not None:
            chain.set_payout_address(to)
        found = format_address(chain.payout_address(me))
        click.echo(json.dumps({"payout_address": found}) if paying.as_json else f"payouts  go to {found}")


@wallet.command
@click.argument("amount", metavar="POT")
@paying_options
def fund(amount: str, paying: Paying) -> None:
    """Give POT to the network for rewards.

    The aggregators pay it out; it does not come back.
    """
    from pot_lab.notebook.quantities import grains, pot

    with paying_wallet(paying) as (chain, _):
        chain.fund(grains(amount))
        left = chain.balance_grains()
        click.echo(json.dumps({"balance_grains": left}) if paying.as_json else f"balance  {pot(left)} POT")


@wallet.command
@click.argument("path", type=FILE)
@json_option
def new(path: Path, as_json: bool) -> None:
    """Make an account and write its keystore to PATH.

    Its password is $POT_LAB_PASSWORD, or is read from the terminal.
    """
    from pot_lab.crypto.identity import Identity

    _save(path, Identity.generate(), as_json)


@wallet.command("import")
@click.argument("path", type=FILE)
@click.option("--from", "source", type=FILE, help="A keystore of another wallet, e.g. of geth or MetaMask.")
@json_option
def import_(path: Path, source: Path | None, as_json: bool) -> None:
    """Write a keystore for an existing account.

    PATH is the new keystore.

    Its secret key is read from the terminal, or from the standard input: 64 hex digits, never an argument, which other
    users could see. With --from it comes from a keystore that any Ethereum wallet has written, whose password is
    $POT_LAB_IMPORT_PASSWORD or is read from the terminal. The new password is as of `new`.
    """
    from pot_lab.crypto.identity import Identity
    from pot_lab.crypto.keystore import load_keystore

    if source is not None:
        password = os.environ.get("POT_LAB_IMPORT_PASSWORD")
        if password is None:
            password = _ask(f"password of {source.name}: ", "POT_LAB_IMPORT_PASSWORD")
        try:
            return _save(path, load_keystore(source, password), as_json)
        except FileNotFoundError:
            raise PotLabError("there is no such keystore", seen=source) from None
    asked = sys.stdin is not None and sys.stdin.isatty()
    text = _ask("secret key (64 hex digits): ", "") if asked else (sys.stdin.readline(256) if sys.stdin else "")
    try:
        secret = bytes.fromhex(text.strip().removeprefix("0x"))
    except ValueError:
        secret = b""
    if len(secret) != _SECRET_BYTES:
        raise PotLabError("not a secret key", seen=f"{len(text.strip())} characters", wanted="64 hex digits")
    return _save(path, Identity(secret), as_json)


def _save(path: Path, identity: Identity, as_json: bool) -> None:
    from pot_lab.crypto.identity import format_address
    from pot_lab.crypto.keystore import save_keystore

    password = os.environ.get("POT_LAB_PASSWORD") or _read_password()
    try:
        save_keystore(path, identity, password)
    except FileExistsError:
        raise PotLabError("a keystore is never overwritten", seen=path, wanted="a path where no file is") from None
    except OSError as error:
        raise PotLabError("the keystore cannot be written", seen=f"{path}: {error.strerror}") from error
    address = format_address(identity.address)
    click.echo(json.dumps({"address": address}) if as_json else address)


def _read_password() -> str:
    first = _ask("password for the new keystore: ", "POT_LAB_PASSWORD")
    if not first or first != _ask("once more: ", "POT_LAB_PASSWORD"):
        raise PotLabError("the two passwords differ, or are empty")
    return first


def _ask(prompt: str, variable: str) -> str:
    """Read a secret from the terminal; refuses where there is none, and names the variable that does instead."""
    import getpass

    try:
        return getpass.getpass(prompt)
    except (EOFError, OSError) as error:  # no terminal and nothing on the standard input, or none at all
        raise PotLabError(
            "a password is needed and there is no terminal to ask for it",
            wanted=f"a terminal, or ${variable}" if variable else "a terminal",
        ) from error


def _network_and_account(
    network: str | None, account: str | None, address: bytes | None = None
) -> tuple[NetworkConfig, Identity | bytes]:
    if address is not None:
        return loaded(network), address
    return network_and_account(network, account, "client")


def _print_stake(chain: ChainWallet, me: bytes, role: str, as_json: bool) -> None:
    from pot_lab.notebook.quantities import pot
    from pot_lab.protocol.parameters import Role

    found = chain.stake_of(me, Role[role.upper()])
    facts: dict[str, Any] = {
        "role": role,
        "bonded_grains": found.bonded_grains,
        "unbonding_grains": found.unbonding_grains,
        "unlock_at_s": found.unlock_at_s,
        "balance_grains": chain.balance_grains(),
    }
    if as_json:
        click.echo(json.dumps(facts))
        return
    click.echo(f"stake    {pot(found.bonded_grains)} POT as {role}")
    if found.unbonding_grains:
        click.echo(f"leaving  {pot(found.unbonding_grains)} POT, to withdraw from {_date(found.unlock_at_s)} on")
    click.echo(f"balance  {pot(facts['balance_grains'])} POT")


def _date(seconds: int) -> str:
    import datetime

    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


def what_is_not_free(view: AccountView) -> list[str]:
    """Lines about stake that unbonds, that was slashed, and why."""
    from pot_lab.notebook.quantities import pot
    from pot_lab.protocol.parameters import Role

    lines = []
    for each in view.stakes:
        name = Role(each.role).name.lower()
        if each.unbonding_grains:
            lines.append(f"unbonds  {pot(each.unbonding_grains)} POT as {name}")
        if each.slashed_grains:
            lines.append(f"slashed  {pot(each.slashed_grains)} POT as {name}")
    if view.forfeits:
        lines.append(
            f"forfeits {view.forfeits}: models that were not revealed, or scores that were not opened, in time"
        )
    return lines


def on_its_way(view: AccountView, claimed_grains: int) -> list[str]:
    """Lines about refunds and earnings that the chain has not paid out, and what brings them home."""
    from pot_lab.notebook.quantities import pot

    lines = []
    if (now := view.claimable_cumulative_grains - claimed_grains) > 0:
        lines.append(f"due      {pot(now)} POT: `pot-lab wallet claim` brings them home")
    later = view.earned_grains - max(view.claimable_cumulative_grains, claimed_grains)
    if later > 0:
        lines.append(f"coming   {pot(later)} POT with the next settlement")
    return lines


def _print_wallet(lab: Lab, me: bytes, view: AccountView, as_json: bool) -> None:
    from pot_lab.crypto.identity import format_address
    from pot_lab.notebook.quantities import pot
    from pot_lab.protocol.parameters import Role

    stakes = {Role(each.role).name.lower(): each.bonded_grains for each in view.stakes if each.bonded_grains}
    held, claimed = lab.chain_wallet.balance_grains(), lab.chain_wallet.claimed_grains(me)
    payouts = format_address(lab.chain_wallet.payout_address(me))
    address = format_address(me)
    if as_json:
        facts = {
            "address": address,
            "balance_grains": held,
            "stakes_grains": stakes,
            "unbonding_grains": {Role(each.role).name.lower(): each.unbonding_grains for each in view.stakes},
            "slashed_grains": {Role(each.role).name.lower(): each.slashed_grains for each in view.stakes},
            "forfeits": view.forfeits,
            "earned_grains": view.earned_grains,
            "claimed_grains": claimed,
            "on_its_way_grains": max(0, view.earned_grains - claimed),
            "payout_address": payouts,
        }
        click.echo(json.dumps(facts))
        return
    click.echo(f"account  {address}")
    click.echo(f"balance  {pot(held)} POT")
    for name, amount in stakes.items():
        click.echo(f"stake    {pot(amount)} POT as {name}")
    for line in what_is_not_free(view):
        click.echo(line)
    for line in on_its_way(view, claimed):
        click.echo(line)
    click.echo(f"earned   {pot(view.earned_grains)} POT, of which {pot(claimed)} POT claimed")
    if payouts != address:
        click.echo(f"payouts  go to {payouts}")
