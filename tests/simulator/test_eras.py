"""Runs in which hosts join, leave and rotate their keys."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from pot_lab.agreement.application import Batch
from pot_lab.agreement.quorum import faulty
from pot_lab.protocol.transactions import Withdraw, sign
from pot_lab.simulator.eras import Course, SeatedLedger, intent_of
from pot_lab.simulator.people import cast_of
from pot_lab.simulator.simulation import Simulation
from pot_lab.simulator.virtual_time import START_MS

TIMES_US = [3, 1, 2]


@given(st.integers(4, 10), st.integers(0, 10_000), st.booleans())
def test_a_course_changes_one_seat_at_a_time_and_keeps_enough(n: int, seed: int, keep_places: bool) -> None:
    course = Course.drawn(n, Random(seed), TIMES_US, keep_places=keep_places)
    assert len(course.sets) == 4 and course.at_us == sorted(TIMES_US)
    assert course.f == min(faulty(len(each)) for each in course.sets) >= 1 and course.hosts <= n + 1
    for before, after in zip(course.sets, course.sets[1:], strict=False):
        assert len({host for host, _ in after}) == len(after) >= 4
        assert len(set(before) ^ set(after)) == (2 if len(before) == len(after) else 1)
        if keep_places:
            assert all(a[0] == b[0] for a, b in zip(before, after, strict=False))


def test_the_registrar_alone_asks_for_sets_and_the_state_says_which() -> None:
    cast = cast_of(4)
    sets = Course([((0, 0), (1, 0), (2, 0), (3, 0)), ((0, 0), (1, 1), (2, 0), (3, 0))], [0]).seats(cast)
    ledger, other = (SeatedLedger(cast, sets) for _ in range(2))
    requests = [
        sign(cast.network_id, intent_of(1), cast.strangers[0], 1),
        sign(cast.network_id, Withdraw(bytes(32)), cast.registrar, 1),
        sign(cast.network_id, intent_of(1), cast.registrar, 2),
    ]
    digests = set()
    for sequence, request in enumerate(requests, 1):
        assert ledger.seats() == sets[0]
        digests.add(ledger.execute(Batch(sequence, START_MS, (request,))).digest)
    assert ledger.seats() is sets[1] and len(digests) == 3
    other.restore(ledger.snapshot())
    assert other.seats() is sets[1] and other.snapshot() == ledger.snapshot()


def test_hosts_join_leave_and_rotate_and_the_others_follow() -> None:
    sizes, rotated = set(), 0
    for seed in (1, 2, 4):
        simulation = Simulation(seed, None, "members")
        outcome = simulation.run()
        assert outcome.is_good, outcome.trace
        last = simulation.course.seats(simulation.cast)[-1]
        for host, _ in simulation.course.sets[-1]:
            assert simulation.nodes[host].replica.membership.seats == last
        sizes |= {len(each) - simulation.n for each in simulation.course.sets}
        rotated += any(key for each in simulation.course.sets for _, key in each)
    assert sizes >= {0, 1} and rotated
    assert not Simulation(1, None, "members", without=["members"]).run().faults["set_changed"]
