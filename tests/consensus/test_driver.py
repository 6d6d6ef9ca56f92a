"""The driver keeps the order that makes a replica safe: write, wait for the disk, then send."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pot_lab.agreement.application import Execution
from pot_lab.agreement.evidence import Equivocation
from pot_lab.agreement.votes import SignedVote
from pot_lab.consensus.driver import DECISIONS_BYTES, Driver
from pot_lab.consensus.membership import Membership
from pot_lab.consensus.messages import (
    NO_HASH,
    CheckpointProof,
    Chunk,
    DecidedBatch,
    Decisions,
    FetchBodies,
    Message,
    Status,
)
from pot_lab.consensus.records import LogRecord, Stabilised
from pot_lab.consensus.replica import Replica
from pot_lab.consensus.replica_state import BadLog
from pot_lab.consensus.steps import (
    Broadcast,
    Compact,
    Effect,
    Executed,
    Halt,
    KeepSnapshot,
    MembersChanged,
    Persist,
    ReportEquivocation,
    Send,
    SendRefusal,
    SendReply,
    ServeChunk,
    ServeDecisions,
    SetTimer,
)
from pot_lab.crypto.canonical import sha256
from pot_lab.crypto.identity import Identity
from pot_lab.errors import Malformed, PotLabError
from tests.consensus.cluster import NETWORK_ID, START_MS, Cluster, Register, make_request

PROOF = CheckpointProof(6, bytes(32), NO_HASH, ())
RECORD = Stabilised(PROOF)
BATCH = Executed(
    sequence=1, time_ms=2, requests=3, execution=Execution((), (), b"\1" * 32), state=b"\2" * 32, replayed=False
)
HELLO = FetchBodies((sha256(b"a body"),))
VOTE = SignedVote(2, 0, 1, bytes(32), 0, bytes(32), bytes(65))
EVIDENCE = Equivocation(VOTE, VOTE)
DECIDED = DecidedBatch(0, 1, START_MS, (), ())
IDENTITIES = [Identity(sha256(b"replica %d" % i)) for i in range(4)]
MEMBERS = Membership(network_id=NETWORK_ID, addresses=tuple(each.address for each in IDENTITIES), index=0)


class Recorder:
    """A journal and outputs that write down what they are called for, in one list."""

    def __init__(self, fails_at: str = "") -> None:
        self.calls: list[object] = []
        self._fails_at = fails_at
        self.records: list[tuple[LogRecord, ...]] = []
        self.chunks: dict[tuple[int, int, int], bytes] = {}

    def note(self, name: str, *details: object) -> None:
        if name == self._fails_at:
            raise OSError(name)
        self.calls.append((name, *details) if details else name)

    def beginning(self) -> None:
        self.note("beginning")

    def recover(self) -> Iterator[tuple[LogRecord, ...]]:
        self.note("recover")
        yield from self.records

    def append(self, record: LogRecord, *, urgent: bool) -> None:
        self.note("append", record, urgent)

    def keep_snapshot(self, sequence: int, snapshot: bytes) -> None:
        self.note("keep_snapshot", sequence, snapshot)

    def compact(self, proof: CheckpointProof) -> None:
        self.note("compact", proof)

    def write(self) -> None:
        self.note("write")

    def commit(self, *, urgent: bool) -> None:
        self.note("commit", urgent)

    def decisions(self, first: int, last: int, limit_bytes: int) -> list[DecidedBatch]:
        self.note("decisions", first, last, limit_bytes)
        return [DECIDED]

    def read_snapshot(self, sequence: int, start: int, size_bytes: int) -> bytes | None:
        return self.chunks.get((sequence, start, size_bytes))

    def executed(self, batch: Executed) -> None:
        self.note("executed", batch)


class Out(Recorder):
    """Outputs beside a journal, in the journal's list."""

    def __init__(self, journal: Recorder) -> None:
        super().__init__()
        self.calls = journal.calls
        self.driver: Driver | None = None
        self.serves_nobody = False

    def send(self, to: int, message: Message) -> None:
        self.note("send", to, message)

    def broadcast(self, message: Message) -> None:
        self.note("broadcast", message)

    def may_serve(self, to: int) -> bool:
        return not self.serves_nobody

    def reply(self, reply: SendReply) -> None:
        self.note("reply", reply)

    def refuse(self, refusal: SendRefusal) -> None:
        self.note("refuse", refusal)
        assert self.driver is not None
        self.driver.stop()

    def executed(self, batch: Executed) -> None:
        self.note("out executed", batch)

    def set_timer(self, at_ms: int | None) -> None:
        self.note("set_timer", at_ms)

    def persisted(self, record: LogRecord) -> None:
        self.note("persisted", record)

    def compacted(self, proof: CheckpointProof) -> None:
        self.note("compacted", proof)

    def equivocation(self, report: ReportEquivocation) -> None:
        self.note("equivocation", report)

    def members_changed(self, membership: Membership) -> None:
        self.note("members_changed", membership)

    def halt(self, error: PotLabError) -> None:
        self.note("halt", error)


def driven(fails_at: str = "") -> tuple[Driver, Recorder]:
    journal = Recorder(fails_at)
    outputs = Out(journal)
    outputs.driver = Driver(Replica(MEMBERS, IDENTITIES[0], Register()), journal, outputs)
    return outputs.driver, journal


def test_nothing_leaves_before_the_disk_has_everything_that_the_turn_wrote() -> None:
    """Also what comes before the record in the order of the effects: one wait for all of a turn."""
    driver, journal = driven()
    effects: list[Effect] = [
        Broadcast(HELLO),
        Persist(RECORD, False),
        BATCH,
        KeepSnapshot(6, b"state"),
        Compact(PROOF),
        Persist(RECORD, True),
        SetTimer(5),
    ]
    written = driver.write(effects)
    in_journal = [
        ("append", RECORD, False),
        ("executed", BATCH),
        ("keep_snapshot", 6, b"state"),
        ("compact", PROOF),
        ("append", RECORD, True),
        "write",
    ]
    assert journal.calls == in_journal and written.urgent
    assert driver.finish(written)
    assert journal.calls[len(in_journal) :] == [
        ("commit", True),
        ("broadcast", HELLO),
        ("persisted", RECORD),
        ("out executed", BATCH),
        ("compacted", PROOF),
        ("persisted", RECORD),
        ("set_timer", 5),
    ]


@pytest.mark.parametrize(
    ("effect", "urgent"),
    [(Persist(RECORD, True), True), (Persist(RECORD, False), False), (Compact(PROOF), True), (BATCH, False)],
)
def test_a_turn_waits_for_the_disk_only_when_something_urgent_was_written(effect: Effect, urgent: bool) -> None:
    driver, journal = driven()
    driver.carry_out([effect, Send(1, HELLO)])
    assert ("commit", urgent) in journal.calls


def test_decided_batches_travel_in_messages_of_2_mib() -> None:
    assert DECISIONS_BYTES == 2 * 1024 * 1024


def test_one_urgent_record_among_others_makes_the_turn_wait() -> None:
    driver, journal = driven()
    driver.carry_out([Persist(RECORD, True), Persist(RECORD, False)])
    assert ("commit", True) in journal.calls


@pytest.mark.parametrize("fails_at", ["append", "executed", "keep_snapshot", "compact", "write", "commit"])
def test_nothing_leaves_when_the_journal_fails(fails_at: str) -> None:
    driver, journal = driven(fails_at)
    effects: list[Effect] = [
        Send(1, HELLO),
        BATCH,
        Persist(RECORD, True),
        KeepSnapshot(6, b""),
        Compact(PROOF),
        Broadcast(HELLO),
    ]
    with pytest.raises(OSError, match=fails_at):
        driver.carry_out(effects)
    assert {each[0] for each in journal.calls if isinstance(each, tuple)} <= {
        "append",
        "executed",
        "keep_snapshot",
        "compact",
    }


def test_each_effect_goes_to_its_output() -> None:
    driver, journal = driven()
    size_bytes = driver.replica.parameters.chunk_bytes
    journal.chunks[6, size_bytes, size_bytes] = b"part"
    reply = SendReply(digest=b"d" * 32, sequence=1, time_ms=2, reply=b"r")
    changed = MembersChanged(MEMBERS)
    report = ReportEquivocation(2, EVIDENCE)
    driver.carry_out(
        [Send(2, HELLO), reply, ServeDecisions(3, 1, 9), ServeChunk(1, 6, 1), ServeChunk(1, 6, 2), report, changed]
    )
    assert journal.calls == [
        "write",
        ("commit", False),
        ("send", 2, HELLO),
        ("reply", reply),
        ("decisions", 1, 9, DECISIONS_BYTES),
        ("send", 3, Decisions((DECIDED,))),
        ("send", 1, Chunk(6, 1, b"part")),
        ("equivocation", report),
        ("members_changed", MEMBERS),
    ]


def test_nothing_is_read_for_whom_the_outputs_do_not_serve_now() -> None:
    driver, journal = driven()
    journal.chunks[6, 0, driver.replica.parameters.chunk_bytes] = b"part"
    outputs = driver._outputs
    assert isinstance(outputs, Out)
    outputs.serves_nobody = True
    driver.carry_out([ServeDecisions(3, 1, 9), ServeChunk(1, 6, 0), Send(2, HELLO)])
    assert journal.calls == ["write", ("commit", False), ("send", 2, HELLO)]


def test_nothing_is_carried_out_after_a_halt() -> None:
    driver, journal = driven()
    error = BadLog("wrong")
    driver.carry_out([Halt(error), Send(1, HELLO)])
    assert journal.calls == ["write", ("commit", False), ("halt", error)] and driver.stopped
    journal.calls.clear()
    assert not driver.finish(driver.write([Send(1, HELLO), Persist(RECORD, True)]))
    assert journal.calls == [("append", RECORD, True), "write"]


def test_an_output_may_stop_the_driver_in_the_middle_of_a_turn() -> None:
    driver, journal = driven()
    refusal = SendRefusal(b"d" * 32, Malformed("not a request"))
    assert not driver.finish(driver.write([refusal, Send(1, HELLO)]))
    assert journal.calls[-1] == ("refuse", refusal)


def test_a_log_is_replayed_part_by_part_and_the_replica_works_after_the_last() -> None:
    cluster = Cluster()
    cluster.submit(make_request(1, 0))
    cluster.run(1_000)
    records = [effect.record for effect in cluster.nodes[0].effects if isinstance(effect, Persist)]
    driver, journal = driven()
    journal.records = [tuple(records[:1]), tuple(records[1:])]
    parts = list(driver.recover(START_MS + 1_000))
    assert len(parts) == 4 and driver.replica.executed == 1 and driver.replica.recovered
    assert driver.replica.now_ms == START_MS + 1_000
    assert [type(each) for each in parts[2]] == [Executed] and parts[2][0].replayed
    driver.turn(START_MS + 60_000, [])
    assert any(isinstance(call, tuple) and isinstance(call[-1], Status) for call in journal.calls)
