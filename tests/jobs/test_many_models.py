"""Orders with many models: commitments and openings fit transactions, and one failure keeps no other from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import structs

from pot_lab.crypto.canonical import sha256
from pot_lab.crypto.link import Link
from pot_lab.errors import PotLabError
from pot_lab.jobs.validator import ValidatorLoop, parts_of
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.transactions import (
    TRANSACTION_LIMIT_BYTES,
    OpenScores,
    RevealModel,
    open_transaction,
    sign,
)
from pot_lab.store import LinkDead, Store
from tests.jobs.in_process import Market
from tests.jobs.test_validator import SALT, Bench, write_results
from tests.protocol.world import POT, WINDOWS, key

LONG_WINDOWS = structs.replace(WINDOWS, score_ms=60_000)
DEAREST = 40 * POT
"""More than what scoring the last of an order's models may cost, which each claim locks."""
LONG_NAME = "s3://research-group-bucket-eu-central-1/pot-lab/networks/production/blobs/"


class FarStore(Store):
    """A store whose links are as long as those of a bucket."""

    def put_file(self, path: Path, *, timeout_s: float = 60.0) -> Link:
        link = super().put_file(path, timeout_s=timeout_s)
        return structs.replace(link, uri=LONG_NAME + link.digest.hex())


class Crowd:
    """Orders that many providers claim, and one validator's loop; all models are revealed in `reveal`."""

    def __init__(self, market: Market, store: Store, home: Path, place: Callable[..., bytes], stake: int) -> None:
        self.market, self.store, self.place = market, store, place
        me = key("lonely validator")
        market.stake(me, Role.VALIDATOR, stake)
        self.bench = Bench(ValidatorLoop, me, market, store, home)
        self.reveals: list[tuple[bytes, object, RevealModel]] = []

    def order(self, models: int, **changes: object) -> bytes:
        order_id = self.place(windows=LONG_WINDOWS, **changes)
        for number in range(models):
            provider = key(f"puppet {number}")
            if self.market.ledger.book.free(provider.address, Role.PROVIDER) < DEAREST:
                self.market.stake(provider, Role.PROVIDER, 2 * DEAREST)
            model = self.market.seal_file(self.store, order_id, provider, b"%d of " % number + order_id, SALT)
            self.market.must(provider, self.market.claim_of(order_id, provider, model))
            self.reveals.append((order_id, provider, self.market.reveal_of(order_id, model)))
        return order_id

    def reveal(self) -> None:
        for order_id in {one[0] for one in self.reveals}:
            self.market.wait_for(order_id, Window.REVEAL)
        for _, provider, body in self.reveals:
            self.market.must(provider, body)
        for order_id in {one[0] for one in self.reveals}:
            self.market.release(order_id)

    def score(self) -> None:
        for job in self.bench.runner.jobs.values():
            write_results(job.workspace)

    def mine(self, order_id: bytes) -> int:
        me = self.bench.loop.identity.address
        return sum(v.validator == me for v in self.market.order(order_id).validations)


@pytest.fixture
def lonely(tmp_path: Path) -> tuple[Market, Store, Callable[..., bytes]]:
    """A market with few validators and many seats, so that the one of the test is drawn for every model.

    An order's id is random (its test data are encrypted anew), and so is its draw: with a stake of 300 POT beside 600,
    none of 63 seats goes to this validator about once in 10^12 orders; with 20 POT it was 4 of 60 orders.
    """
    market, store = Market(), FarStore(tmp_path / "blobs")

    def place(**changes: object) -> bytes:
        files = {name: name.encode() + b"%d" % len(market.shares) for name in ("graph", "weights", "train", "test")}
        return market.place(Store(tmp_path / "blobs"), files=files, **changes)

    return market, store, place


def test_more_models_than_one_transaction_holds_are_committed_to_and_opened(
    lonely: tuple[Market, Store, Callable[..., bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd = Crowd(*lonely[:2], tmp_path, lonely[2], stake=300 * POT)
    order_id = crowd.order(250)
    crowd.reveal()
    bench = crowd.bench
    bench.loop.step()
    crowd.score()
    sizes = monkeypatched_sizes(bench, monkeypatch)
    bench.loop.step()
    assert crowd.mine(order_id) == 250
    crowd.market.wait_for(order_id, Window.OPEN_SCORES)
    bench.loop.step()
    assert all(v.score is not None for v in crowd.market.order(order_id).validations)
    assert len(bench.of(OpenScores)) == 2 and sum(len(body.items) for body in bench.of(OpenScores)) == 250
    assert max(sizes) <= TRANSACTION_LIMIT_BYTES
    whole = OpenScores(order_id, tuple(item for body in bench.of(OpenScores) for item in body.items))
    with pytest.raises(PotLabError, match="too large"):  # without the split
        open_transaction(sign(crowd.market.network_id, whole, bench.loop.identity, 1), crowd.market.network_id)


def monkeypatched_sizes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    sizes: list[int] = []
    submit = bench.client.submit

    def measured(body):
        sizes.append(len(sign(bench.market.network_id, body, bench.loop.identity, 1 << 60)))
        return submit(body)

    monkeypatch.setattr(bench.client, "submit", measured)
    return sizes


def test_parts_hold_what_fits_and_lose_nothing() -> None:
    from pot_lab.protocol.transactions import ScoreCommitment

    items = [(ScoreCommitment(sha256(b"%d" % i), bytes(32)), i) for i in range(600)]
    parts = list(parts_of(items))  # type: ignore[arg-type] - any tag does
    assert [number for part in parts for _, number in part] == list(range(600))
    assert [len(part) for part in parts] == [256, 256, 88]
    assert [len(part) for part in parts_of(items[:3], limit_bytes=1)] == [1, 1, 1]  # type: ignore[arg-type]
    assert list(parts_of([])) == []


def test_a_store_that_fails_for_one_transcript_keeps_the_others_open(
    lonely: tuple[Market, Store, Callable[..., bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd = Crowd(*lonely[:2], tmp_path, lonely[2], stake=300 * POT)
    order_id = crowd.order(3)
    crowd.reveal()
    bench = crowd.bench
    bench.loop.step()
    crowd.score()
    bench.loop.step()
    crowd.market.wait_for(order_id, Window.OPEN_SCORES)
    put, failures = bench.loop.files._uploads._put, [LinkDead("the store does not answer")]

    def failing_once(path: Path) -> Link:
        if failures:
            raise failures.pop()
        return put(path)

    monkeypatch.setattr(bench.loop.files._uploads, "_put", failing_once)
    bench.loop.step()
    opened = [v.score is not None for v in crowd.market.order(order_id).validations]
    assert sorted(opened) == [False, True, True] and not bench.memory(order_id)["opened"]
    bench.loop.step()
    assert all(v.score is not None for v in crowd.market.order(order_id).validations)
    kept = json.loads((bench.loop.order_folder(order_id) / "memory.json").read_text())
    assert kept["opened"] and all(item["closed"] for item in kept["items"])
