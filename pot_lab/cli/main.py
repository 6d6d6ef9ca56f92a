"""`pot-lab`: everything from a terminal. Each command loads only what it needs, and each that reports has `--json`.

A refusal is one line on stderr, with the rule's name, and exit code 1; wrong usage is 2; Ctrl-C is 130.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pot_lab.cli.bench import _bench_parsers
from pot_lab.cli.demo import _demo
from pot_lab.cli.mine import _mine
from pot_lab.cli.orders import _order, _orders
from pot_lab.cli.score import _score
from pot_lab.cli.seat import _seat
from pot_lab.cli.simulate import _simulate, _simulate_parser
from pot_lab.cli.testnet import _testnet
from pot_lab.cli.wallet import _wallet
from pot_lab.errors import PotLabError

if TYPE_CHECKING:
    pass

ROLES = ("provider", "validator", "verifier")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the process's exit code."""
    if arguments is None:
        sys.unraisablehook = keep_interrupts
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["aggregator"]:
        from pot_lab.network.aggregator.main import main as aggregator

        return aggregator(given[1:])
    chosen = _parser().parse_args(given)
    try:
        code: int | None = chosen.run(chosen)
        return code or 0
    except PotLabError as error:
        print(f"pot-lab: {error.code}: {error}", file=sys.stderr)
        return 1
    except TimeoutError as error:
        print(f"pot-lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("pot-lab: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def keep_interrupts(unraisable: sys.UnraisableHookArgs) -> None:
    """A Ctrl-C that comes while an object is being deleted is dropped by Python; it comes again a moment later."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(unraisable)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pot-lab", description="Order a training, mine it, run the network that decides."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(
        name: str, run: Callable[[argparse.Namespace], int | None], text: str, *, network: bool = False
    ) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(run=run)
        made.add_argument("--json", action="store_true", help="one JSON object on the last line")
        if network:
            made.add_argument("--network", help="a network.toml, or the name of a testnet of this host")
            made.add_argument("--account", help="an account's name in the testnet, or the path of a keystore")
        return made

    demo = command("demo", _demo, "one whole order on a local testnet, from a notebook to a payout")
    demo.add_argument("--run-dir", type=Path, help="where to leave everything (default: runs/demo-<time>)")
    demo.add_argument("--train-for", help="how long providers train (default: 20s, longer on a slow machine)")
    demo.add_argument(
        "--kill-backup", action="store_true", help="kill one aggregator with -9 on the way and start it again"
    )

    testnet = command("testnet", _testnet, "start, find and stop a local network")
    testnet.add_argument("action", choices=["up", "status", "down"])
    testnet.add_argument("--name", help="the testnet's name (default: local)")
    testnet.add_argument("--aggregators", type=int, default=4)
    testnet.add_argument("--durability", choices=["fsync", "flush"], default="fsync")
    testnet.add_argument("--fresh", action="store_true", help="throw away what a stopped testnet left")

    order = command("order", _order, "order a training from files", network=True)
    order.add_argument("--graph", type=Path, required=True, help="graph.json from pot_lab.export_model")
    order.add_argument("--weights", type=Path, required=True, help="weights.safetensors from pot_lab.export_model")
    order.add_argument("--train", type=Path, required=True, help="data set file from pot_lab.pack_dataset")
    order.add_argument(
        "--test", type=Path, required=True, help="the same, for the part that nobody sees before the deadline"
    )
    order.add_argument("--reward", required=True, help="POT")
    order.add_argument("--train-for", required=True, help="e.g. 10min")
    order.add_argument("--score", default="accuracy")
    order.add_argument("--title", default="")
    order.add_argument("--wait", action="store_true", help="return when the order is paid")

    orders = command("orders", _orders, "orders of the network, or one of them", network=True)
    orders.add_argument("order", nargs="?", help="an order's id: show it whole")
    orders.add_argument("--mine", action="store_true", help="only the account's own")

    mine = command("mine", _mine, "work for the network: train, score or verify", network=True)
    mine.add_argument("role", choices=ROLES)
    mine.add_argument("--orders", type=int, help="stop after so many (default: go on for ever)")
    mine.add_argument("--notebook", type=Path, help="your own recipe (default: the package's)")
    mine.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the notebook")

    score = command("score", _score, "score a model's files exactly, without a network")
    score.add_argument("--graph", type=Path, required=True, help="graph.json from pot_lab.export_model")
    score.add_argument("--weights", type=Path, required=True, help="weights.safetensors that fit the graph")
    score.add_argument("--data", type=Path, required=True, help="data set file from pot_lab.pack_dataset")
    score.add_argument("--function", default="accuracy", help="score function, e.g. accuracy/1 (default: accuracy)")
    score.add_argument("--slices", type=int, choices=[1, 2], default=1, help="2: close to float64, another score")
    score.add_argument("--batch-size", type=int, help="examples at once; no bit depends on it")
    score.add_argument("--device", default="cpu", help="cpu or cuda; no bit depends on it")
    score.add_argument("--workers", type=int, default=1, help="processes that share the work; no bit depends on them")
    score.add_argument("--transcript", type=Path, help="where to write the score's transcript")

    wallet = command("wallet", _wallet, "balances, stakes and payouts", network=True)
    wallet.add_argument("action", choices=["show", "stake", "claim", "new"], nargs="?", default="show")
    wallet.add_argument("values", nargs="*", help="stake ROLE [POT]; new PATH")

    seat = command("seat", _seat, "seats among the aggregators: ask for one, vote, change keys, leave")
    seat.add_argument(
        "action", choices=["show", "join", "vote", "remove", "rotate", "leave"], nargs="?", default="show"
    )
    seat.add_argument("member", nargs="?", help="vote, remove: the account that it is about")
    seat.add_argument("--network", help="a network.toml, or the name of a testnet of this host")
    seat.add_argument("--keys", type=Path, help="the aggregator's folder of keys (not for show)")
    seat.add_argument(
        "--listen", nargs=3, metavar=("HOST", "PEER_PORT", "CLIENT_PORT"), help="join, rotate: where it is reached"
    )

    _simulate_parser(command("simulate", _simulate, "real replicas and ledgers in virtual time, under every fault"))

    bench = commands.add_parser("bench", help="measure, beside the paper's tables").add_subparsers(
        metavar="FIGURE", required=True
    )
    _bench_parsers(bench)

    commands.add_parser("aggregator", help="run one aggregator of a network (see `pot-lab aggregator --help`)")
    return parser
