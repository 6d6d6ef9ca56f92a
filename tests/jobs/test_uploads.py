"""Uploads beside the loop: a store that is away or slow stops nobody, and nothing is put twice."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pot_lab.crypto.canonical import sha256
from pot_lab.crypto.link import Link
from pot_lab.errors import PotLabError
from pot_lab.jobs.uploads import THREADS, Uploads
from pot_lab.jobs.validator import ValidatorLoop
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.transactions import Claim, OpenScores, RevealModel
from pot_lab.store import LinkDead, Store
from tests.jobs.in_process import Market
from tests.jobs.test_provider import Bench
from tests.jobs.test_validator import Bench as ScoringBench
from tests.jobs.test_validator import to_scores  # noqa: F401 - a fixture
from tests.protocol.scenes import VALIDATORS

PATH = Path("/orders/order/models/1")


def link_to(path: Path) -> Link:
    return Link(digest=sha256(str(path).encode()), size_bytes=1, uri="http://127.0.0.1:9/x")


def test_a_file_is_put_once_and_tried_again_after_a_failure() -> None:
    failures: list[Exception] = [LinkDead("away"), OSError("no such file"), KeyError("a library's own")]
    calls: list[Path] = []

    def put(path: Path) -> Link:
        calls.append(path)
        if failures:
            raise failures.pop(0)
        return link_to(path)

    uploads = Uploads(put, lambda: None, threads=0)
    for kind in (LinkDead, OSError, PotLabError):
        with pytest.raises(kind):
            uploads.link_of(PATH)
    assert uploads.link_of(PATH) == uploads.link_of(PATH) == link_to(PATH) and len(calls) == 4
    uploads.forget(PATH.parent.parent)
    uploads.link_of(PATH)
    assert len(calls) == 5


def test_a_store_that_hangs_lets_its_caller_go_on_and_wakes_it_when_it_is_done() -> None:
    go, woken = threading.Event(), threading.Semaphore(0)

    def put(path: Path) -> Link:
        go.wait(240)
        return link_to(path)

    uploads = Uploads(put, woken.release)
    paths = [PATH.with_name(str(number)) for number in range(THREADS + 3)]
    assert [uploads.link_of(path) for path in paths] == [None] * len(paths)
    go.set()
    for _ in paths:
        assert woken.acquire(timeout=240)
    uploads.wait(240.0)
    assert [uploads.link_of(path) for path in paths] == [link_to(path) for path in paths]


def test_what_is_forgotten_while_it_waits_is_not_put() -> None:
    go, put_paths = threading.Event(), []

    def put(path: Path) -> Link:
        put_paths.append(path)
        go.wait(240)
        return link_to(path)

    uploads = Uploads(put, lambda: None, threads=1)
    uploads.link_of(PATH)
    uploads.link_of(Path("/orders/other/1"))
    while not put_paths:
        threading.Event().wait(0.01)
    uploads.forget(Path("/orders/other"))
    go.set()
    uploads.wait(240.0)
    assert put_paths == [PATH]


def test_a_reveal_that_waits_for_its_store_keeps_no_other_order_waiting(
    market: Market, store: Store, tmp_path: Path, place: Callable[..., bytes], until: Callable[..., None]
) -> None:
    bench = Bench(market, store, tmp_path)
    slow = place()
    bench.loop.step()
    bench.submit_model(b"model")
    bench.loop.step()
    go, put = threading.Event(), store.put_file

    def hanging(path: Path) -> Link:
        go.wait(240)
        return put(path)

    bench.loop.files._uploads = Uploads(hanging, bench.loop.feed.wake)
    market.wait_for(slow, Window.REVEAL)
    other = place(reward_grains=30 * 10**9)
    bench.loop.step()
    assert bench.of(RevealModel) == [] and bench.loop.has_begun(other)
    job = list(bench.runner.jobs.values())[-1]
    (job.workspace / "models").mkdir()
    (job.workspace / "models" / "00001.safetensors").write_bytes(b"other")
    bench.loop.step()
    assert [claim.order_id for claim in bench.of(Claim)] == [slow, other]
    go.set()
    bench.loop.files._uploads.wait(240.0)
    bench.loop.step()
    assert [body.order_id for body in bench.of(RevealModel)] == [slow]


class Failing:
    """A store that is away until it is told to come back."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_away, self._put = True, store.put_file
        monkeypatch.setattr(store, "put_file", self.put_file)

    def put_file(self, path: Path, **options: float) -> Link:
        if self.is_away:
            raise LinkDead("the store does not answer")
        return self._put(path, **options)


def test_a_model_is_revealed_in_time_without_its_store_and_comes_there_later(
    market: Market, store: Store, tmp_path: Path, place: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = Failing(store, monkeypatch)
    bench = Bench(market, store, tmp_path)
    order_id = place()
    bench.loop.step()
    bench.submit_model(b"model")
    bench.loop.step()
    market.wait_for(order_id, Window.REVEAL)
    bench.loop.step()
    order = market.order(order_id)
    market.now_ms = order.closes_ms - order.order.windows.reveal_ms // 4
    bench.loop.step()
    assert bench.of(RevealModel) == []  # the store may still answer in time
    market.now_ms += 1
    bench.loop.step()
    (reveal,) = bench.of(RevealModel)
    assert market.order(order_id).claims[bench.loop.identity.address].mid
    with pytest.raises(LinkDead):
        store.fetch(reveal.ciphertext, limit_bytes=1_000, timeout_s=60)
    failing.is_away = False
    bench.loop.step()
    assert market.read_model(store, bench.loop.identity, reveal) == b"model"
    assert bench.loop.memories.active()[0].stored and bench.loop.memories.active()[0].revealed


def test_with_custody_a_model_is_revealed_at_once_when_its_store_does_not_take_it(
    market: Market, store: Store, tmp_path: Path, place: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = Failing(store, monkeypatch)
    monkeypatch.setattr(Store, "has_copies", True)
    bench = Bench(market, store, tmp_path)
    order_id = place()
    bench.loop.step()
    bench.submit_model(b"model")
    bench.loop.step()
    market.wait_for(order_id, Window.REVEAL)
    bench.loop.step()
    assert len(bench.of(RevealModel)) == 1 and not bench.loop.memories.active()[0].stored
    failing.is_away = False  # custody takes it, now that the ledger names it
    bench.loop.step()
    assert bench.loop.memories.active()[0].stored


def test_scores_are_opened_in_time_without_their_store_and_transcripts_come_later(
    market: Market, store: Store, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring: Callable[[], bytes] = request.getfixturevalue("to_scores")
    everybody = [ScoringBench(ValidatorLoop, who, market, store, tmp_path) for who in VALIDATORS]
    bench, order_id = everybody[0], bring()
    for each in everybody:
        each.loop.step()
        each.score()
        each.loop.step()
    failing = Failing(store, monkeypatch)
    bench.loop.files._uploads = Uploads(store.put_file, lambda: None, threads=0)
    market.wait_for(order_id, Window.OPEN_SCORES)
    bench.loop.step()
    assert bench.of(OpenScores) == [] and not bench.memory(order_id)["opened"]
    market.now_ms = market.order(order_id).closes_ms - 1
    bench.loop.step()
    (opened,) = bench.of(OpenScores)
    assert bench.memory(order_id)["opened"] and not bench.memory(order_id)["stored"]
    failing.is_away = False
    bench.loop.step()
    assert bench.memory(order_id)["stored"]
    for item in opened.items:
        assert store.fetch(item.transcript, limit_bytes=1000, timeout_s=60).startswith(b"transcript of ")
