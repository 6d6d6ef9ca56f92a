"""Two quorums of any size of set share a correct replica, and the correct ones alone can form one."""

from collections.abc import Callable

import pytest

from pot_lab.agreement.quorum import BadReplicaCount, check_size, correct, faulty, quorum, weak_quorum

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


@pytest.mark.parametrize("n", SIZES)
def test_so_many_are_correct_as_are_left_when_all_faulty_ones_are_silent(n: int) -> None:
    assert correct(n) + faulty(n) == n
    assert quorum(n) <= correct(n) and correct(n) > 2 * faulty(n)


def test_the_papers_quorum_would_be_unsafe_at_thirty() -> None:
    papers = 2 * faulty(30) + 1
    assert 2 * papers - 30 <= faulty(30)
    assert quorum(30) == 20


@pytest.mark.parametrize("n", [-1, 0, 3, 101])
def test_sizes_that_no_set_of_replicas_has_are_refused(n: int) -> None:
    with pytest.raises(BadReplicaCount, match="wanted: 4 to 100"):
        check_size(n)


def test_every_other_size_is_allowed() -> None:
    for n in SIZES:
        check_size(n)


def test_the_signers_of_a_contract_may_be_fewer_or_more_than_replicas() -> None:
    assert [quorum(n) for n in (1, 2, 3, 4, 5, 6, 7, 10, 30, 100, 101)] == [1, 2, 2, 3, 4, 4, 5, 7, 20, 67, 68]
    assert all(2 * quorum(n) > n for n in range(1, 200))


@pytest.mark.parametrize("function", [correct, faulty, quorum, weak_quorum])
@pytest.mark.parametrize("n", [-1, 0])
def test_an_empty_set_decides_nothing(function: Callable[[int], int], n: int) -> None:
    with pytest.raises(BadReplicaCount, match="wanted: 1 or more"):
        function(n)
