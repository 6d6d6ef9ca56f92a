"""`pot-lab seat`: changes of the set of aggregators."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pot_lab.cli.common import FILE, LISTEN_WORDS, GroupWithDefault, json_option, listening_option, network_option

if TYPE_CHECKING:
    from pot_lab.network.config import Listening, NetworkConfig
    from pot_lab.protocol.views import SeatsView

_keys_option = click.option(
    "--keys", type=FILE, required=True, metavar="FOLDER", help="The aggregator's folder of keys."
)


@click.group(cls=GroupWithDefault, default="show")
def seat() -> None:
    """Show and change the seats of the aggregators.

    Without a command: show.
    """


@seat.command
@network_option
@json_option
def show(network: str | None, as_json: bool) -> None:
    """Show seats, candidates and votes.

    The last line shows whose signatures the chain accepts.
    """
    _print_seats(_config(network), as_json)


@seat.command
@_keys_option
@listening_option("Where the other aggregators and clients reach it.")
@network_option
@json_option
def join(keys: Path, listen: Listening | None, network: str | None, as_json: bool) -> None:
    """Apply for a seat.

    The seat is given when a quorum of the aggregators has voted for it.
    """
    from pot_lab.network import seat_changes

    if listen is None:
        raise click.UsageError(f"missing option --listen {LISTEN_WORDS}")
    config = _config(network)
    seat_changes.join(config, keys, listen)
    _print_seats(config, as_json)


@seat.command
@click.argument("account")
@_keys_option
@network_option
@json_option
def vote(account: str, keys: Path, network: str | None, as_json: bool) -> None:
    """Vote for the candidate ACCOUNT."""
    _vote(account, keys, network, seated=True, as_json=as_json)


@seat.command
@click.argument("account")
@_keys_option
@network_option
@json_option
def remove(account: str, keys: Path, network: str | None, as_json: bool) -> None:
    """Vote to remove the aggregator ACCOUNT."""
    _vote(account, keys, network, seated=False, as_json=as_json)


@seat.command
@_keys_option
@listening_option("Where it is reached from now on, if that changes.")
@network_option
@json_option
def rotate(keys: Path, listen: Listening | None, network: str | None, as_json: bool) -> None:
    """Change to the keys that lie in FOLDER/next."""
    from pot_lab.network import seat_changes

    config = _config(network)
    seat_changes.rotate(config, keys, listen)
    _print_seats(config, as_json)


@seat.command
@_keys_option
@network_option
@json_option
def leave(keys: Path, network: str | None, as_json: bool) -> None:
    """Give up the seat.

    The aggregator's process then ends by itself, with exit code 0.
    """
    from pot_lab.network import seat_changes

    config = _config(network)
    seat_changes.leave(config, keys)
    _print_seats(config, as_json)


def _config(network: str | None) -> NetworkConfig:
    from pot_lab.discovery import find_network
    from pot_lab.network.config import NetworkConfig

    return NetworkConfig.load(find_network(network)[0])


def _vote(account: str, keys: Path, network: str | None, *, seated: bool, as_json: bool) -> None:
    from pot_lab.crypto.identity import parse_address
    from pot_lab.network import seat_changes

    config = _config(network)
    seat_changes.vote(config, keys, parse_address(account), seated=seated)
    _print_seats(config, as_json)


def _print_seats(config: NetworkConfig, as_json: bool) -> None:
    from pot_lab.network.client.ledger import LedgerClient

    with LedgerClient(config) as client:
        view = client.seats()
    click.echo(json.dumps(seat_facts(view)) if as_json else seat_text(view))


def seat_facts(view: SeatsView) -> dict[str, Any]:
    """What `--json` prints: accounts and keys in hexadecimal."""
    from pot_lab.crypto.identity import format_address

    return {
        "quorum": view.quorum,
        "change_pending": view.change_pending,
        "seats": [
            {
                "account": format_address(each.account),
                "voting_key": format_address(each.key),
                "convicted": each.convicted,
                "against": [format_address(voter) for voter in each.against],
            }
            for each in view.seats
        ],
        "candidates": [
            {
                "account": format_address(each.account),
                "host": each.contact.host,
                "votes": [format_address(voter) for voter in each.votes],
            }
            for each in view.candidates
        ],
        "signer_set_id": view.signer_set_id,
        "signers": [format_address(key) for key in view.signers],
        "next_signers": [format_address(account) for account in view.next_signers],
    }


def seat_text(view: SeatsView) -> str:
    """Seats, candidates and signers, in lines for a person."""
    from pot_lab.crypto.identity import format_address

    lines = [f"{len(view.seats)} seats; {view.quorum} votes give or remove one"]
    for index, each in enumerate(view.seats):
        key = "" if each.key == each.account else f", votes with {format_address(each.key)}"
        convicted = ", convicted" if each.convicted else ""
        against = f", {len(each.against)} of {view.quorum} votes to remove it" if each.against else ""
        lines.append(f"  {index:3}  {format_address(each.account)}{key}{convicted}{against}")
    lines += [
        f"  candidate {format_address(each.account)} at {each.contact.host}, {len(each.votes)} of {view.quorum} votes"
        for each in view.candidates
    ]
    next_set = f"; {len(view.next_signers)} accounts are to follow" if view.next_signers else ""
    lines.append(f"on the chain {len(view.signers)} keys sign, set {view.signer_set_id}{next_set}")
    if view.change_pending:
        lines.append("a change is being put into force; no other can be made before")
    return "\n".join(lines)
