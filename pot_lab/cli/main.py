"""`pot-lab`: everything from a terminal. Each command loads only what it needs, and each that reports has `--json`.

Exit codes: 0 done; 1 refused, with one line on stderr that begins with the rule's name; 2 wrong usage; 130 Ctrl-C.
"""

from __future__ import annotations

import io
import os
import re
import signal
import sys
import threading
from collections.abc import Sequence

import click
from click.shell_completion import shell_complete

from pot_lab import __version__
from pot_lab.cli.aggregator import aggregator
from pot_lab.cli.bench import bench
from pot_lab.cli.chain import chain
from pot_lab.cli.check import check
from pot_lab.cli.completion import COMPLETION_VARIABLE, PROGRAM, completion
from pot_lab.cli.demo import demo
from pot_lab.cli.earnings import earnings
from pot_lab.cli.jobs import jobs
from pot_lab.cli.metrics import metrics
from pot_lab.cli.mine import mine
from pot_lab.cli.network import network
from pot_lab.cli.order import order
from pot_lab.cli.orders import orders
from pot_lab.cli.params import params
from pot_lab.cli.propose import propose
from pot_lab.cli.score import score
from pot_lab.cli.seat import seat
from pot_lab.cli.simulate import simulate
from pot_lab.cli.status import status
from pot_lab.cli.store import store
from pot_lab.cli.testnet import testnet
from pot_lab.cli.vote import vote
from pot_lab.cli.wallet import wallet
from pot_lab.cli.why import why
from pot_lab.errors import PotLabError, near_names
from pot_lab.files import cannot_write

REFUSED, INTERRUPTED = 1, 130


@click.group(
    commands=[
        demo,
        testnet,
        check,
        order,
        orders,
        why,
        mine,
        earnings,
        jobs,
        store,
        score,
        wallet,
        network,
        status,
        metrics,
        chain,
        seat,
        params,
        propose,
        vote,
        simulate,
        bench,
        aggregator,
        completion,
    ],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog="Exit codes: 0 done, 1 refused, 2 wrong usage, 130 interrupted. "
    "Completion of commands and options in a shell: see `pot-lab completion --help`.",
)
@click.version_option(__version__, prog_name=PROGRAM)
def cli() -> None:
    """Order a training, mine it, run the network that decides."""


_RESENT: list[threading.Timer] = []
"""Interrupts that are sent again because an object that was being deleted swallowed them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: as in `sys.argv[1:]`, which is the default.
    Returns: the process's exit code: 0 done, 1 refused (one line on stderr), 2 wrong usage, 130 interrupted.
    """
    if arguments is None:
        sys.unraisablehook = keep_interrupts
        _print_every_character()
    try:
        if instruction := os.environ.get(COMPLETION_VARIABLE):
            return shell_complete(cli, {}, PROGRAM, COMPLETION_VARIABLE, instruction)
        with cli.make_context(PROGRAM, list(sys.argv[1:] if arguments is None else arguments)) as context:
            cli.invoke(context)
        return 0
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.ClickException as wrong:
        if isinstance(wrong, click.UsageError) and (meant := _meant(wrong)):
            wrong = click.UsageError(wrong.message + meant, wrong.ctx)
        wrong.show()
        return wrong.exit_code
    except PotLabError as error:
        _print_refusal(f"{error.code}: {error}")
        return REFUSED
    except TimeoutError as error:
        _print_refusal(str(error))
        return REFUSED
    except (KeyboardInterrupt, click.Abort):
        for again in _RESENT:  # a second one would end the interpreter while it shuts down
            again.cancel()
        # CPython notes an interrupt that leaves code compiled from a string (a dataclass being made, while modules
        # load) as unhandled, and at its end dies by the signal, unless other such code ran since.
        exec("")
        _print_refusal("stopped")
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return REFUSED
    except OSError as error:
        if error.filename is None:
            raise  # of no file that a user could name: a mistake of ours, which its traceback tells
        if (refusal := cannot_write("a file", error)) is not None:
            _print_refusal(f"{refusal.code}: {refusal}")
            return REFUSED
        _print_refusal(f"the system refused a file: {error.strerror} (seen: {os.fsdecode(error.filename)!r})")
        return REFUSED


def _print_every_character() -> None:
    """Print what the terminal's encoding lacks as an escape: strangers choose titles, and none may end a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _meant(wrong: click.UsageError) -> str:
    """The command that a mistyped one may have meant, as " Did you mean 'testnet'?"."""
    found = re.search(r"^No such command '([^']+)'", wrong.message)
    if found is None or wrong.ctx is None or not isinstance(wrong.ctx.command, click.Group):
        return ""
    near = near_names(found[1], wrong.ctx.command.list_commands(wrong.ctx))
    return f" Did you mean {near[0]!r}?" if near and "Did you mean" not in wrong.message else ""


def _print_refusal(text: str) -> None:
    click.echo(f"{PROGRAM}: {' '.join(text.split())}", err=True)


def keep_interrupts(unraisable: sys.UnraisableHookArgs) -> None:
    """Send a Ctrl-C again that came while an object was being deleted, where Python drops it.

    Installed as `sys.unraisablehook`.
    """
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        again = threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT))
        _RESENT.append(again)
        again.start()
    else:
        sys.__unraisablehook__(unraisable)
