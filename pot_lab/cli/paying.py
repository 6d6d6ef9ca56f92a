"""What commands share that send transactions: who pays, by which key, and how each transaction is confirmed."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from pot_lab.cli.common import (
    DryRunOver,
    account_option,
    confirm_options,
    confirm_with,
    connect_lab,
    json_option,
    network_and_account,
    network_option,
)

if TYPE_CHECKING:
    from pot_lab.chain.signer import AccountSigner
    from pot_lab.chain.wallet import ChainWallet
    from pot_lab.crypto.identity import Identity
    from pot_lab.network.config import NetworkConfig
    from pot_lab.notebook.lab import Lab

_DEFAULT_ACCOUNT = "client"
_signer_option = click.option(
    "--signer",
    metavar="URL",
    help="A program that keeps the key and signs: a hardware wallet's bridge, Web3Signer, a node. --account is then "
    "the account's address (default: the signer's only one).",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Paying:
    """Who pays for a command's transactions, and how each is confirmed; as the options say."""

    network: str | None
    account: str | None
    signer: str | None
    yes: bool
    dry_run: bool
    as_json: bool


def paying_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--network`, `--account`, `--signer`, `--yes`, `--dry-run` and `--json`, handed on together as `paying`."""

    @functools.wraps(command)
    def gathered(
        *arguments: Any,
        network: str | None,
        account: str | None,
        signer: str | None,
        yes: bool,
        dry_run: bool,
        as_json: bool,
        **others: Any,
    ) -> Any:
        paying = Paying(network=network, account=account, signer=signer, yes=yes, dry_run=dry_run, as_json=as_json)
        return command(*arguments, paying=paying, **others)

    return network_option(account_option(_signer_option(confirm_options(json_option(gathered)))))


def loaded(network: str | None) -> NetworkConfig:
    """The network's configuration."""
    from pot_lab.discovery import find_network
    from pot_lab.network.config import NetworkConfig

    return NetworkConfig.load(find_network(network)[0])


def remote_signer(url: str, account: str | None) -> AccountSigner:
    """A signer that keeps its keys elsewhere.

    Args:
        account: the account's address; None for the only one that it has.
    Raises:
        Malformed: the account is no address.
        ChainRefused: it names no accounts, or several.
    """
    from pot_lab.chain.signer import RemoteSigner, only_account
    from pot_lab.crypto.identity import parse_address

    return RemoteSigner(url, only_account(url) if account is None else parse_address(account))


@contextlib.contextmanager
def chain_wallet(config: NetworkConfig, account: Identity | AccountSigner | None) -> Iterator[ChainWallet]:
    """The network's contracts for an account, or for a reader."""
    from pot_lab.network.chain_access import wallet_of

    chain = wallet_of(config, account)
    try:
        yield chain
    finally:
        chain.close()


@contextlib.contextmanager
def quiet_dry_run(as_json: bool) -> Iterator[None]:
    """Ends quietly after a dry run."""
    try:
        yield
    except DryRunOver as over:
        if as_json:
            click.echo(json.dumps({"dry_run": over.proposed.as_table()}))


@contextlib.contextmanager
def paying_wallet(paying: Paying) -> Iterator[tuple[ChainWallet, bytes]]:
    """An account on the chain alone, whose transactions are shown and confirmed; and its address."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(quiet_dry_run(paying.as_json))
        if paying.signer is None:
            config, identity = network_and_account(paying.network, paying.account, _DEFAULT_ACCOUNT)
            who: Identity | AccountSigner = identity
        else:
            config, who = loaded(paying.network), remote_signer(paying.signer, paying.account)
        chain = stack.enter_context(chain_wallet(config, who))
        chain.confirm_by(confirm_with(paying.yes, paying.dry_run))
        yield chain, who.address


@contextlib.contextmanager
def paying_lab(paying: Paying) -> Iterator[tuple[Lab, bytes]]:
    """An account in the network, whose transactions are shown and confirmed; and its address.

    Where a signer keeps the key, the lab only reads the ledger: with a key of its own, made for this.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(quiet_dry_run(paying.as_json))
        if paying.signer is None:
            lab = stack.enter_context(connect_lab(paying.network, paying.account))
            who: bytes = lab.identity.address
        else:
            from pot_lab.crypto.identity import Identity
            from pot_lab.notebook.lab import Lab

            config, signer = loaded(paying.network), remote_signer(paying.signer, paying.account)
            chain = stack.enter_context(chain_wallet(config, signer))
            lab = stack.enter_context(Lab(config, Identity.generate(), wallet=chain))
            who = signer.address
        lab.chain_wallet.confirm_by(confirm_with(paying.yes, paying.dry_run))
        yield lab, who
