"""What several commands share: options, the chosen network and account, messages, interrupts, confirmation."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from pot_lab.chain.proposal import Confirm, ProposedTransaction
    from pot_lab.crypto.identity import Identity
    from pot_lab.network.config import Listening, NetworkConfig
    from pot_lab.notebook.lab import Lab

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

FILE = click.Path(path_type=Path)
"""A path that may not exist yet; what reads it refuses it by name."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on the last line.")
network_option = click.option(
    "--network",
    metavar="FILE|NAME",
    help="A network.toml, or the name of a testnet of this host or of a network that it joined (default: "
    "$POT_LAB_NETWORK, else the running testnet, else the only network joined).",
)
account_option = click.option(
    "--account",
    metavar="NAME|PATH",
    help="An account's name in the testnet, or the path of a keystore whose password is $POT_LAB_PASSWORD "
    "(default: $POT_LAB_ACCOUNT).",
)
log_format_option = click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Whether a line of the log is key=value for people, or a JSON object.",
)
durability_option = click.option(
    "--durability",
    type=click.Choice(["fsync", "flush"]),
    default="fsync",
    show_default=True,
    help="Whether an aggregator's log reaches the disk (fsync) or the operating system (flush) before it answers.",
)


LISTEN_WORDS = "HOST PEER_PORT CLIENT_PORT CUSTODY_PORT"


def listening_option(text: str) -> Callable[[Decorated], Decorated]:
    """`--listen HOST PEER_PORT CLIENT_PORT CUSTODY_PORT`, checked and handed on as a `Listening` or None.

    Args:
        text: the option's help.
    """

    def parsed(
        context: click.Context, parameter: click.Parameter, value: tuple[str, str, str, str] | None
    ) -> Listening | None:
        if value is None:
            return None
        from pot_lab.network.config import parse_listening
        from pot_lab.network.errors import BadConfig

        try:
            return parse_listening(list(value))
        except BadConfig as error:
            raise click.BadParameter(str(error), context, parameter) from error

    return click.option("--listen", nargs=4, metavar=LISTEN_WORDS, callback=parsed, help=text)


class GroupWithDefault(click.Group):
    """A group of which one command runs when none is named: `pot-lab wallet --json` is `pot-lab wallet show --json`.

    Args:
        default: name of that command.
    """

    def __init__(self, *args: Any, default: str, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "no_args_is_help": False})
        self.default = default

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default command in front of options that follow no command."""
        # While a shell completes a line, an empty one still has every command before it.
        if not ctx.resilient_parsing and (
            not args or (args[0].startswith("-") and args[0] not in self.get_help_option_names(ctx))
        ):
            args = [self.default, *args]
        return super().parse_args(ctx, args)


def print_aside(text: str) -> None:
    """A line on stderr, beside what a program reads from stdout."""
    click.echo(text, err=True)


def connect_lab(network: str | None, account: str | None) -> Lab:
    """Connect to the network as the account, as a notebook would, but start no testnet.

    Raises:
        NoTestnet, BadConfig, UnknownAccount: the network or the account cannot be used.
    """
    from pot_lab.notebook.lab import connect

    return connect(network, account, start=False)


def network_and_account(network: str | None, account: str | None, default: str) -> tuple[NetworkConfig, Identity]:
    """The network's configuration and the account's keys.

    Args:
        default: name of the account if neither the option nor `$POT_LAB_ACCOUNT` names one.
    Raises:
        NoTestnet, BadConfig, UnknownAccount: the network or the account cannot be used.
    """
    from pot_lab.discovery import find_network, open_account
    from pot_lab.network.config import NetworkConfig

    file, testnet = find_network(network)
    return NetworkConfig.load(file), open_account(testnet, account or os.environ.get("POT_LAB_ACCOUNT") or default)


def interrupt_on_sigterm() -> None:
    """End on SIGTERM as on Ctrl-C, so that everything that was started is stopped."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


_yes = click.option("--yes", "-y", is_flag=True, help="Send without asking; needed where no terminal can ask.")
_dry_run = click.option("--dry-run", is_flag=True, help="Show what would be sent, and what it may cost; send nothing.")


def confirm_options(command: Decorated) -> Decorated:
    """`--yes` and `--dry-run`, handed on as `yes` and `dry_run`."""
    return _yes(_dry_run(command))


class DryRunOver(Exception):
    """A transaction was shown and shall not be sent.

    Args:
        proposed: what was shown.
    """

    def __init__(self, proposed: ProposedTransaction) -> None:
        super().__init__(proposed.action.words)
        self.proposed = proposed


def confirm_with(yes: bool, dry_run: bool) -> Confirm:
    """Shows each transaction, and asks on the terminal unless it need not.

    The function raises `DryRunOver` for a dry run, and NotConfirmed where nobody can be asked.
    """

    def confirm(proposed: ProposedTransaction) -> bool:
        from pot_lab.chain.errors import NotConfirmed

        print_aside(proposed.words)
        if dry_run:
            raise DryRunOver(proposed)
        if yes:
            return True
        if not sys.stdin.isatty():
            raise NotConfirmed("no terminal can ask whether to send this", wanted="--yes, or --dry-run to send nothing")
        return click.confirm("Send it?", default=False, err=True)

    return confirm


class HostAndPort(click.ParamType[tuple[str, int]]):
    """`PORT`, or `HOST:PORT`."""

    name = "[HOST:]PORT"

    def convert(
        self, value: str | tuple[str, int], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        """Host and port of the text."""
        if isinstance(value, tuple):
            return value
        host, _, port = value.rpartition(":")
        if not port.isdecimal() or not 1 <= int(port) <= 65_535:
            self.fail(f"{value!r} names no TCP port; wanted: a number from 1 to 65535, or HOST: and one", param, ctx)
        return host.strip("[]") or "127.0.0.1", int(port)
