"""`pot-lab network`: found a network of several operators, check it, and join one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pot_lab.cli.common import FILE, LISTEN_WORDS, json_option, listening_option, network_option, print_aside
from pot_lab.cli.status import print_results
from pot_lab.errors import PotLabError

if TYPE_CHECKING:
    from pot_lab.chain.contract import Contracts
    from pot_lab.network.config import Listening
    from pot_lab.network.founding.found import NetworkTerms

CARD_FILE = "card.toml"
_ASK_ONLY_S = 10.0
yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask; needed where no terminal can ask.")
founder_option = click.option(
    "--account",
    type=FILE,
    required=True,
    metavar="PATH",
    help="The founder's account: a keys folder, or a keystore whose password is $POT_LAB_PASSWORD.",
)


@click.group
def network() -> None:
    """Found a network of several operators, check it, join it.

    Each operator makes keys and sends its card; one founds the network from all cards; each signs the file, and checks
    it together with the others before anything starts. See founding.md in the documentation.
    """


@network.command
@click.argument("folder", type=FILE)
@listening_option("Where the other aggregators and clients will reach this one.")
@click.option("--operator", default="", help="Who runs it, for people (default: the host).")
@json_option
def keys(folder: Path, listen: Listening | None, operator: str, as_json: bool) -> None:
    """Make an aggregator's keys in FOLDER, and its public card.

    The card is FOLDER/card.toml and holds no secret: send it to the founder. Where FOLDER has keys already, they stay,
    and only the card is written anew.
    """
    from pot_lab.crypto.identity import format_address
    from pot_lab.files import replace_durably
    from pot_lab.network.aggregator.keys_folder import ACCOUNT_FILE, load_keys, make_aggregator_keys
    from pot_lab.network.founding.card import Card

    if listen is None:
        raise click.UsageError(f"missing option --listen {LISTEN_WORDS}")
    made = load_keys(folder)[0] if (folder / ACCOUNT_FILE).is_file() else make_aggregator_keys(folder)
    card = Card.make(operator or listen[0], listen, made)
    path = folder / CARD_FILE
    replace_durably(path, card.to_text().encode(), mode=0o644)
    address = format_address(card.address)
    click.echo(json.dumps({"card": str(path), "address": address}) if as_json else card.to_text() + f"# {path}")


@network.command
@click.argument("cards", type=FILE, nargs=-1, required=True, metavar="CARD...")
@click.option("--name", required=True, help="The network's name: letters, digits, - and _.")
@click.option("--chain", "rpc_url", required=True, metavar="URL", help="A node of the chain; several with commas.")
@click.option("--contracts", type=FILE, metavar="FILE", help="What `pot-lab chain deploy` wrote (default: deploy now).")
@founder_option
@click.option("--store", default="", metavar="URL", help="Where blobs are put by default.")
@click.option("--private-links/--public-links", default=None, help="Whether links may lead to private addresses.")
@click.option("--confirmations", type=click.IntRange(0), default=12, show_default=True, help="Blocks until final.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A ledger parameter; see parameters.md.")
@click.option("--grant", "grants", multiple=True, metavar="ADDRESS=POT", help="POT for an account, from the supply.")
@click.option("--treasury", metavar="ADDRESS", help="Gets slashed stake and what rounding leaves (default: founder).")
@click.option("--out", type=FILE, default=Path("network.toml"), show_default=True, help="The file to write.")
@yes_option
@json_option
def found(
    cards: tuple[Path, ...],
    account: Path,
    contracts: Path | None,
    out: Path,
    yes: bool,
    as_json: bool,
    **terms: Any,
) -> None:
    """Found a network from its aggregators' cards.

    Deploys the contracts, stakes each aggregator, and writes network.toml, which every operator has to sign. The
    account holds the supply of POT, and pays in the chain's own coin. A timelock owns the contracts, to which a quorum
    of the aggregators proposes.
    """
    from pot_lab.discovery import open_account
    from pot_lab.network.founding.card import Card
    from pot_lab.network.founding.found import found as found_network

    if out.exists():
        raise PotLabError("a network's file is never overwritten", seen=out, wanted="--out with another path")
    loaded = [Card.load(path) for path in cards]
    founder = open_account(None, account)
    wanted = terms_of(**terms)
    for card in loaded:
        print_aside(f"{card.operator}: {card.contact.host}, account 0x{card.address.hex()}")
    if contracts is None:
        ask_first(f"Deploy the contracts of {wanted.name!r} for these {len(loaded)} aggregators?", yes)
    config = found_network(
        loaded, wanted, founder, contracts=None if contracts is None else placed_contracts(contracts)
    )
    config.save(out)
    _print_terms(out, as_json)


@network.command
@click.argument("file", type=FILE)
@click.option("--keys", "folder", type=FILE, metavar="FOLDER", help="The aggregator's keys; none to collect only.")
@click.option("--with", "copies", type=FILE, multiple=True, metavar="COPY", help="Copies that others signed.")
@yes_option
@json_option
def sign(file: Path, folder: Path | None, copies: tuple[Path, ...], yes: bool, as_json: bool) -> None:
    """Sign a network's file with an aggregator's key.

    Shows what the signature binds, and asks. With --with the signatures of other operators' copies are taken over, in
    any order, so that one file in the end has all.
    """
    from pot_lab.network.aggregator.keys_folder import load_account
    from pot_lab.network.config import NetworkConfig
    from pot_lab.network.founding.terms import collect_approvals, sign_terms, terms_words

    config = NetworkConfig.load(file)
    signed = collect_approvals(config, [NetworkConfig.load(copy) for copy in copies])
    if folder is not None:
        for line in terms_words(config):
            print_aside(line)
        ask_first("Sign this?", yes)
        signed = sign_terms(signed, load_account(folder))
    signed.save(file)
    _print_terms(file, as_json)


@network.command
@network_option
@click.option("--keys", "folder", type=FILE, metavar="FOLDER", help="This host's aggregator's keys.")
@click.option(
    "--meet",
    "meet_s",
    type=click.FloatRange(min=0),
    default=None,
    metavar="SECONDS",
    help="Listen on this host's ports meanwhile, and wait so long for the others to do the same.",
)
@click.option("--no-chain", is_flag=True, help="Leave the chain out.")
@click.pass_context
@json_option
def check(
    context: click.Context,
    network: str | None,
    folder: Path | None,
    meet_s: float | None,
    no_chain: bool,
    as_json: bool,
) -> None:
    """Check that this host and all others are ready.

    The file and its signatures, keys, limits, chain, contracts, and each other host: whether it answers with its key,
    has the same file and version, and agrees on the time. Before anything runs, all operators run it at the same time
    with --keys and --meet 120. Beside an aggregator that runs, leave --meet away. Exit code 1 if something is wrong.
    """
    from pot_lab.discovery import find_network
    from pot_lab.network.aggregator.keys_folder import load_keys
    from pot_lab.network.config import NetworkConfig
    from pot_lab.network.founding import checks
    from pot_lab.network.founding.meeting import meet
    from pot_lab.network.keys import CurveKeyPair

    if meet_s is not None and folder is None:
        raise click.UsageError("--meet needs --keys")
    config = NetworkConfig.load(find_network(network)[0])
    found, own = checks.check_file(config), None
    if folder is not None:
        own, about_keys = checks.check_keys(config, folder)
        found += [*about_keys, *checks.check_host()]
    if not no_chain:
        found += checks.check_chain(config, own)
    if folder is None or own is not None:
        listening = own if meet_s is not None else None
        curve = load_keys(folder)[0].curve if folder is not None and listening else CurveKeyPair.generate()
        mets = meet(config, curve, listening, _ASK_ONLY_S if meet_s is None else meet_s)
        mets = [met for met in mets if own is None or met.entry.index != own.index]
        found += checks.check_hosts(config, mets, is_own_running=listening is None)
    context.exit(0 if print_results(found, as_json, "ready") else 1)


@network.command
@click.argument("source")
@click.option("--digest", default="", metavar="HEX", help="The digest that the file must have.")
@click.option("--unsigned", is_flag=True, help="Also take a file that not all its aggregators signed.")
@json_option
def join(source: str, digest: str, unsigned: bool, as_json: bool) -> None:
    """Keep a network's file on this host, under the network's name.

    SOURCE is a path, or a link whose # part may be the digest. From then on `--network NAME` means this network. For
    clients and miners; an aggregator asks for a seat with `pot-lab seat join`.
    """
    from pot_lab.network.founding.join import join as join_network

    _print_terms(join_network(source, digest=digest, unsigned=unsigned), as_json)


def terms_of(
    *,
    name: str,
    rpc_url: str,
    store: str,
    private_links: bool | None,
    confirmations: int,
    settings: tuple[str, ...],
    grants: tuple[str, ...],
    treasury: str | None,
) -> NetworkTerms:
    """The founder's decisions, from options.

    Raises:
        BadQuantity, BadKey, UsageError: one cannot be read.
    """
    from pot_lab.crypto.identity import parse_address
    from pot_lab.network.founding.found import NetworkTerms
    from pot_lab.notebook.quantities import grains

    return NetworkTerms(
        name=name,
        rpc_url=rpc_url,
        store_url=store,
        private_links=private_links,
        confirmations=confirmations,
        parameters={key: _value(value) for key, value in map(_pair, settings)},
        grants={parse_address(key): grains(value) for key, value in map(_pair, grants)},
        treasury=None if treasury is None else parse_address(treasury),
    )


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.UsageError(f"{text!r} is no NAME=VALUE")
    return name, value


def _value(text: str) -> Any:
    """A whole number, several with commas between them, or text."""
    parts = text.split(",")
    if all(part.strip().isdecimal() for part in parts):
        numbers = [int(part) for part in parts]
        return numbers if len(numbers) > 1 else numbers[0]
    return text


def placed_contracts(path: Path) -> Contracts:
    """Where contracts are, from the file that `pot-lab chain deploy` wrote; raises PotLabError."""
    import tomllib

    from pot_lab.chain.contract import Contracts

    try:
        return Contracts.from_table(tomllib.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise PotLabError("cannot read the contracts' addresses", seen=f"{path}: {error}") from error


def ask_first(question: str, yes: bool) -> None:
    """Ask on the terminal, unless `yes`; raises NotConfirmed."""
    import sys

    from pot_lab.chain.errors import NotConfirmed

    if yes:
        return
    if not sys.stdin.isatty():
        raise NotConfirmed("no terminal can ask", seen=question, wanted="--yes")
    if not click.confirm(question, default=False, err=True):
        raise NotConfirmed("the answer was no; nothing was done", seen=question)


def _print_terms(path: Path, as_json: bool) -> None:
    from pot_lab.network.config import NetworkConfig
    from pot_lab.network.founding.terms import approved_by, terms_digest, terms_words

    config = NetworkConfig.load(path)
    signed = approved_by(config)
    if as_json:
        facts = {
            "network": str(path),
            "name": config.name,
            "network_id": config.network_id.hex(),
            "digest": terms_digest(config).hex(),
            "signed": signed,
            "aggregators": config.n,
        }
        click.echo(json.dumps(facts))
        return
    for line in terms_words(config):
        click.echo(line)
    click.echo(f"signed      {len(signed)} of {config.n} aggregators")
    click.echo(f"file        {path}")
