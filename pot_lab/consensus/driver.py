"""The turn of a replica: what every host does with its inputs and effects, written once.

A replica is a function without clock, disk or socket (`replica.Replica.step`). A host feeds it and carries its effects
out, and must do so in one order: append the records, wait once until the disk has them if one of them is urgent, and
only then let anything leave. So no vote leaves that a power cut could take back, and all inputs of a turn share one
wait for the disk (group commit). `Driver` is that order. The aggregator, the simulator and the tests all use it, and
bring their own `Journal` (log, snapshots, history) and `Outputs` (peers, clients, timers).

The turn has two halves, `write` and `finish`, because a host in virtual time lets other things happen while its disk
works; `turn` does both at once.

    driver = Driver(replica, journal, outputs)
    for effects in driver.recover(clock_ms()):
        driver.carry_out(effects)
    while running:
        driver.turn(clock_ms(), received())
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, assert_never

import msgspec

from pot_lab.consensus.membership import Membership
from pot_lab.consensus.messages import CheckpointProof, Chunk, DecidedBatch, Decisions, Message
from pot_lab.consensus.records import LogRecord
from pot_lab.consensus.replica import Replica
from pot_lab.consensus.steps import (
    Broadcast,
    Compact,
    Effect,
    Executed,
    Halt,
    Input,
    KeepSnapshot,
    MembersChanged,
    Persist,
    Recovered,
    ReportEquivocation,
    Restored,
    Send,
    SendRefusal,
    SendReply,
    ServeChunk,
    ServeDecisions,
    SetTimer,
    Tick,
)
from pot_lab.errors import PotLabError

DECISIONS_BYTES = 2 * 1024 * 1024
"""The size in bytes up to which decided batches are sent to another replica in one message."""


class Journal(Protocol):
    """The durable state of one replica: its log, its snapshots and, where there is one, the history of its batches.

    `append`, `executed`, `keep_snapshot` and `compact` are called in the order of the effects, then `write`, then
    `commit`. A method may raise what its storage raises (`DiskFull`, `LogCorrupt`); the exception leaves the driver,
    and nothing of that turn has left the host.
    """

    def beginning(self) -> tuple[CheckpointProof, bytes] | None:
        """The checkpoint that the log begins with, and the bytes of its snapshot; None for a log from batch 1 on."""

    def recover(self) -> Iterator[tuple[LogRecord, ...]]:
        """All records of the log in order, in parts that fit into memory; called once, after `beginning`."""

    def append(self, record: LogRecord, *, urgent: bool) -> None:
        """Queue a record; an urgent one must be durable when the next `commit` returns."""

    def executed(self, batch: Executed) -> None:
        """Queue an executed batch for the history; before the `compact` that removes its records from the log."""

    def keep_snapshot(self, sequence: int, snapshot: bytes) -> None:
        """Write the snapshot of the state after `sequence` to a file of its own."""

    def compact(self, proof: CheckpointProof) -> None:
        """Begin the log with this checkpoint and drop the records that its snapshot covers, all or nothing.

        What was appended before must not get lost by it, nor what was executed before be missing in the history. It may
        be put off until `Outputs.compacted`.
        """

    def write(self) -> None:
        """Hand everything that is queued to the operating system."""

    def commit(self, *, urgent: bool) -> None:
        """Before anything of this turn leaves: with `urgent`, wait until the disk has what was written."""

    def decisions(self, first: int, last: int, limit_bytes: int) -> Sequence[DecidedBatch]:
        """Decided batches from `first` to `last` without a gap, up to `limit_bytes` bytes, but at least one of those
        that are there.
        """

    def read_snapshot(self, sequence: int, start: int, size_bytes: int) -> bytes | None:
        """Up to `size_bytes` bytes from byte `start` of the snapshot after `sequence`; None where it is not there any
        more.
        """


class Outputs(Protocol):
    """Where the effects of one replica go once its journal has committed: a method for each kind.

    They are called in the order of the effects. One may call `Driver.stop`; then no other is called in this turn.
    """

    def send(self, to: int, message: Message) -> None:
        """Send a message to one replica, by its index in the set in force (see `steps.Received.sender`)."""

    def broadcast(self, message: Message) -> None:
        """Send a message to every other replica."""

    def may_serve(self, to: int) -> bool:
        """Whether to read from the journal now what this replica asked for, to `send` it next; it asks again."""

    def reply(self, reply: SendReply) -> None:
        """A request was executed: answer the clients that submitted it."""

    def refuse(self, refusal: SendRefusal) -> None:
        """A request was not admitted: answer the clients that submitted it."""

    def executed(self, batch: Executed) -> None:
        """A batch was executed, or executed again from the log."""

    def set_timer(self, at_ms: int | None) -> None:
        """Take a turn at this time of the replica's clock, milliseconds since the Unix epoch; None: no need to."""

    def persisted(self, record: LogRecord) -> None:
        """A record is in the log."""

    def compacted(self, proof: CheckpointProof) -> None:
        """The log begins with this checkpoint."""

    def equivocation(self, report: ReportEquivocation) -> None:
        """Another replica signed two contradicting votes; reported again after a restart."""

    def members_changed(self, membership: Membership) -> None:
        """Another set of replicas is in force."""

    def halt(self, error: PotLabError) -> None:
        """The replica must stop; may raise `error`."""


class Written(msgspec.Struct, frozen=True):
    """The first half of a turn: effects whose records are written but not yet committed.

    Attributes:
        effects: what is to be carried out once they are.
        urgent: whether that has to wait for the disk.
    """

    effects: Sequence[Effect]
    urgent: bool


class Driver:
    """One replica at work on a host, from recovery to the end of its process.

    Args:
        replica: a new one, with its application in its initial state.
        journal: its durable state, of this process or an earlier one.
        outputs: where its effects go.

    Attributes:
        stopped: whether the replica halted or the host called `stop`; then nothing more is carried out.

    Example: a host that steps the replica with what its sockets received.

        driver = Driver(replica, journal, outputs)
        for effects in driver.recover(clock_ms()):
            driver.carry_out(effects)
        while not driver.stopped:
            driver.turn(clock_ms(), [Received(sender, message) for sender, message in sockets.receive()])
    """

    def __init__(self, replica: Replica, journal: Journal, outputs: Outputs) -> None:
        self.replica, self.journal = replica, journal
        self.stopped = False
        self._outputs = outputs

    def recover(self, now_ms: int) -> Iterator[list[Effect]]:
        """Replay the journal, part by part; yields the effects of each part, to be carried out in order.

        Args:
            now_ms: the replica's clock, milliseconds since the Unix epoch.
        Raises:
            BadLog: the log contradicts itself.
            What `Journal.beginning` and `Journal.recover` raise.
        """
        effects = self.replica.step(Tick(now_ms))
        beginning = self.journal.beginning()
        if beginning is not None:
            effects += self.replica.step(Restored(*beginning))
        yield effects
        for records in self.journal.recover():
            yield self.replica.step(Recovered(records, final=False))
        yield self.replica.step(Recovered((), final=True))

    def turn(self, now_ms: int, inputs: Iterable[Input]) -> None:
        """Step the replica with everything that has arrived, commit, and carry out what follows.

        Args:
            now_ms: the replica's clock, milliseconds since the Unix epoch.
            inputs: what has arrived since the turn before, in order, without `Tick`.
        Raises:
            What the journal raises, before anything has left; what an output raises.
        """
        self.carry_out(self.step(now_ms, inputs))

    def step(self, now_ms: int, inputs: Iterable[Input]) -> list[Effect]:
        """Step the replica only, for a host that looks at the effects before it carries them out."""
        return self.replica.step(Tick(now_ms), *inputs)

    def carry_out(self, effects: Sequence[Effect]) -> None:
        """Commit effects and carry them out at once: `write`, then `finish`."""
        self.finish(self.write(effects))

    def write(self, effects: Sequence[Effect]) -> Written:
        """First half: write everything that must be in the journal. Nothing leaves the host."""
        journal, urgent = self.journal, False
        for effect in effects:
            if isinstance(effect, Persist):
                journal.append(effect.record, urgent=effect.urgent)
                urgent = urgent or effect.urgent
            elif isinstance(effect, Executed):
                journal.executed(effect)
            elif isinstance(effect, KeepSnapshot):
                journal.keep_snapshot(effect.sequence, effect.snapshot)
            elif isinstance(effect, Compact):
                journal.compact(effect.proof)
                urgent = True
        journal.write()
        return Written(effects, urgent)

    def finish(self, written: Written) -> bool:
        """Second half: wait for the disk if something is urgent, then carry the effects out, in order.

        Returns: False if the driver is stopped now.
        """
        if not self.stopped:
            self.journal.commit(urgent=written.urgent)
        for effect in written.effects:
            if self.stopped:
                break
            self._dispatch(effect)
        return not self.stopped

    def stop(self) -> None:
        """Carry nothing more out: the host ends this process."""
        self.stopped = True

    def _dispatch(self, effect: Effect) -> None:
        outputs = self._outputs
        if isinstance(effect, Broadcast):  # the most frequent first
            outputs.broadcast(effect.message)
        elif isinstance(effect, Persist):
            outputs.persisted(effect.record)
        elif isinstance(effect, Send):
            outputs.send(effect.to, effect.message)
        elif isinstance(effect, SendReply):
            outputs.reply(effect)
        elif isinstance(effect, SetTimer):
            outputs.set_timer(effect.at_ms)
        elif isinstance(effect, Executed):
            outputs.executed(effect)
        elif isinstance(effect, SendRefusal):
            outputs.refuse(effect)
        elif isinstance(effect, ServeDecisions | ServeChunk):
            if outputs.may_serve(effect.to):
                self._serve(effect)
        elif isinstance(effect, Compact):
            outputs.compacted(effect.proof)
        elif isinstance(effect, ReportEquivocation):
            outputs.equivocation(effect)
        elif isinstance(effect, MembersChanged):
            outputs.members_changed(effect.membership)
        elif isinstance(effect, Halt):
            self.stop()
            outputs.halt(effect.error)
        elif isinstance(effect, KeepSnapshot):
            pass  # in the journal since `write`
        else:
            assert_never(effect)

    def _serve(self, effect: ServeDecisions | ServeChunk) -> None:
        journal, outputs = self.journal, self._outputs
        if isinstance(effect, ServeDecisions):
            batches = journal.decisions(effect.first, effect.last, DECISIONS_BYTES)
            outputs.send(effect.to, Decisions(tuple(batches)))
            return
        size_bytes = self.replica.parameters.chunk_bytes
        data = journal.read_snapshot(effect.sequence, effect.index * size_bytes, size_bytes)
        if data is not None:
            outputs.send(effect.to, Chunk(effect.sequence, effect.index, data))
