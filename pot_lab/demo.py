"""The demo: one whole order on a local testnet, from a notebook's call to payouts on the chain, with every part real.

Starts a testnet and eight miners as processes, orders a CNN on scikit-learn's digits, closes the researcher's
connection, watches from outside until the order is settled, fetches the model and scores it again to the same bits.
Everything it made stays in a run directory; everything it started is stopped, also on Ctrl-C.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pot_lab.crypto.identity import Address, format_address
from pot_lab.errors import PotLabError
from pot_lab.network.chain_access import contracts_of, wallet_of
from pot_lab.network.client.ledger import LedgerClient
from pot_lab.network.config import NetworkConfig
from pot_lab.notebook.quantities import pot, seconds_text
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.views import OrderView
from pot_lab.testnet.processes import uninterrupted
from pot_lab.testnet.testnet import Testnet

MINERS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("provider", "provider-0", {"learning_rate": 0.003, "batch_size": 64, "seed": 1, "threads": 1}),
    ("provider", "provider-1", {"learning_rate": 0.02, "optimizer": "sgd", "batch_size": 32, "seed": 2, "threads": 1}),
    (
        "provider",
        "provider-2",
        {"learning_rate": 0.0005, "batch_size": 128, "label_smoothing": 0.1, "seed": 3, "threads": 1},
    ),
    *(("validator", f"validator-{i}", {"threads": 1}) for i in range(4)),
    ("verifier", "verifier-0", {"threads": 1}),
)
CLAIM_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 60.0


class DemoFailed(PotLabError):
    """The demo's order did not end settled and paid, or the demo could not begin.

    What to do: read the logs in the run's folder; with a time-out, run it on a quieter machine or with a longer
    `--train-for`.
    """


@dataclass(kw_only=True)
class Run:
    """One demo: where it writes, and what it started.

    Attributes:
        folder: the run directory.
        train_for: how long providers train; None: by the speed of this machine.
        report: gets each line.
        kill_backup: whether an aggregator is killed and started again on the way.
        started_s: when the demo began, on the monotonic clock.
        miners: processes by account name.
    """

    folder: Path
    train_for: str | None
    report: Callable[[str], None]
    kill_backup: bool = False
    started_s: float = field(default_factory=time.monotonic)
    miners: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def log(self, text: str) -> None:
        """Report one line with the seconds since the start."""
        self.report(f"{time.monotonic() - self.started_s:6.1f} s  {text}")


def run_demo(
    folder: Path, *, train_for: str | None = None, kill_backup: bool = False, report: Callable[[str], None] = print
) -> dict[str, Any]:
    """Run one whole order and return its summary, which is also written to `folder/summary.json`.

    Args:
        folder: the run directory; must not exist or be empty.
        train_for: how long the providers train; None: by how long torch takes to start here, at least 20 s.
        kill_backup: kill one aggregator with -9 while the order runs, and start it again.
        report: gets a line for everything that happens.
    Raises:
        DemoFailed: the folder is not empty, a miner ended early, the order did not end settled, an account did not
            claim its pay, or the model's score has other bits. Everything was stopped.
    """
    folder = folder.resolve()
    if folder.exists() and any(folder.iterdir()):
        raise DemoFailed("the run directory is not empty", seen=str(folder), wanted="a new one")
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(folder=folder, train_for=train_for, report=report, kill_backup=kill_backup)
    before = os.environ.get("POT_LAB_HOME")
    os.environ["POT_LAB_HOME"] = str(folder / "home")
    try:
        with _stopping_everything(run):
            testnet = Testnet.up("demo", report=run.log)
            return _one_order(run, testnet)
    finally:
        if before is None:
            del os.environ["POT_LAB_HOME"]
        else:
            os.environ["POT_LAB_HOME"] = before


def _one_order(run: Run, testnet: Testnet) -> dict[str, Any]:
    for role, account, settings in MINERS:
        with uninterrupted():
            run.miners[account] = _start_miner(run, testnet, role, account, settings)
    run.log(f"started {len(run.miners)} miners: 3 providers, 4 validators, 1 verifier")
    order_id = _post(run, testnet)
    view = _watch(run, testnet, order_id)
    if view.window is not Window.SETTLED:
        raise DemoFailed("the order ended without a winner", seen=view.void_reason, wanted="settled")
    claimed = _await_claims(run, testnet, view)
    return _collect(run, testnet, order_id, claimed)


def digits() -> tuple[Any, tuple[Any, Any], tuple[Any, Any]]:
    """A small CNN and scikit-learn's handwritten digits.

    Returns: `(net, (x_train, y_train), (x_test, y_test))`; inputs float32 [n, 1, 8, 8] in 0 .. 1, targets int64 [n].
    """
    import torch
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from torch import nn

    data = load_digits()
    x = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16
    y = torch.tensor(data.target, dtype=torch.int64)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.3, random_state=0, stratify=y)
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(32 * 4 * 4, 10),
    )
    return net, (x_train, y_train), (x_test, y_test)


def _post(run: Run, testnet: Testnet) -> bytes:
    """The researcher's part: order and close the connection."""
    from pot_lab.notebook.lab import Lab

    begun = time.monotonic()
    net, train, test = digits()
    train_for = run.train_for or _enough_time(time.monotonic() - begun)
    run.log(
        f"the client orders a CNN on scikit-learn's digits (1257 training, 540 test examples), {train_for} to train"
    )
    with Lab(NetworkConfig.load(testnet.network_file), testnet.identity("client")) as lab:
        order = lab.order(model=net, train=train, test=test, reward=25, train_for=train_for, title="digits CNN")
    run.log(f"order {order.id.hex()[:12]} is posted, 25 POT in escrow; the client has disconnected")
    return order.id


def _enough_time(torch_start_s: float) -> str:
    """Time for three providers to start a kernel and torch each at the same time, and to train."""
    return f"{max(20, 5 * math.ceil(4 * torch_start_s / 5))}s"


def _watch(run: Run, testnet: Testnet, order_id: bytes) -> OrderView:
    """Follow the order from outside until it ends."""
    config = NetworkConfig.load(testnet.network_file)
    names = _names(testnet)
    last: OrderView | None = None
    counted = -1
    killed = False
    with LedgerClient(config) as client:
        while True:
            view = client.order(order_id)
            for line in _news(last, view, names):
                run.log(line)
            left = -(-(view.closes_ms - time.time_ns() // 1_000_000) // 1000)
            if view.window is Window.COMMIT and left != counted and left % 5 == 0 and left > 0:
                run.log(f"   training: {seconds_text(left * 1000)} left, {len(view.claims)} claims")
                counted = left
            if run.kill_backup and not killed and view.window is Window.COMMIT and len(view.claims) >= 1:
                killed = True
                _kill_a_backup(run, testnet, client)
            if view.ended:
                return view
            last = view
            _check_miners(run)
            time.sleep(0.2)


def _news(before: OrderView | None, now: OrderView, names: dict[bytes, str]) -> Iterator[str]:
    """What changed between two views of an order, in lines for a person."""
    if before is None or before.window is not now.window:
        opened_ms = now.timeline[-1].opened_ms
        closes = f", {seconds_text(now.closes_ms - opened_ms)} at the most" if now.closes_ms else ""
        yield f"── {now.window.replace('_', ' ')} ({now.phase}{closes})"
    known = {claim.provider: claim for claim in before.claims} if before else {}
    for claim in now.claims:
        name, old = names[claim.provider], known.get(claim.provider)
        if old is None or old.place != claim.place:
            yield f"   {name} committed to {'a model' if old is None else 'a better model'}"
        if claim.mid and (old is None or not old.mid):
            yield f"   {name} revealed model {claim.mid.hex()[:8]}"
    opened = {v.validator for v in before.validations if v.score} if before else set()
    committed = {v.validator for v in before.validations} if before else set()
    for validator in dict.fromkeys(v.validator for v in now.validations if v.validator not in committed):
        yield f"   {names[validator]} committed to its scores"
    for validator in dict.fromkeys(v.validator for v in now.validations if v.score and v.validator not in opened):
        own = sorted((v.mid, v.score) for v in now.validations if v.validator == validator and v.score)
        scores = ", ".join(f"{mid.hex()[:8]} {score.total} of {score.count}" for mid, score in own)
        yield f"   {names[validator]} opened: {scores}"
    if now.winner and not (before and before.winner):
        claim = next(c for c in now.claims if c.provider == now.winner)
        score = f" with {claim.agreed.total} of {claim.agreed.count}" if claim.agreed else ""
        yield f"   winner: {names[now.winner]}{score}"
    if now.window is Window.SETTLED:
        yield f"   settled on the chain in epoch {now.epoch}"
    if now.void_reason:
        yield f"   void: {now.void_reason}"


def _names(testnet: Testnet) -> dict[bytes, str]:
    """Each account's name in the testnet, aggregators included."""
    names = {testnet.identity(name).address: name for name in testnet.accounts()}
    entries = NetworkConfig.load(testnet.network_file).aggregators
    return names | {entry.address: f"aggregator-{entry.index}" for entry in entries}


def _kill_a_backup(run: Run, testnet: Testnet, client: LedgerClient) -> None:
    primaries = [status.primary for status in client.status() if status.reachable]
    victim = (primaries[0] + 1) % client.config.n if primaries else 0
    os.kill(testnet.pid(f"aggregator-{victim}"), signal.SIGKILL)
    run.log(f"   aggregator {victim} was killed with -9")
    time.sleep(2)
    testnet.start_aggregator(victim)
    run.log(f"   aggregator {victim} was started again from its log")


def _await_claims(run: Run, testnet: Testnet, view: OrderView) -> dict[Address, int]:
    """Wait until winner, validators and aggregators have claimed on the chain; returns what the contract has paid to
    each (grains).
    """
    config = NetworkConfig.load(testnet.network_file)
    earners = {
        p.account: 0 for p in view.payouts if p.reason in ("winner", "validator", "validation fee", "aggregator")
    }
    owed = {account: sum(p.grains for p in view.payouts if p.account == account) for account in earners}
    wallet = wallet_of(config, testnet.identity("client"))
    deadline = time.monotonic() + CLAIM_TIMEOUT_S
    try:
        while True:
            claimed = {account: wallet.claimed_grains(account) for account in earners}
            if all(claimed[account] >= owed[account] for account in earners):
                run.log(f"   {len(earners)} accounts claimed {pot(sum(claimed.values()))} POT on the chain")
                return claimed
            if time.monotonic() > deadline:
                late = [format_address(account) for account in earners if claimed[account] < owed[account]]
                raise DemoFailed("accounts have not claimed their pay", seen=", ".join(late), wanted="all of them")
            time.sleep(0.2)
    finally:
        wallet.close()


def _collect(run: Run, testnet: Testnet, order_id: bytes, claimed: dict[Address, int]) -> dict[str, Any]:
    """The client connects again: model, leaderboard, timeline, summary."""
    import torch

    from pot_lab.chain.lookup import find_settlement
    from pot_lab.notebook.lab import Lab

    config = NetworkConfig.load(testnet.network_file)
    with Lab(config, testnet.identity("client")) as lab:
        order = lab.get(order_id)
        view = order.view()
        graph, weights = order.model_files()
        model_folder = run.folder / "model"
        model_folder.mkdir()
        (model_folder / "graph.json").write_bytes(graph)
        (model_folder / "weights.safetensors").write_bytes(weights)
        threads = torch.get_num_threads()
        scores = []
        for count, batch in ((1, None), (2, 7), (2, 540)):
            torch.set_num_threads(count)
            scores.append(order.rescore(batch_size=batch))
        torch.set_num_threads(threads)
        score = scores[0]
        if any(other.digest != score.digest or other.root != score.root for other in scores):
            raise DemoFailed("the same model was scored to different bits", seen=[s.digest.hex()[:16] for s in scores])
        net, inputs = order.model(), order.test_data()[0]
        with torch.no_grad():
            agreeing = int((net(inputs).argmax(1) == order.test_data()[1]).sum())
        run.log(
            f"the client is connected again: exact score {score.total} of {score.count}, "
            f"the ledger's to the bit (float32: {agreeing})"
        )
        board = order.leaderboard()
        board.to_csv(run.folder / "leaderboard.csv")
        order.timeline(str(run.folder / "timeline.png"))
    contracts = contracts_of(config)
    settled = find_settlement(config.chain.rpc_url, contracts, view.epoch) if config.chain else None
    names = _names(testnet)
    notebooks = _keep_notebooks(run)
    summary = {
        "order": order_id.hex(),
        "phases": [
            {"name": span.name, "opened_ms": span.opened_ms, "closed_ms": span.closed_ms} for span in view.timeline
        ],
        "claims": [
            {
                "provider": names[c.provider],
                "place": c.place,
                "committed_ms": c.committed_ms,
                "revealed_ms": c.revealed_ms,
                "model": c.mid.hex(),
                "total": c.agreed.total if c.agreed else None,
            }
            for c in view.claims
        ],
        "validations": [
            {
                "validator": names[v.validator],
                "model": v.mid.hex(),
                "total": v.score.total if v.score else None,
                "count": v.score.count if v.score else None,
                "root": v.transcript_root.hex(),
            }
            for v in view.validations
        ],
        "winner": names[view.winner],
        "score": {"total": score.total, "count": score.count, "valid": score.valid},
        "payouts": [
            {
                "account": names[p.account],
                "grains": p.grains,
                "reason": p.reason,
                "claimed": p.account in claimed,
            }
            for p in view.payouts
        ],
        "settlement": {
            "epoch": view.epoch,
            "transaction": settled[0].hex() if settled else None,
            "gas": settled[1] if settled else None,
        },
        "verified": _verifier_report(run),
        "model_path": str(run.folder / "model"),
        "notebooks": notebooks,
        "elapsed_s": round(time.monotonic() - run.started_s, 1),
    }
    (run.folder / "summary.json").write_text(json.dumps(summary, indent=1))
    run.log("leaderboard")
    for rank, row in board.iterrows():
        name = names[bytes.fromhex(row["provider"][2:])]
        run.report(f"          {rank}. {name:<12} {row['total']} of {row['count']}   paid {row['payout_pot']:g} POT")
    run.log(
        f"done; summary, timeline, leaderboard, model and {len(notebooks)} executed notebooks "
        f"are in {_short(run.folder)}"
    )
    return summary


def _verifier_report(run: Run) -> dict[str, Any] | None:
    reports = sorted((run.folder / "home" / "work").glob("verifier-*/*/report.json"))
    return json.loads(reports[-1].read_text()) if reports else None


def _keep_notebooks(run: Run) -> list[str]:
    folder = run.folder / "notebooks"
    folder.mkdir()
    kept = []
    for path in sorted((run.folder / "home" / "jobs").glob("*/output.ipynb")):
        shutil.copy(path, folder / f"{path.parent.name}.ipynb")
        kept.append(f"notebooks/{path.parent.name}.ipynb")
    return kept


def _start_miner(
    run: Run, testnet: Testnet, role: str, account: str, settings: dict[str, Any]
) -> subprocess.Popen[bytes]:
    logs = run.folder / "logs"
    logs.mkdir(exist_ok=True)
    given = [argument for name, value in settings.items() for argument in ("--set", f"{name}={value}")]
    command = [
        sys.executable,
        "-m",
        "pot_lab.cli",
        "mine",
        role,
        "--network",
        str(testnet.network_file),
        "--account",
        account,
        "--orders",
        "1",
        *given,
    ]
    with open(logs / f"{account}.log", "ab") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


def _check_miners(run: Run) -> None:
    for name, process in run.miners.items():
        if process.poll() not in (None, 0):
            lines = (run.folder / "logs" / f"{name}.log").read_text(errors="replace").strip().splitlines()
            raise DemoFailed(
                f"miner {name} ended with code {process.returncode}", seen=lines[-1] if lines else "nothing"
            )


@contextlib.contextmanager
def _stopping_everything(run: Run) -> Iterator[None]:
    """Stop every process at the end of the block, however it ends; a second Ctrl-C does not interrupt that."""
    try:
        yield
    finally:
        try:
            before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not the main thread, which alone gets signals
            before = {}
        try:
            _stop_miners(run)
            testnet = Testnet.at(run.folder / "home" / "networks" / "demo")
            if testnet is not None:
                testnet.down()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _stop_miners(run: Run) -> None:
    from pot_lab.jobs.runner import JobRunner

    for process in run.miners.values():
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    for process in run.miners.values():
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    running = [job for job in JobRunner(run.folder / "home").jobs() if job.state == "running"]
    for job in running:
        job.cancel()
    for job in running:
        with contextlib.suppress(PotLabError):
            job.wait(STOP_TIMEOUT_S)


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
