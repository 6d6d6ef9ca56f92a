"""Each checker sees the violation that it is there for."""

from __future__ import annotations

import msgspec
import pytest

from pot_lab.agreement.application import Batch, Execution
from pot_lab.agreement.votes import PREPARE, vote_digest
from pot_lab.consensus.membership import NO_SEAT, Membership
from pot_lab.consensus.messages import (
    NO_HASH,
    NO_SIGNATURE,
    Checkpoint,
    CheckpointProof,
    Commit,
    Prepare,
    ViewChange,
    request_digest,
)
from pot_lab.consensus.parameters import ConsensusParameters
from pot_lab.consensus.records import Changing, Decided, Prepared, Stabilised
from pot_lab.consensus.steps import Executed, SendReply
from pot_lab.protocol.ledger import Ledger
from pot_lab.simulator.checkers import Checkers, Violation
from pot_lab.simulator.people import cast_of
from pot_lab.simulator.simulation import Simulation
from pot_lab.simulator.virtual_time import START_MS

SLACK_MS = 3_000
STATE = b"\1" * 32


def ran(sequence: int, *requests: bytes, time_ms: int = START_MS, reply: bytes = b"ok", state: bytes = STATE):
    execution = Execution((reply,) * len(requests), (), state)
    batch = Batch(sequence, time_ms, requests)
    return (
        Executed(
            sequence=sequence, time_ms=time_ms, requests=len(requests), execution=execution, state=state, replayed=False
        ),
        batch,
        START_MS,
    )


def checkers(*submitted: bytes) -> Checkers:
    made = Checkers(4, ConsensusParameters(), SLACK_MS)
    for request in submitted:
        made.submitted(request, START_MS)
    return made


def seen_by(seat: int, since: int = 0) -> Membership:
    """The first set, or one of a later era, as one of its members sees it."""
    return Membership(network_id=bytes(32), addresses=tuple(bytes([i]) * 20 for i in range(4)), index=seat, since=since)


@pytest.mark.parametrize(
    "second",
    [
        ran(1, b"b"),
        ran(1, b"a", time_ms=START_MS + 1),
        ran(1, b"a", reply=b"no"),
        ran(1, b"a", state=b"\2" * 32),
    ],
    ids=["requests", "time", "reply", "state"],
)
def test_two_aggregators_that_ran_different_batches_disagree(second) -> None:
    known = checkers(b"a", b"b")
    known.executed(0, *ran(1, b"a"))
    known.executed(1, *ran(1, b"a"))
    with pytest.raises(Violation, match="agreement"):
        known.executed(2, *second)


@pytest.mark.parametrize(
    ("batch", "why"),
    [
        (ran(1, b"c"), "never submitted"),
        (ran(1, b"a", time_ms=START_MS + SLACK_MS + 1), "ahead"),
        (ran(1, b"a", time_ms=START_MS - SLACK_MS - 1), "older than a request"),
    ],
)
def test_a_batch_that_nobody_may_run_is_invalid(batch, why: str) -> None:
    with pytest.raises(Violation, match=f"validity.*{why}"):
        checkers(b"a").executed(0, *batch)


def test_time_never_runs_back() -> None:
    known = checkers(b"a")
    known.executed(0, *ran(1, time_ms=START_MS + 5))
    with pytest.raises(Violation, match="validity"):
        known.executed(0, *ran(2, b"a", time_ms=START_MS + 4))


def test_a_request_runs_once() -> None:
    known = checkers(b"a")
    known.executed(0, *ran(1, b"a"))
    with pytest.raises(Violation, match="once"):
        known.executed(0, *ran(2, b"a"))


def test_what_was_acknowledged_stays_where_it_was_acknowledged() -> None:
    digest = request_digest(b"a")
    known = checkers(b"a")
    known.acknowledged(digest, SendReply(digest=digest, sequence=1, time_ms=START_MS, reply=b"ok"))
    with pytest.raises(Violation, match="acknowledged"):
        known.executed(0, *ran(2, b"a"))
    known = checkers(b"a")
    known.executed(0, *ran(1, b"a"))
    with pytest.raises(Violation, match="acknowledged"):
        known.acknowledged(digest, SendReply(digest=digest, sequence=1, time_ms=START_MS, reply=b"other"))


def test_what_was_acknowledged_must_have_run_at_the_end() -> None:
    simulation = Simulation(1, 4, "calm")
    assert simulation.run().is_good
    replica = simulation.nodes[0].replica
    digest = request_digest(b"never run")
    known = checkers()
    known.acknowledged(digest, SendReply(digest=digest, sequence=replica.executed, time_ms=START_MS, reply=b"ok"))
    with pytest.raises(Violation, match="never ran"):
        known.finished(0, replica)
    known.acknowledged(digest, SendReply(digest=digest, sequence=replica.executed + 1, time_ms=START_MS, reply=b"ok"))
    with pytest.raises(Violation, match="acknowledged"):
        known.finished(0, replica)


def test_a_word_is_given_once() -> None:
    known = checkers()
    vote = Prepare(0, 1, STATE, 0, NO_HASH, 1, NO_SIGNATURE)
    known.sent(1, vote, seen_by(1))
    known.sent(1, vote, seen_by(1))
    known.sent(2, Prepare(0, 1, b"\2" * 32, 0, NO_HASH, 2, NO_SIGNATURE), seen_by(2))
    with pytest.raises(Violation, match="signing"):
        known.sent(1, Prepare(0, 1, b"\2" * 32, 0, NO_HASH, 1, NO_SIGNATURE), seen_by(1))
    known.sent(1, Checkpoint(4, STATE, NO_HASH, 1, NO_SIGNATURE), seen_by(1))
    with pytest.raises(Violation, match="signing"):
        known.sent(1, Checkpoint(4, NO_HASH, NO_HASH, 1, NO_SIGNATURE), seen_by(1))


def test_nobody_votes_in_a_view_that_it_has_left() -> None:
    known = checkers()
    known.wrote(1, Changing(ViewChange(2, None, (), 1, NO_SIGNATURE)), seen_by(1))
    known.wrote(1, Prepared((), Commit(2, 5, STATE, 0, NO_HASH, 1, NO_SIGNATURE)), seen_by(1))
    with pytest.raises(Violation, match="has left"):
        known.wrote(1, Prepared((), Commit(1, 5, STATE, 0, NO_HASH, 1, NO_SIGNATURE)), seen_by(1))


def test_an_accusation_of_a_correct_replica_is_a_violation() -> None:
    checkers().accused(1, 2, is_correct=False)
    with pytest.raises(Violation, match="signing"):
        checkers().accused(1, 2, is_correct=True)


def test_money_out_of_nothing_is_seen() -> None:
    ledger = Ledger(cast_of(4).genesis)
    known = checkers()
    known.audit(0, ledger)
    next(iter(ledger.state.accounts.values())).earned_grains += 1
    with pytest.raises(Violation, match="money"):
        known.audit(0, ledger)


def test_what_grows_is_seen_wherever_it_is_kept() -> None:
    simulation = Simulation(1, 4, "calm")
    simulation.run()
    replica, known = simulation.nodes[0].replica, checkers()
    known.memory(0, replica)
    for sequence in range(2_000):
        replica._contents[sequence] = {}
    with pytest.raises(Violation, match=r"memory.*2000 batches as _contents"):
        known.memory(0, replica)
    replica._contents.clear()
    replica.checkpoints._kept = {sequence: {} for sequence in range(2_000)}
    with pytest.raises(Violation, match=r"memory.*checkpoints"):
        known.memory(0, replica)


def test_a_log_that_is_never_compacted_is_seen() -> None:
    checkers().log(0, 1_000, 2)
    with pytest.raises(Violation, match="memory"):
        checkers().log(0, 1_000_000, 2)
    with pytest.raises(Violation, match="memory"):
        checkers().log(0, 10, 100)


def test_nobody_votes_above_its_window() -> None:
    known, window = checkers(), ConsensusParameters().window
    known.wrote(1, vote_on(window), seen_by(1))
    with pytest.raises(Violation, match=r"window.*batch 65"):
        known.wrote(1, vote_on(window + 1), seen_by(1))
    known.wrote(1, Stabilised(CheckpointProof(16, STATE, NO_HASH, ())), seen_by(1))
    known.wrote(1, vote_on(window + 16), seen_by(1))
    known.moved(1, 32)
    known.wrote(1, vote_on(window + 32), seen_by(1))
    with pytest.raises(Violation, match=r"window.*wanted at most 64"):
        known.wrote(1, vote_on(window + 33), seen_by(1))
    known.wrote(2, vote_on(window, 2), seen_by(2))


def vote_on(sequence: int, replica: int = 1) -> Prepared:
    return Prepared((), Commit(0, sequence, STATE, 0, NO_HASH, replica, NO_SIGNATURE))


def test_nobody_votes_without_a_seat_or_in_another_era() -> None:
    known = checkers()
    known.began(1, seen_by(1, since=16))
    known.began(2, seen_by(2, since=16))
    known.wrote(1, vote_on(16), seen_by(1))
    known.wrote(1, vote_on(17), seen_by(1, since=16))
    with pytest.raises(Violation, match=r"seat.*without a seat"):
        known.wrote(1, vote_on(18), seen_by(NO_SEAT, since=16))
    with pytest.raises(Violation, match=r"seat.*without a seat"):
        known.wrote(1, vote_on(18, replica=2), seen_by(1, since=16))
    with pytest.raises(Violation, match=r"seat.*of another"):
        known.wrote(1, vote_on(17), seen_by(1))
    with pytest.raises(Violation, match=r"seat.*of another"):
        known.wrote(1, vote_on(16), seen_by(1, since=16))


def test_two_aggregators_that_begin_an_era_with_different_sets_disagree() -> None:
    known = checkers()
    known.began(1, seen_by(1, since=16))
    other = Membership(network_id=bytes(32), addresses=tuple(bytes([i]) * 20 for i in range(5)), index=2, since=16)
    with pytest.raises(Violation, match=r"agreement.*era 16"):
        known.began(2, other)


def test_a_batch_is_decided_by_a_quorum_of_its_set() -> None:
    known = checkers()
    commits = tuple(Commit(0, 1, STATE, 0, NO_HASH, replica, NO_SIGNATURE) for replica in (0, 1, 2))
    known.wrote(1, Decided(0, 1, commits), seen_by(1))
    for too_few in (commits[:2], (*commits[:2], commits[1])):
        with pytest.raises(Violation, match=r"quorum.*wanted 3 of 4"):
            known.wrote(1, Decided(0, 1, too_few), seen_by(1))


def test_a_prepare_that_another_key_has_signed_is_seen() -> None:
    cast = cast_of(4)
    members = Membership(
        network_id=bytes(32), addresses=tuple(own[1].address for own in cast.keys[:4]), index=1, since=16
    )
    known = checkers()

    def prepared(signer: int, key: int) -> Prepared:
        vote = Prepare(0, 17, STATE, 16, NO_HASH, 2, NO_SIGNATURE)
        said = vote_digest(members.network_id, PREPARE, 0, 17, STATE, 16, NO_HASH)
        signature = cast.keys[signer][key].sign(said)
        return Prepared((msgspec.structs.replace(vote, signature=signature),), vote_on(17).commit)

    known.wrote(1, prepared(2, 1), members)
    for signer, key in ((2, 0), (3, 1)):
        with pytest.raises(Violation, match="key"):
            known.wrote(1, prepared(signer, key), members)
