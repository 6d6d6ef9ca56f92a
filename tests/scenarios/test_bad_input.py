"""Bad input and bad luck on a real network: a clear typed error each time, and nothing lost."""

from __future__ import annotations

import contextlib
import copy
import os
import pickle
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec import structs
from torch import nn

from pot_lab.agreement.quorum import correct
from pot_lab.chain.errors import InsufficientBalance
from pot_lab.crypto.canonical import sha256
from pot_lab.crypto.sealed_model import BoxHolder, SealedModel, seal_model
from pot_lab.demo import digits
from pot_lab.errors import PotLabError, UnknownScoreFunction
from pot_lab.jobs.provider import ProviderLoop
from pot_lab.jobs.recipes import recipe
from pot_lab.jobs.registry import Job
from pot_lab.jobs.runner import JobRunner
from pot_lab.jobs.validator import ValidatorLoop
from pot_lab.network.chain_access import wallet_of
from pot_lab.network.client.ledger import LedgerClient
from pot_lab.network.config import NetworkConfig
from pot_lab.network.errors import Unreachable
from pot_lab.notebook import posting
from pot_lab.notebook.errors import BadArgument, BadQuantity, NoModel
from pot_lab.notebook.lab import Lab, connect
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.errors import BadCommitment, BadWindows, NotAllowed, TooLate, UnknownOrder
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import HeldBlob, claim_commitment, model_id
from pot_lab.protocol.transactions import Claim, Register, RevealModel
from pot_lab.scoring import export_model
from pot_lab.scoring.errors import DtypeMismatch, ShapeMismatch, UnsupportedOperator
from pot_lab.store import LinkDead, Store
from pot_lab.testnet.errors import NoTestnet, TestnetFailed, TestnetRunning, UnknownAccount
from pot_lab.testnet.testnet import Testnet
from tests.begin import heeding, interrupt_in_a_callback
from tests.scenarios.processes import await_nothing_left, run, start
from tests.testnets import register_miners

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2_400)]
ORDER: dict[str, Any] = {"reward": 5, "train_for": "30s"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    before = os.environ.get("POT_LAB_HOME")
    os.environ["POT_LAB_HOME"] = str(folder)
    yield folder
    if before is None:
        del os.environ["POT_LAB_HOME"]
    else:
        os.environ["POT_LAB_HOME"] = before


@pytest.fixture(scope="module")
def testnet(home: Path) -> Iterator[Testnet]:
    net = Testnet.up("bad", durability="flush", providers=4)
    try:
        register_miners(net)
        yield net
    finally:
        net.down()
    assert await_nothing_left(home) == []


@pytest.fixture
def lab(testnet: Testnet) -> Iterator[Lab]:
    with connect("bad") as lab:
        yield lab


@pytest.fixture(scope="module")
def task() -> tuple[Any, Any, Any]:
    return digits()


def blobs(testnet: Testnet) -> set[str]:
    return {path.name for path in (testnet.folder / "blobs").rglob("*") if path.is_file()}


def trained(net: nn.Module, train: tuple[torch.Tensor, torch.Tensor]) -> bytes:
    """Weights that score better than the first ones: a few steps on all training examples."""
    better = copy.deepcopy(net).train()
    optimizer = torch.optim.Adam(better.parameters(), lr=0.01)
    for _ in range(20):
        optimizer.zero_grad()
        nn.functional.cross_entropy(better(train[0]), train[1]).backward()
        optimizer.step()
    return export_model(better.eval(), train[0][:2]).weights


# --- a researcher's mistakes: refused before a byte or a grain moves ---------------------------------------------
Mistake = tuple[str, Callable[[Any, Any], dict[str, Any]], type[PotLabError], str]
MISTAKES: list[Mistake] = [
    ("reward above balance", lambda train, test: {"reward": 10_001}, InsufficientBalance, "POT"),
    (
        "train inputs of a wrong shape",
        lambda train, test: {"train": (train[0][:, :, :4], train[1])},
        ShapeMismatch,
        "does not run on the train inputs",
    ),
    (
        "test inputs of a wrong shape",
        lambda train, test: {"test": (test[0].flatten(1), test[1])},
        ShapeMismatch,
        "test",
    ),
    (
        "train inputs of a wrong dtype",
        lambda train, test: {"train": (train[0].double(), train[1])},
        DtypeMismatch,
        "train",
    ),
    ("test inputs of a wrong dtype", lambda train, test: {"test": (test[0].double(), test[1])}, DtypeMismatch, "test"),
    ("targets that are no classes", lambda train, test: {"train": (train[0], train[1] + 1)}, PotLabError, "train"),
    ("more inputs than targets", lambda train, test: {"train": (train[0], train[1][:-1])}, PotLabError, "numbers of"),
    ("an operator off the list", lambda train, test: {"model": Singular()}, UnsupportedOperator, "test_bad_input.py"),
    ("no module", lambda train, test: {"model": "resnet50"}, BadArgument, "model"),
    ("no pair", lambda train, test: {"train": train[0]}, BadArgument, "train"),
    ("a file that is not there", lambda train, test: {"test": "nowhere.safetensors"}, BadArgument, "nowhere"),
    ("a window that is too short", lambda train, test: {"train_for": 0.2}, BadWindows, "train_for"),
    ("a window that is too long", lambda train, test: {"windows": {"challenge": "400d"}}, BadWindows, "challenge"),
    ("no such window", lambda train, test: {"windows": {"lunch": "1h"}}, BadArgument, "lunch"),
    ("no duration", lambda train, test: {"train_for": "a while"}, BadQuantity, "a while"),
    ("no amount", lambda train, test: {"reward": "lots"}, BadQuantity, "lots"),
    ("no such score", lambda train, test: {"score": "beauty"}, UnknownScoreFunction, "beauty"),
]


class Singular(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.svdvals(x.view(-1, 8, 8)).repeat(1, 2)[:, :10]


@pytest.mark.parametrize(("mistake", "change", "error", "words"), MISTAKES, ids=[name for name, *_ in MISTAKES])
def test_a_researchers_mistake_is_named_and_costs_nothing(
    lab: Lab, testnet: Testnet, task: Any, mistake: str, change: Any, error: type[PotLabError], words: str
) -> None:
    net, train, test = task
    balance, before = lab.balance(), blobs(testnet)
    arguments = {"model": net, "train": train, "test": test, **ORDER, **change(train, test)}
    with pytest.raises(error) as caught:
        lab.order(**arguments)
    assert words in str(caught.value), str(caught.value)
    assert lab.balance() == balance
    assert blobs(testnet) == before
    assert lab.orders() == []


def test_a_store_that_is_away_stops_an_order_before_money_moves(lab: Lab, task: Any) -> None:
    net, train, test = task
    balance = lab.balance()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        lab.store = Store(f"http://127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(LinkDead):
            lab.order(net, train, test, **ORDER)
    assert lab.balance() == balance and lab.orders() == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_a_callback_swallowed_is_not_paid_for(
    lab: Lab, task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, train, test = task
    balance, seal = lab.balance(), posting.seal_test

    def interrupted(*arguments: Any, **named: Any) -> Any:
        interrupt_in_a_callback()
        return seal(*arguments, **named)

    monkeypatch.setattr(posting, "seal_test", interrupted)
    with heeding(), pytest.raises(KeyboardInterrupt):
        lab.order(net, train, test, **ORDER)
    assert lab.balance() == balance and lab.orders() == []


def test_who_is_unknown_is_told_what_there_is(home: Path, testnet: Testnet, lab: Lab) -> None:
    with pytest.raises(UnknownAccount, match="provider-0"):
        connect("bad", "nobody")
    for start_one in (True, False):  # a slip founds no other network, to which later commands would go
        with pytest.raises(NoTestnet, match=r"'elsewhere' runs here \(seen: bad \(runs\), wanted: .*--name elsewhere"):
            connect("elsewhere", start=start_one)
    with pytest.raises(NoTestnet, match="no such file"):
        connect(home / "other.toml")
    assert [net.name for net in Testnet.all()] == ["bad"]
    with pytest.raises(UnknownOrder):
        lab.get("00" * 32)
    with pytest.raises(TestnetRunning, match="bad"):
        Testnet.up("bad")
    again = run(["testnet", "up", "--name", "bad"], home)
    assert again.returncode == 1 and again.stderr.startswith("pot-lab: TestnetRunning: ")
    assert len(again.stderr.strip().splitlines()) == 1


# --- miners' mistakes and malice ---------------------------------------------------------------------------------
def test_a_pickle_late_claims_and_false_reveals_cost_their_author_only(
    home: Path, testnet: Testnet, lab: Lab, task: Any
) -> None:
    """One provider offers a pickle, reveals what it did not commit to, and comes late; the other one's model wins."""
    net, train, test = task
    good = trained(net, train)
    config = lab.config
    evil, honest = (LedgerClient(config, testnet.identity(f"provider-{i}")) for i in (0, 1))
    stranger = LedgerClient(config, testnet.identity("client"))
    stop = threading.Event()
    validators = [
        ValidatorLoop(
            LedgerClient(config, testnet.identity(f"validator-{i}")),
            Store(config.store_url),
            JobRunner(home),
            recipe("validator"),
            home,
            settings={"threads": 1},
            limit=1,
        )
        for i in range(3)
    ]
    threads = [threading.Thread(target=loop.run, args=(stop,)) for loop in validators]
    try:
        for thread in threads:
            thread.start()
        for client in (evil, honest):
            client.submit(Register(int(Role.PROVIDER)))
        order = lab.order(net, train, test, reward=5, train_for="20s", title="pickle")
        view = lab.client.wait_for_order(order.id, lambda v: v.window is Window.COMMIT, timeout_s=400)
        offered = {
            evil: pickle.dumps({"boom": print}),
            honest: good,
        }
        salt = sha256(b"salt")

        def mid(data: bytes) -> bytes:
            return model_id(view.order.model.digest, sha256(data))

        sealed: dict[LedgerClient, SealedModel] = {}
        for client, data in offered.items():
            assert client.identity is not None
            me, holders = client.identity.address, client.holders(order.id)
            made = sealed[client] = seal_model(
                data,
                [BoxHolder(each.address, each.sealing_public) for each in holders],
                correct(len(holders)),
                os.urandom,
                network_id=config.network_id,
                order_id=order.id,
                provider=me,
            )
            blob = HeldBlob(sha256(made.ciphertext), len(made.ciphertext))
            commitment = claim_commitment(config.network_id, order.id, me, mid(data), blob, made.boxes.root, salt)
            client.submit(Claim(order.id, commitment))
        with pytest.raises(NotAllowed):
            stranger.submit(Claim(order.id, bytes(32)))
        lab.client.wait_for_order(order.id, lambda v: v.window is not Window.COMMIT, timeout_s=400)
        with pytest.raises(TooLate, match="reveal window"):
            evil.submit(Claim(order.id, bytes(32)))
        links = {client: lab.store.put(each.ciphertext) for client, each in sealed.items()}
        reveals = {
            client: RevealModel(
                order_id=order.id, mid=mid(data), ciphertext=links[client], boxes=sealed[client].boxes, salt=salt
            )
            for client, data in offered.items()
        }
        with pytest.raises(BadCommitment):  # another's model
            evil.submit(reveals[honest])
        with pytest.raises(BadCommitment):  # another ciphertext than was named
            evil.submit(structs.replace(reveals[evil], ciphertext=links[honest]))
        for client, body in reveals.items():
            client.submit(body)
        with pytest.raises(NoModel, match="not sealed yet"):
            order.model()
        ended = order.wait(800, settled=True)
    finally:
        stop.set()
        for thread in threads:
            thread.join(240)
        for loop in validators:
            loop.client.close()
        for client in (evil, honest, stranger):
            client.close()
    assert ended.window is Window.SETTLED and honest.identity is not None and evil.identity is not None
    assert ended.winner == honest.identity.address
    worthless = ended.claim_by(evil.identity.address)
    assert worthless is not None and worthless.agreed is not None and not worthless.agreed.valid
    results = next((home / "work").glob("validator-*/*/results.json")).read_text()
    assert "pickle" in results
    assert order.rescore().total == ended.claim_by(ended.winner).agreed.total  # type: ignore[union-attr]


@pytest.mark.timeout(2_400)
def test_a_provider_that_was_killed_goes_on_where_it_was(
    home: Path, testnet: Testnet, lab: Lab, task: Any, tmp_path: Path
) -> None:
    """kill -9 of supervisor and notebook after the first commitment; a new supervisor finds both and reveals.

    Half of the order's time must be left for that, so a machine that is slow gets a second, longer order.
    """
    net, train, test = task
    options = ["--orders", "1", "--set", "threads=1", "--set", "learning_rate=0.0005"]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for account, train_for_s in (("provider-2", 45), ("provider-3", 240)):
            arguments = ["mine", "provider", "--account", account, *options]
            order = lab.order(net, train, test, reward=5, train_for=f"{train_for_s}s", title="killed")
            started.append(start(arguments, tmp_path, home=home))
            lab.client.wait_for_order(order.id, lambda v: v.window is Window.COMMIT, timeout_s=400)
            with contextlib.suppress(TimeoutError):
                lab.client.wait_for_order(order.id, lambda v: len(v.claims) == 1, timeout_s=train_for_s / 2)
                break
            end(started.pop())
            for job in running_provider_jobs(home):
                job.cancel()
            lab.client.wait_for_order(order.id, lambda v: v.window in (Window.VOID, Window.SETTLED), timeout_s=400)
        else:
            pytest.fail("no provider committed to a model within two minutes")
        started[0].kill()
        started[0].wait()
        (job,) = running_provider_jobs(home)
        assert job.pid is not None
        os.kill(job.pid, signal.SIGKILL)
        started.append(start(arguments, tmp_path, home=home))
        until_s = train_for_s + 400
        view = lab.client.wait_for_order(order.id, lambda v: any(c.mid for c in v.claims), timeout_s=until_s)
        assert view.claims[0].mid
    finally:
        for process in started:
            end(process)
    output = (tmp_path / "output.txt").read_text()
    assert "event=job_resumed" in output, output
    assert "event=revealed" in output


def running_provider_jobs(home: Path) -> list[Job]:
    return [job for job in JobRunner(home).jobs() if job.id.startswith("provider-") and job.state == "running"]


def end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        process.wait(400)


def test_an_order_whose_data_are_gone_is_put_aside_by_its_miners(
    home: Path, testnet: Testnet, lab: Lab, task: Any, caplog: pytest.LogCaptureFixture
) -> None:
    net, train, test = task
    order = lab.order(net, (train[0] * 0.5, train[1]), test, reward=5, train_for="30min", title="no data")
    view = lab.client.wait_for_order(order.id, lambda v: v.window is Window.COMMIT, timeout_s=400)
    for path in (testnet.folder / "blobs").rglob(view.order.train.digest.hex() + "*"):
        path.unlink()
    with LedgerClient(lab.config, testnet.identity("provider-1")) as client:
        loop = ProviderLoop(client, Store(lab.config.store_url), JobRunner(home), recipe("provider"), home, limit=1)
        loop.register()
        deadline = time.monotonic() + 400
        while not loop.files.is_aside(order.id):  # it downloads beside the loop
            assert time.monotonic() < deadline
            loop.step()
            time.sleep(0.05)
        assert loop.has_begun(order.id) and loop.finished == 0, "it is tried again, in a while"
    assert "event=order_set_aside" in caplog.text and "no such blob" in caplog.text
    order.withdraw()
    assert order.wait(400).void_reason == "client withdrew"


# --- the network's bad days --------------------------------------------------------------------------------------
def test_one_aggregator_may_be_away_and_two_are_named(testnet: Testnet, lab: Lab) -> None:
    for index in (2, 3):
        os.kill(testnet.pid(f"aggregator-{index}"), signal.SIGKILL)
        if index == 2:
            assert lab.client.network().validators >= 3
    with pytest.raises(Unreachable) as caught:
        lab.client.submit(Register(int(Role.VERIFIER)), timeout_s=3)
    assert "2" in str(caught.value) and "3" in str(caught.value)
    deadline = time.monotonic() + 400
    while [status.reachable for status in lab.client.status(3.0)] != [True, True, False, False]:
        assert time.monotonic() < deadline
    for index in (2, 3):
        testnet.start_aggregator(index)
    deadline = time.monotonic() + 400
    while not all(status.reachable for status in lab.client.status(3.0)):
        assert time.monotonic() < deadline
    assert wallet_of(lab.config, lab.identity).balance_grains() > 0


@pytest.mark.long
def test_a_taken_port_is_named_and_nothing_is_left_running(home: Path) -> None:
    net = Testnet.up("ports", durability="flush", providers=0, validators=0, verifiers=0)
    net.down()
    port = NetworkConfig.load(net.network_file).aggregators[1].client_port
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind(("127.0.0.1", port))
        thief.listen()
        with pytest.raises(TestnetFailed) as caught:
            Testnet.up("ports")
    assert "aggregator-1" in str(caught.value) and str(port) in str(caught.value)
    assert not net.is_up()
    Testnet.up("ports")
    assert net.is_up()
    net.down()
