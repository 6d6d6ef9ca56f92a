"""Filling an aggregator's custody for nothing, so that honest blobs find no room; with each rule and without it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pot_lab.store.custody import Custody, CustodyLimits
from pot_lab.store.errors import NotExpected, QuotaExceeded, StoreFull

MALLORY, ANN = b"m" * 20, b"a" * 20
ROOM = CustodyLimits(total_bytes=10_000, payer_bytes=4_000, blob_bytes=2_000)


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


@pytest.fixture
def custody(tmp_path: Path) -> Iterator[Custody]:
    made = Custody(tmp_path, ROOM)
    yield made
    made.close()


def bring(custody: Custody, data: bytes) -> None:
    with custody.receive(sha(data), len(data)) as writer:
        writer.write(data)


def honest_order(custody: Custody) -> bool:
    """Whether an honest client's blob finds room."""
    data = os.urandom(2_000)
    custody.expect(sha(data), len(data), payer=ANN, reference=b"honest")
    try:
        bring(custody, data)
    except StoreFull:
        return False
    return custody.has(sha(data), len(data))


def test_blobs_that_nobody_pays_for_take_no_room(custody: Custody, monkeypatch: pytest.MonkeyPatch) -> None:
    rubbish = [os.urandom(2_000) for _ in range(5)]
    for data in rubbish:
        with pytest.raises(NotExpected):
            bring(custody, data)
    assert honest_order(custody)
    custody.prune(set())

    def named_by_whoever_sends(digest: bytes, size_bytes: int) -> bool:
        """The rule switched off, as in a store that takes whatever comes."""
        with custody._changing() as database:
            database.execute("INSERT OR IGNORE INTO blobs (digest, size) VALUES (?, ?)", (digest, size_bytes))
        return True

    monkeypatch.setattr(custody, "is_expected", named_by_whoever_sends)
    for data in rubbish:
        bring(custody, data)
    assert not honest_order(custody)


def test_one_payer_does_not_take_everybodys_room(custody: Custody) -> None:
    def flood() -> None:
        for i in range(5):
            data = bytes([i]) * 2_000
            custody.expect(sha(data), len(data), payer=MALLORY, reference=b"mallory")
            bring(custody, data)

    with pytest.raises(QuotaExceeded):
        flood()
    assert honest_order(custody)
    custody.prune(set())
    custody.limits = ROOM._replace(payer_bytes=ROOM.total_bytes)  # the rule switched off
    flood()
    assert not honest_order(custody)


def test_promises_take_no_room(custody: Custody, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mallory names what it never sends, within its quota and under as many accounts as there is room for."""

    def promise() -> None:
        for i in range(5):
            custody.expect(bytes([i]) * 32, 2_000, payer=bytes([i]) * 20, reference=b"mallory")

    promise()
    assert honest_order(custody)
    custody.prune(set())

    def promised_bytes() -> int:
        """The rule switched off: room is taken by whoever names a blob."""
        return int(custody._rows("SELECT COALESCE(SUM(size), 0) FROM blobs")[0][0])

    monkeypatch.setattr(custody, "used_bytes", promised_bytes)
    promise()
    assert not honest_order(custody)
