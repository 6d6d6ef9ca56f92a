"""Two quorums of any size of set share a correct replica, and the correct ones alone can form one."""

import pytest

from pot_lab.agreement.quorum import BadReplicaCount, faulty, quorum, weak_quorum

SIZES = range(4, 101)


@pytest.mark.parametrize("n", SIZES)
def test_two_quorums_always_share_a_correct_replica(n: int) -> None:
    assert 2 * quorum(n) - n >= faulty(n) + 1


@pytest.mark.parametrize("n", SIZES)
def test_correct_replicas_alone_form_a_quorum(n: int) -> None:
    assert quorum(n) <= n - faulty(n)


@pytest.mark.parametrize("n", SIZES)
def test_a_quorum_is_as_small_as_it_can_be(n: int) -> None:
    assert 2 * (quorum(n) - 1) - n < faulty(n) + 1


@pytest.mark.parametrize("n", SIZES)
def test_a_weak_quorum_always_holds_a_correct_replica_and_most_faults_are_tolerated(n: int) -> None:
    assert weak_quorum(n) == faulty(n) + 1
    assert 3 * faulty(n) + 1 <= n < 3 * (faulty(n) + 1) + 1


def test_the_papers_quorum_would_be_unsafe_at_thirty() -> None:
    papers = 2 * faulty(30) + 1
    assert 2 * papers - 30 <= faulty(30)
    assert quorum(30) == 20


@pytest.mark.parametrize("n", [-1, 0, 3, 101])
def test_sizes_without_a_meaning_are_refused(n: int) -> None:
    with pytest.raises(BadReplicaCount):
        quorum(n)
