"""The reply cache is bounded and the same wherever the same batches ran."""

import pytest

from pot_lab.consensus.replies import CachedReply, ReplyCache
from pot_lab.errors import Malformed, Oversize


def reply(number: int, size_bytes: int = 10) -> CachedReply:
    return CachedReply(
        digest=number.to_bytes(32, "big"), sequence=number, time_ms=1_000 + number, reply=bytes(size_bytes)
    )


def test_the_oldest_replies_leave_first_by_count_and_by_bytes() -> None:
    cache = ReplyCache(5, 1_000)
    for number in range(8):
        cache.put(reply(number))
    assert [cache.get(reply(number).digest) is not None for number in range(8)] == [False] * 3 + [True] * 5
    cache.put(reply(8, size_bytes=980))
    assert len(cache) == 3
    cache.put(reply(9, size_bytes=5_000))
    assert len(cache) == 1 and cache.get(reply(9).digest) == reply(9, 5_000)


def test_a_snapshot_brings_the_same_cache_back() -> None:
    cache, other = ReplyCache(5, 1_000), ReplyCache(5, 1_000)
    for number in range(7):
        cache.put(reply(number))
    other.put(reply(99))
    other.restore(cache.snapshot(), limit_bytes=10_000)
    assert other.snapshot() == cache.snapshot()
    cache.put(reply(7))
    other.put(reply(7))
    assert other.snapshot() == cache.snapshot()


def test_a_damaged_or_huge_snapshot_is_refused_and_changes_nothing() -> None:
    cache = ReplyCache(5, 1_000)
    cache.put(reply(1))
    before = cache.snapshot()
    with pytest.raises(Malformed):
        cache.restore(before[:-1], limit_bytes=10_000)
    with pytest.raises(Oversize):
        cache.restore(before, limit_bytes=10)
    assert cache.snapshot() == before
