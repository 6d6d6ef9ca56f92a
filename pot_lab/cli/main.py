"""`pot-lab`: everything from a terminal. Each command loads only what it needs, and each that reports has `--json`.

A refusal is one line on stderr, with the rule's name, and exit code 1; wrong usage is 2; Ctrl-C is 130.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pot_lab.errors import PotLabError

if TYPE_CHECKING:
    from pot_lab.crypto.identity import Identity
    from pot_lab.network.config import NetworkConfig
    from pot_lab.notebook.lab import Lab
    from pot_lab.testnet.testnet import Testnet

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


# --- commands ----------------------------------------------------------------------------------------------------
def _demo(chosen: argparse.Namespace) -> None:
    from pot_lab.demo import run_demo

    _interrupt_on_sigterm()
    stamp = time.strftime("%Y%m%d-%H%M%S")
    folder = chosen.run_dir or Path("runs") / f"demo-{stamp}-{os.getpid()}"

    def say(text: str) -> None:
        print(text, flush=True)

    summary = run_demo(folder, train_for=chosen.train_for, kill_backup=chosen.kill_backup, say=say)
    if chosen.json:
        print(json.dumps(summary), flush=True)


def _testnet(chosen: argparse.Namespace) -> None:
    from pot_lab.testnet.testnet import Testnet

    def say(text: str) -> None:
        if not chosen.json:
            print(text, flush=True)

    if chosen.action == "up":
        _interrupt_on_sigterm()
        net = Testnet.up(
            chosen.name or "local",
            aggregators=chosen.aggregators,
            durability=chosen.durability,
            fresh=chosen.fresh,
            say=say,
        )
        _print_testnet(net, chosen.json)
    elif chosen.action == "down":
        found = [net for net in Testnet.all() if net.is_up() and chosen.name in (None, net.name)]
        if not found:
            raise Testnet.none_running(chosen.name)
        for net in found:
            net.down(say)
        if chosen.json:
            print(json.dumps({"down": [net.name for net in found]}))
    else:
        running = Testnet.running(chosen.name)
        if running is None:
            raise Testnet.none_running(chosen.name)
        _print_testnet(running, chosen.json)


def _print_testnet(net: Testnet, as_json: bool) -> None:
    from pot_lab.network.client.ledger import LedgerClient

    with LedgerClient.open(net.network_file) as client:
        statuses = client.status()
    facts = {
        "name": net.name,
        "network": str(net.network_file),
        "processes": net.processes(),
        "accounts": net.accounts(),
        "aggregators": [
            {
                "index": s.index,
                "reachable": s.reachable,
                "view": s.view,
                "primary": s.primary,
                "height": s.height,
                "lag": s.lag,
            }
            for s in statuses
        ],
    }
    if as_json:
        print(json.dumps(facts))
        return
    print(f"testnet {net.name}: {net.network_file}")
    for status in statuses:
        role = "primary" if status.primary == status.index else "backup"
        text = (
            f"{role}, view {status.view}, height {status.height}, lag {status.lag}"
            if status.reachable
            else "not reachable"
        )
        print(f"  aggregator {status.index}: {text}")
    for name, alive in net.processes().items():
        if not name.startswith("aggregator"):
            print(f"  {name}: {'running' if alive else 'stopped'}")
    print(f"  accounts: {', '.join(name for name in net.accounts() if name not in ('deployer', 'treasury'))}")


def _order(chosen: argparse.Namespace) -> None:
    from pot_lab.scoring import ModelArtifact

    with _lab(chosen) as lab:
        artifact = ModelArtifact(graph=_read(chosen.graph), weights=_read(chosen.weights))
        order = lab.order(
            artifact,
            chosen.train,
            chosen.test,
            reward=chosen.reward,
            train_for=chosen.train_for,
            score=chosen.score,
            title=chosen.title,
        )
        if chosen.wait:
            order.wait(settled=True)
        print(json.dumps(_order_facts(order.view())) if chosen.json else repr(order))


def _orders(chosen: argparse.Namespace) -> None:
    from pot_lab.crypto.identity import format_address
    from pot_lab.notebook.quantities import pot, seconds_text

    with _lab(chosen) as lab:
        if chosen.order:
            order = lab.get(_order_id(lab, chosen.order))
            print(json.dumps(_order_facts(order.view())) if chosen.json else repr(order))
            return
        found = lab.client.orders(client=lab.identity.address if chosen.mine else b"")
        if chosen.json:
            facts = [{"order": s.id.hex(), "title": s.title, "window": s.window, "claims": s.claims} for s in found]
            print(json.dumps(facts))
            return
        for s in found:
            left = seconds_text(s.closes_ms - time.time_ns() // 1_000_000) if s.closes_ms else ""
            leader = f"winner {format_address(s.leader)[:10]}" if s.leader else s.void_reason
            facts_text = f"{pot(s.reward_grains):>8} POT  {s.claims} claims  {leader}"
            print(f"{s.id.hex()[:12]}  {s.window:<14} {left:>10}  {facts_text}  {s.title}")
        if not found:
            print("no orders")


def _mine(chosen: argparse.Namespace) -> None:
    from pot_lab import home
    from pot_lab.jobs.provider import ProviderLoop
    from pot_lab.jobs.recipes import recipe
    from pot_lab.jobs.runner import JobRunner
    from pot_lab.jobs.validator import ValidatorLoop
    from pot_lab.jobs.verifier import VerifierLoop
    from pot_lab.network.chain_access import wallet_of
    from pot_lab.network.client.ledger import LedgerClient
    from pot_lab.network.logs import log_to_stderr
    from pot_lab.store import Store

    loops = {"provider": ProviderLoop, "validator": ValidatorLoop, "verifier": VerifierLoop}
    settings = _settings(chosen.set)
    log_to_stderr("info")
    logging.getLogger("pot_lab").setLevel(logging.INFO)
    config, identity = _network_and_account(chosen, f"{chosen.role}-0")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with LedgerClient(config, identity) as client:
        loop = loops[chosen.role](
            client,
            Store(config.store_url),
            JobRunner(home.home()),
            chosen.notebook or recipe(chosen.role),
            home.home(),
            settings=settings,
            limit=chosen.orders,
            make_claimer=lambda: wallet_of(config, identity),
        )
        loop.run(stop)
        if chosen.json:
            print(json.dumps({"role": chosen.role, "orders": loop.finished}))


def _wallet(chosen: argparse.Namespace) -> None:
    from pot_lab.crypto.identity import Identity, format_address
    from pot_lab.notebook.quantities import grains, pot
    from pot_lab.protocol.parameters import Role

    if chosen.action == "new":
        from pot_lab.crypto.keystore import save_keystore

        if len(chosen.values) != 1:
            raise PotLabError("a new wallet needs the path of its keystore", wanted="pot-lab wallet new PATH")
        password = os.environ.get("POT_LAB_PASSWORD") or _ask_password()
        made = Identity.generate()
        try:
            save_keystore(Path(chosen.values[0]), made, password)
        except FileExistsError:
            raise PotLabError(
                "a keystore is never overwritten", seen=chosen.values[0], wanted="a path where nothing is"
            ) from None
        print(json.dumps({"address": format_address(made.address)}) if chosen.json else format_address(made.address))
        return
    with _lab(chosen) as lab:
        if chosen.action == "stake":
            names = [role.name.lower() for role in Role]
            if not chosen.values or chosen.values[0] not in names:
                raise PotLabError(
                    "there is no such role to stake for", seen=" ".join(chosen.values), wanted=", ".join(names)
                )
            role = Role[chosen.values[0].upper()]
            minimum = lab.client.network().parameters.min_stake_grains[role]
            lab.wallet.stake(role, grains(chosen.values[1]) if len(chosen.values) > 1 else minimum)
        view = lab.client.account(lab.identity.address)
        if chosen.action == "claim" and view.claimable_cumulative_grains:
            lab.wallet.claim(lab.identity.address, view.claimable_cumulative_grains, list(view.claim_proof))
        stakes = {Role(s.role).name.lower(): s.bonded_grains for s in view.stakes if s.bonded_grains}
        balance, claimed = lab.wallet.balance_grains(), lab.wallet.claimed_grains(lab.identity.address)
        facts = {
            "address": lab.address,
            "balance_grains": balance,
            "stakes_grains": stakes,
            "earned_grains": view.earned_grains,
            "claimed_grains": claimed,
        }
        if chosen.json:
            print(json.dumps(facts))
            return
        print(f"account  {lab.address}")
        print(f"balance  {pot(balance)} POT")
        for name, amount in stakes.items():
            print(f"stake    {pot(amount)} POT as {name}")
        print(f"earned   {pot(view.earned_grains)} POT, of which {pot(claimed)} POT claimed")


def _seat(chosen: argparse.Namespace) -> None:
    from pot_lab.crypto.identity import parse_address
    from pot_lab.network import seat_changes
    from pot_lab.network.config import NetworkConfig, parse_listening
    from pot_lab.notebook.lab import find_network

    config = NetworkConfig.load(find_network(chosen.network)[0])
    if chosen.action == "show":
        _show_seats(config, chosen.json)
        return
    if chosen.keys is None:
        raise PotLabError("it is not said whose seat this is about", wanted="--keys FOLDER")
    listening = None if chosen.listen is None else parse_listening(chosen.listen)
    if chosen.action == "join":
        if listening is None:
            raise PotLabError("a newcomer says where it is reached", wanted="--listen HOST PEER_PORT CLIENT_PORT")
        seat_changes.join(config, chosen.keys, listening)
    elif chosen.action == "rotate":
        seat_changes.rotate(config, chosen.keys, listening)
    elif chosen.action == "leave":
        seat_changes.leave(config, chosen.keys)
    else:
        if chosen.member is None:
            raise PotLabError("it is not said whose seat the vote is about", wanted=f"seat {chosen.action} ACCOUNT")
        seat_changes.vote(config, chosen.keys, parse_address(chosen.member), seated=chosen.action == "vote")
    _show_seats(config, chosen.json)


def _show_seats(config: NetworkConfig, as_json: bool) -> None:
    from pot_lab.crypto.identity import format_address
    from pot_lab.network.client.ledger import LedgerClient

    with LedgerClient(config) as client:
        view = client.seats()
    if as_json:
        seats = [
            {
                "account": format_address(seat.account),
                "voting_key": format_address(seat.key),
                "convicted": seat.convicted,
                "against": [format_address(voter) for voter in seat.against],
            }
            for seat in view.seats
        ]
        candidates = [
            {
                "account": format_address(each.account),
                "host": each.contact.host,
                "votes": [format_address(voter) for voter in each.votes],
            }
            for each in view.candidates
        ]
        facts = {
            "quorum": view.quorum,
            "change_pending": view.change_pending,
            "seats": seats,
            "candidates": candidates,
            "signer_set_id": view.signer_set_id,
            "signers": [format_address(key) for key in view.signers],
            "next_signers": [format_address(account) for account in view.next_signers],
        }
        print(json.dumps(facts))
        return
    print(f"{len(view.seats)} seats; {view.quorum} votes give or take one")
    for index, seat in enumerate(view.seats):
        key = "" if seat.key == seat.account else f", votes with {format_address(seat.key)}"
        lied = ", convicted" if seat.convicted else ""
        against = f", {len(seat.against)} of {view.quorum} votes to remove it" if seat.against else ""
        print(f"  {index:3}  {format_address(seat.account)}{key}{lied}{against}")
    for each in view.candidates:
        print(f"  asks {format_address(each.account)} at {each.contact.host}, {len(each.votes)} of {view.quorum} votes")
    follows = f"; {len(view.next_signers)} accounts are to follow" if view.next_signers else ""
    print(f"on the chain {len(view.signers)} keys sign, set {view.signer_set_id}{follows}")
    if view.change_pending:
        print("a change is on its way into force; no other can be made before")


def _simulate_parser(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = """\
Run the real replicas and ledgers in virtual time, one run a seed, under faults that the seed draws, and check every
promise at every step. Returns 1 if a seed breaks one (a violation) or does not recover (stuck), and prints for it the
command that runs it again, the faults that it needs, and its last moments. See docs/simulator.md."""
    parser.epilog = """\
profiles:
  everything   any of the faults below, 1 to 8 kinds a run
  network      loss, duplication, reordering, jitter, partitions of both kinds
  partitions   partitions in two groups, and in one direction only
  crashes      kills, power cuts with torn writes, blackouts, slow and full disks, slow and frozen processes
  disks        disks lost, bits turned in logs and snapshots, full and slow disks, power cuts
  amnesia      a disk lost, with kills and loss
  clocks       skew, drift, clocks set wrong by seconds and minutes
  wan          hosts in five regions, narrow links and uplinks, jitter, loss
  byzantine    up to f lying aggregators (14 ways), a lying client
  members      aggregators join, leave and rotate their keys, amid partitions, loss, crashes and lost disks
  calm         no faults

examples:
  pot-lab simulate --seeds 1..2000 --json
  pot-lab simulate --seeds 1..300 --nodes 10 --profile byzantine
  pot-lab simulate --seeds 42..42 --nodes 4 --profile everything --without loss --without crash#1"""
    parser.add_argument("--seeds", default="1..100", metavar="A..B", help="which runs, both included (default: 1..100)")
    parser.add_argument("--nodes", type=int, metavar="N", help="how many aggregators (default: 4..7, by seed)")
    parser.add_argument("--profile", default="everything", metavar="NAME", help="which faults may come (see below)")
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="FAULT",
        help="leave a fault out: a kind, or one episode as kind#number",
    )
    parser.add_argument("--processes", type=int, metavar="P", help="how many runs at once (default: one a core)")


def _simulate(chosen: argparse.Namespace) -> int:
    from pot_lab.cli.simulate import run_simulate

    return run_simulate(chosen)


def _bench_parsers(figures: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    def figure(name: str, run: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        made = figures.add_parser(name, help=text, description=text)
        made.set_defaults(run=run)
        made.add_argument("--json", action="store_true", help="one JSON object on the last line")
        return made

    consensus = figure("consensus", _bench_consensus, "Table 4: real aggregators agree on a bundle of records")
    consensus.add_argument("--nodes", type=int, default=4, help="aggregators (default: 4)")
    consensus.add_argument("--orders", type=int, default=1, help="orders in the bundle (default: 1)")
    consensus.add_argument("--validations", type=int, default=10, help="validations in the bundle (default: 10)")
    consensus.add_argument("--runs", type=int, default=20, help="how often (default: 20)")
    consensus.add_argument(
        "--admitted", action="store_true", help="from the pre-prepare, the accounts' signatures checked before"
    )
    consensus.add_argument("--durability", choices=["fsync", "flush"], default="fsync")

    throughput = figure("throughput", _bench_throughput, "transactions a second, and latency under load and alone")
    throughput.add_argument("--nodes", type=int, default=4, help="aggregators (default: 4)")
    throughput.add_argument("--seconds", type=int, default=10, help="how long each load is measured (default: 10)")
    throughput.add_argument("--durability", choices=["fsync", "flush"], default="fsync")

    wan = figure("wan", _bench_wan, "Table 5: narrow and far links, by the simulator")
    wan.add_argument("--row", action="append", metavar="TRANSACTIONSxNODES", help="e.g. 1000x30 (default: all rows)")


def _bench_consensus(chosen: argparse.Namespace) -> None:
    from pot_lab.bench.consensus import measure_consensus

    _interrupt_on_sigterm()
    found = measure_consensus(
        chosen.nodes,
        chosen.orders,
        chosen.validations,
        chosen.runs,
        admitted=chosen.admitted,
        durability=chosen.durability,
        say=_say_aside,
    )
    _print_figures(found, chosen.json)


def _bench_throughput(chosen: argparse.Namespace) -> None:
    from pot_lab.bench.throughput import measure_throughput

    _interrupt_on_sigterm()
    found = measure_throughput(chosen.nodes, chosen.seconds, durability=chosen.durability, say=_say_aside)
    _print_figures(found, chosen.json)


def _say_aside(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _print_figures(found: dict[str, Any], as_json: bool) -> None:
    print(
        json.dumps(found) if as_json else "\n".join(f"{name:22} {value}" for name, value in found.items()), flush=True
    )


def _bench_wan(chosen: argparse.Namespace) -> None:
    from pot_lab.cli.simulate import run_wan

    run_wan(chosen)


def _score(chosen: argparse.Namespace) -> None:
    from pot_lab.cli.score import score_files

    score_files(chosen)


# --- parts -------------------------------------------------------------------------------------------------------
def _lab(chosen: argparse.Namespace) -> Lab:
    from pot_lab.notebook.lab import connect

    return connect(chosen.network, chosen.account, start=False)


def _network_and_account(chosen: argparse.Namespace, usual: str) -> tuple[NetworkConfig, Identity]:
    from pot_lab.network.config import NetworkConfig
    from pot_lab.notebook.lab import find_network
    from pot_lab.testnet.testnet import open_account

    file, testnet = find_network(chosen.network)
    account = chosen.account or os.environ.get("POT_LAB_ACCOUNT") or usual
    return NetworkConfig.load(file), open_account(testnet, account)


def _order_id(lab: Lab, text: str) -> bytes:
    """An order's id from its beginning, as lists show it."""
    text = text.removeprefix("0x").lower()
    if len(text) == 64:
        return bytes.fromhex(text)
    found = [summary.id for summary in lab.client.orders(500) if summary.id.hex().startswith(text)]
    if len(found) != 1:
        raise PotLabError("no order, or more than one, begins so", seen=text, wanted="more digits of an order's id")
    return found[0]


def _order_facts(view: Any) -> dict[str, Any]:
    from pot_lab.crypto.identity import format_address

    return {
        "order": view.id.hex(),
        "title": view.order.title,
        "window": view.window,
        "closes_ms": view.closes_ms,
        "claims": [
            {
                "provider": format_address(c.provider),
                "model": c.mid.hex(),
                "total": c.agreed.total if c.agreed else None,
            }
            for c in view.claims
        ],
        "winner": format_address(view.winner) if view.winner else None,
        "void_reason": view.void_reason,
        "payouts": [
            {"account": format_address(p.account), "grains": p.grains, "reason": p.reason} for p in view.payouts
        ],
    }


def _settings(given: list[str]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for item in given:
        name, sign, value = item.partition("=")
        if not sign or not name.isidentifier():
            raise PotLabError("a notebook parameter cannot be read", seen=item, wanted="NAME=VALUE")
        try:
            settings[name] = json.loads(value)
        except ValueError:
            settings[name] = value
    return settings


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PotLabError("a file cannot be read", seen=f"{path}: {error.strerror}") from error


def _ask_password() -> str:
    import getpass

    first = getpass.getpass("password for the new keystore: ")
    if not first or first != getpass.getpass("once more: "):
        raise PotLabError("the two passwords differ, or are empty")
    return first


def _interrupt_on_sigterm() -> None:
    """End as at Ctrl-C when asked politely, so that everything started is stopped."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)

