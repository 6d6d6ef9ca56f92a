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


def test_each_limit_holds_exactly_and_what_is_refused_leaves_nothing_behind() -> None:
    waiting = pool(requests=3)
    for account in range(3):
        waiting.add(entry(account, 0))
    with pytest.raises(QueueFull, match=r"full \(seen: 3, wanted: at most 3\)"):
        waiting.add(entry(9, 0))
    assert len(waiting) == waiting.waiting == 3 and waiting.size_bytes == 30

    waiting = pool(per_account=2)
    for nonce in range(2):
        waiting.add(entry(1, nonce))
    with pytest.raises(QueueFull, match=r"account has too many requests waiting \(seen: 2, wanted: at most 2\)"):
        waiting.add(entry(1, 2))
    waiting.remove(entry(1, 0).digest)
    waiting.add(entry(1, 3))
    assert len(waiting) == 2

    waiting = pool(size_bytes=50)
    waiting.add(entry(1, 0, size_bytes=30))
    with pytest.raises(QueueFull):
        waiting.add(entry(2, 0, size_bytes=21))
    waiting.add(entry(2, 1, size_bytes=20))
    assert waiting.size_bytes == 50


def test_a_proposed_request_counts_against_the_limits_until_it_is_executed() -> None:
    waiting = pool(requests=2, per_account=1)
    waiting.add(entry(1, 0))
    assert len(waiting.take(1, 10)) == 1
    assert (len(waiting), waiting.waiting, waiting.has_waiting) == (1, 0, False)
    with pytest.raises(QueueFull):
        waiting.add(entry(1, 1))
    waiting.remove(entry(1, 0).digest)
    waiting.add(entry(1, 1))
    assert (len(waiting), waiting.waiting, waiting.size_bytes) == (1, 1, 10)


def test_what_a_batch_took_is_proposed_until_the_view_ends() -> None:
    waiting = pool()
    for nonce in range(2):
        waiting.add(entry(1, nonce))
    (taken,) = waiting.take(1, 10)
    assert taken.proposed and waiting.waiting == 1
    assert waiting.expire(before_ms=10**6) == 1 and waiting.get(taken.digest) is taken
    waiting.propose([taken.digest])
    waiting.release()
    assert not taken.proposed and waiting.waiting == 1
    assert waiting.take(1, 10) == [taken]


def test_a_batch_takes_what_fits_exactly_and_the_next_in_turn_comes_first_in_the_next() -> None:
    waiting = pool()
    for account in (1, 2, 3):
        for nonce in range(2):
            waiting.add(entry(account, nonce, size_bytes=10))
    assert [(e.id.account[-1], e.id.nonce) for e in waiting.take(10, 20)] == [(1, 0), (2, 0)]
    assert waiting.waiting == 4
    assert [(e.id.account[-1], e.id.nonce) for e in waiting.take(1, 100)] == [(3, 0)]
    assert [(e.id.account[-1], e.id.nonce) for e in waiting.take(9, 100)] == [(1, 1), (2, 1), (3, 1)]
    assert waiting.waiting == 0 and not waiting.has_waiting and len(waiting) == 6


def test_an_entry_that_does_not_fit_ends_the_batch_and_stays_the_next_of_its_account() -> None:
    waiting = pool()
    waiting.add(entry(1, 0, size_bytes=15))
    waiting.add(entry(1, 1, size_bytes=15))
    waiting.add(entry(2, 0, size_bytes=15))
    assert [e.id.account[-1] for e in waiting.take(9, 29)] == [1]
    assert waiting.head(entry(2, 0)) and waiting.head(entry(1, 1)) and not waiting.head(entry(1, 0))
    assert [(e.id.account[-1], e.id.nonce) for e in waiting.take(9, 30)] == [(2, 0), (1, 1)]


def test_the_head_of_an_account_is_its_lowest_nonce_that_waits() -> None:
    waiting = pool()
    for nonce in (4, 2, 3):
        waiting.add(entry(1, nonce))
    assert [waiting.head(entry(1, nonce)) for nonce in (2, 3, 4)] == [True, False, False]
    waiting.propose([entry(1, 2).digest, entry(7, 7).digest])
    assert [waiting.head(entry(1, nonce)) for nonce in (2, 3, 4)] == [False, True, False]
    assert not waiting.head(entry(9, 0))
    waiting.release()
    assert waiting.head(entry(1, 2)) and waiting.waiting == 3
    waiting.release()
    assert waiting.waiting == 3


def test_a_request_is_proposed_and_removed_once() -> None:
    waiting = pool()
    waiting.add(entry(1, 0))
    for _ in range(2):
        waiting.propose([entry(1, 0).digest])
        assert (waiting.waiting, len(waiting)) == (0, 1)
    for _ in range(2):
        waiting.remove(entry(1, 0).digest)
        assert (waiting.waiting, len(waiting), waiting.size_bytes) == (0, 0, 0)
    assert waiting.get(entry(1, 0).digest) is None
    assert waiting._held == waiting._queues == {}  # accounts come and go for ever


def test_a_request_is_old_from_the_moment_on_and_not_in_it() -> None:
    waiting = pool()
    waiting.add(entry(1, 0, seen_ms=10))
    assert waiting.expire(before_ms=10) == 0 and len(waiting) == 1
    assert waiting.expire(before_ms=11) == 1 and len(waiting) == 0


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
