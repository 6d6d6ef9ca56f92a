"""Requests wait bounded, in the order of their nonces, and one account's flood does not hold up another's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pot_lab.agreement.application import RequestId
from pot_lab.consensus.batching import Pending, QueueFull, RequestPool


def entry(account: int, nonce: int, size_bytes: int = 10, seen_ms: int = 0) -> Pending:
    digest = account.to_bytes(16, "big") + nonce.to_bytes(16, "big")
    id_ = RequestId(account.to_bytes(20, "big"), nonce)
    return Pending(digest, bytes(size_bytes), id_, seen_ms, spread=False)


def pool(requests: int = 1_000, size_bytes: int = 1_000_000, per_account: int = 1_000) -> RequestPool:
    return RequestPool(requests, size_bytes, per_account)


def test_accounts_take_turns_so_a_flood_delays_another_by_one_place() -> None:
    waiting = pool()
    for nonce in range(500):
        waiting.add(entry(1, nonce))
    waiting.add(entry(2, 7))
    batch = waiting.take(10, 1_000)
    assert [e.id.account[-1] for e in batch[:2]] == [1, 2]


def test_an_accounts_requests_come_in_the_order_of_their_nonces() -> None:
    waiting = pool()
    for nonce in (5, 1, 3, 2, 4):
        waiting.add(entry(1, nonce))
    assert [e.id.nonce for e in waiting.take(10, 1_000)] == [1, 2, 3, 4, 5]


def test_a_batch_ends_at_its_count_and_at_its_bytes() -> None:
    waiting = pool()
    for nonce in range(20):
        waiting.add(entry(1, nonce, size_bytes=100))
    assert len(waiting.take(7, 10_000)) == 7
    assert len(waiting.take(20, 450)) == 4
    assert waiting.has_waiting


def test_limits_refuse_what_is_too_much() -> None:
    waiting = pool(requests=3, per_account=2)
    waiting.add(entry(1, 0))
    waiting.add(entry(1, 1))
    with pytest.raises(QueueFull):
        waiting.add(entry(1, 2))
    waiting.add(entry(2, 0))
    with pytest.raises(QueueFull):
        waiting.add(entry(3, 0))
    with pytest.raises(QueueFull):
        pool(size_bytes=50).add(entry(1, 0, size_bytes=51))


def test_requests_in_an_open_batch_do_not_expire_and_others_do() -> None:
    waiting = pool()
    waiting.add(entry(1, 0, seen_ms=10))
    waiting.add(entry(1, 1, seen_ms=10))
    waiting.propose([entry(1, 0).digest])
    assert waiting.expire(before_ms=11) == 1
    assert waiting.get(entry(1, 0).digest) is not None
    assert waiting.get(entry(1, 1).digest) is None


@given(st.lists(st.tuples(st.sampled_from("atpr"), st.integers(0, 3), st.integers(0, 12)), max_size=120))
def test_whatever_happens_the_pool_counts_right(actions: list[tuple[str, int, int]]) -> None:
    waiting = pool(requests=30, per_account=9)
    present: dict[bytes, Pending] = {}
    proposed: set[bytes] = set()
    for action, account, nonce in actions:
        each = entry(account, nonce)
        if action == "a" and each.digest not in present:
            try:
                waiting.add(each)
                present[each.digest] = each
            except QueueFull:
                assert sum(e.id.account == each.id.account for e in present.values()) == 9 or len(present) == 30
        elif action == "t":
            for taken in waiting.take(3, 1_000):
                assert taken.digest not in proposed
                proposed.add(taken.digest)
        elif action == "p":
            waiting.propose([each.digest])
            proposed |= {each.digest} & set(present)
        elif action == "r":
            waiting.remove(each.digest)
            present.pop(each.digest, None)
            proposed.discard(each.digest)
    assert len(waiting) == len(present)
    assert waiting.size_bytes == 10 * len(present)
    assert {e.digest for e in waiting} == set(present)
    assert {e.digest for e in waiting.take(1_000, 100_000)} == set(present) - proposed
