"""One simulated aggregator: the real replica and ledger on the real driver, with virtual clock, disk and links.

A turn drains everything that has arrived and goes through `consensus/driver.py`, as the aggregator's own does. Between
the two halves of a turn the disk works and frames queue. A host can be killed or lose its power at any moment, also in
the middle of a turn; then nothing of what it had not sent yet leaves it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from random import Random
from typing import Protocol

from pot_lab.agreement.application import Application, Batch
from pot_lab.consensus.driver import Driver, Written
from pot_lab.consensus.membership import NO_SEAT, Membership
from pot_lab.consensus.messages import CheckpointProof, Message, request_digest
from pot_lab.consensus.records import LogRecord
from pot_lab.consensus.replica import Replica
from pot_lab.consensus.steps import (
    Effect,
    Executed,
    Input,
    Received,
    ReportEquivocation,
    SendRefusal,
    SendReply,
    Submitted,
)
from pot_lab.errors import InvariantBroken, PotLabError
from pot_lab.simulator.clocks import Clock
from pot_lab.simulator.disks import Disk, Full, SimulatedJournal
from pot_lab.simulator.hosts import Directory, Machine, Observed, Program
from pot_lab.simulator.links import Frame
from pot_lab.simulator.virtual_time import MILLISECOND_US, EventQueue

_LONGEST_WAIT_US = 1_000_000
_DUTY_POLL_MS = 100
_SHORTEST_WAIT_US = MILLISECOND_US


class World(Protocol):
    """What a node needs of what is around it: links, and observers of everything that it does."""

    queue: EventQueue

    def send(self, sender: int, receiver: int, frame: Frame) -> None:
        """Put a frame on the link between two hosts."""

    def broadcast(self, sender: int, hosts: int, frame: Frame) -> None:
        """Put a frame on the sender's links to the first `hosts` hosts."""

    def on_sent(self, node: SimulatedNode, message: Message) -> None:
        """A correct node sends a message."""

    def on_written(self, node: SimulatedNode, record: LogRecord) -> None:
        """A correct node has a record in its log."""

    def on_stable(self, node: SimulatedNode, sequence: int) -> None:
        """A node's log begins with the checkpoint of this sequence."""

    def on_executed(self, node: SimulatedNode, effect: Executed, batch: Batch) -> None:
        """A node has executed a batch."""

    def on_reply(self, node: SimulatedNode, client: int, reply: SendReply) -> None:
        """A node answers a client."""

    def on_refused(self, node: SimulatedNode, client: int, refusal: SendRefusal) -> None:
        """A node refuses a client's request."""

    def on_accusation(self, node: SimulatedNode, accused: int) -> None:
        """A node has evidence against the replica with this index."""

    def on_halt(self, node: SimulatedNode, error: PotLabError) -> None:
        """A node's replica has halted."""

    def on_failure(self, node: SimulatedNode, error: Exception) -> None:
        """A node's step has raised."""

    def on_full_disk(self, node: SimulatedNode) -> None:
        """A node's process has ended because its disk is full."""

    def on_members(self, node: SimulatedNode, members: Membership) -> None:
        """Another set of replicas is in force at a node."""


class HostBehaviour(Protocol):
    """What makes a faulty host differ from a correct one; see `byzantine`."""

    def on_inputs(self, node: SimulatedNode, inputs: list[Input]) -> list[Input]:
        """The inputs that its replica gets in place of these."""

    def on_effects(self, node: SimulatedNode, effects: list[Effect]) -> list[Effect]:
        """The effects that are carried out in place of these."""

    def on_send(self, node: SimulatedNode, receiver: int, message: Message) -> list[Message]:
        """The messages that host `receiver` gets in place of this one."""


class SimulatedDuty(Protocol):
    """Something that an aggregator submits requests for on its own account."""

    def poll(self, node: SimulatedNode) -> list[bytes]:
        """The requests to submit now."""


class SimulatedNode:
    """A host that runs an aggregator.

    Args:
        world: what is around it.
        index: which aggregator it is.
        clock, disk: the host's.
        random: decides what a power cut leaves of what was written.
        make_application, make_replica: called at each start of its process.
        addresses: every host's addresses; None where a host's number is its index in the one set that there is.
        turn_us: processor time of one turn.
    Attributes:
        life: how many processes it has had.
        behaviour: None while it is correct.
        duties: what it submits itself.
        counts: `turns`; `catch_ups`, turns that took decisions or a snapshot from a peer; `snapshots`, those of them
            that took a snapshot.
    """

    def __init__(
        self,
        world: World,
        index: int,
        clock: Clock,
        disk: Disk,
        random: Random,
        make_application: Callable[[], Application],
        make_replica: Callable[[int, Application], Replica],
        *,
        addresses: Sequence[Sequence[bytes]] | None = None,
        turn_us: int = 50,
    ) -> None:
        self.world, self.index = world, index
        self.machine = Machine(clock=clock, disk=disk, random=random, turn_us=turn_us)
        self.directory = Directory(addresses)
        self.life = 0
        self.behaviour: HostBehaviour | None = None
        self.duties: Sequence[SimulatedDuty] = ()
        self.counts: Counter[str] = Counter()
        self._program = Program(make_application, make_replica)
        self._process: Process | None = None

    @property
    def clock(self) -> Clock:
        """The host's clock."""
        return self.machine.clock

    @property
    def disk(self) -> Disk:
        """The host's disk."""
        return self.machine.disk

    @property
    def is_correct(self) -> bool:
        """Whether it follows the protocol."""
        return self.behaviour is None

    @property
    def up(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and not self._process.driver.stopped

    @property
    def process(self) -> Process:
        """Its process, or the last one that it had; raises InvariantBroken before the first."""
        if self._process is None:
            raise InvariantBroken("a simulated host has not been started", seen=self.index)
        return self._process

    @property
    def replica(self) -> Replica:
        """The replica of its process."""
        return self.process.replica

    @property
    def application(self) -> Observed:
        """The application of its process."""
        return self.process.application

    @property
    def members(self) -> Membership:
        """The set of replicas that its process works with."""
        return self.process.members

    def start(self) -> None:
        """Start the process: read the log back, then work."""
        self.life += 1
        self.machine.stopped_until_us = 0
        self._process = Process(self, self._program)
        self._process.start()

    def kill(self, *, power: bool = False) -> None:
        """End the process now; with `power` the host goes dark."""
        if self._process is not None:
            self._process.driver.stop()
        self.disk.lose_memory()
        if power:
            self.disk.lose_power(self.machine.random)

    def stop(self, until_us: int) -> None:
        """Let the process stand still until then (SIGSTOP, SIGCONT): what arrives meanwhile waits for it."""
        self.machine.stopped_until_us = until_us

    def on_frame(self, sender: int, frame: Frame) -> None:
        """A frame from another host has arrived."""
        if self._process is not None and not self._process.driver.stopped:
            self._process.on_frame(sender, frame)

    def on_request(self, client: int, request: bytes, spread: bool) -> None:
        """A request from a client has arrived; with `spread` the client sent it to every aggregator."""
        if self._process is not None and not self._process.driver.stopped:
            self._process.on_request(client, request, spread)

    def fail(self, error: Exception) -> None:
        """End the process because its step raised: that must never happen to a correct one."""
        self.kill()
        self.world.on_failure(self, error)

    def end_with_full_disk(self) -> None:
        """End the process because its disk has no room."""
        self.kill()
        self.world.on_full_disk(self)


class Schedule:
    """When a process takes its next turn.

    Attributes:
        timer_ms: when its replica wants a turn, by the host's clock; None: not at all.
        duties_at_ms: when its duties are polled next.
        busy: whether a turn waits for the disk.
        turn_at_us: when the next turn is taken, in virtual time.
    """

    def __init__(self) -> None:
        self.timer_ms: int | None = None
        self.duties_at_ms = 0
        self.busy = False
        self.turn_at_us: int | None = None


class Process:
    """One life of an aggregator: what a kill takes away. The outputs of its driver.

    Args:
        node: the host that it runs on.
        program: what it runs.
    Attributes:
        members: the set of replicas that its effects are meant for.
    """

    def __init__(self, node: SimulatedNode, program: Program) -> None:
        self.node = node
        self.application = Observed(program.make_application())
        self.replica = program.make_replica(node.index, self.application)
        self.members = self.replica.membership
        self.journal = SimulatedJournal(node.disk)
        self.driver = Driver(self.replica, self.journal, self)
        self._inputs: list[Input] = []
        self._requests: list[tuple[int, bytes, bool]] = []
        self._waiting: defaultdict[bytes, list[int]] = defaultdict(list)
        self._schedule = Schedule()

    def start(self) -> None:
        """Replay the log; what follows from it is carried out as one turn."""
        effects: list[Effect] = []
        try:
            for part in self.driver.recover(self.node.clock.now_ms):
                effects += part
        except Exception as error:
            self.node.fail(error)
            return
        for sequence in self.journal.stabilised:  # the process before may have ended before it reported these
            self.node.world.on_stable(self.node, sequence)
        self._write(self._changed(effects), 0)

    def on_frame(self, sender: int, frame: Frame) -> None:
        """Queue a frame for the next turn."""
        index = self.node.directory.index_of(sender, self.replica.membership)
        self._inputs.append(Received(index, frame.message))
        self._wake(self.node.world.queue.now_us)

    def on_request(self, client: int, request: bytes, spread: bool) -> None:
        """Queue a client's request for the next turn."""
        self._requests.append((client, request, spread))
        self._wake(self.node.world.queue.now_us)

    # Its loop.

    def _wake(self, at_us: int) -> None:
        schedule = self._schedule
        if schedule.busy or (schedule.turn_at_us is not None and schedule.turn_at_us <= at_us):
            return
        schedule.turn_at_us = at_us
        self.node.world.queue.at(at_us, lambda: self._fire(at_us))

    def _fire(self, at_us: int) -> None:
        if self.driver.stopped or at_us != self._schedule.turn_at_us or self._schedule.busy:
            return
        if self._stands_still(lambda: self._fire(at_us)):
            return
        self._schedule.turn_at_us = None
        self._turn()

    def _stands_still(self, action: Callable[[], None]) -> bool:
        """Whether the process is stopped now; then `action` is taken when it goes on."""
        queue, until_us = self.node.world.queue, self.node.machine.stopped_until_us
        if queue.now_us >= until_us:
            return False
        queue.at(until_us, action)
        return True

    def _turn(self) -> None:
        node = self.node
        node.counts["turns"] += 1
        inputs, self._inputs = self._inputs, []
        for client, request, spread in self._requests:
            digest = request_digest(request)
            self._waiting[digest].append(client)
            inputs.append(Submitted(request, spread, digest))
        self._requests = []
        inputs += [Submitted(request) for request in self._requests_of_duties()]
        if node.behaviour is not None:
            inputs = node.behaviour.on_inputs(node, inputs)
        counters = self.replica.counters
        batches, snapshots = counters["batches_fetched"], counters["snapshots_fetched"]
        try:
            effects = self.driver.step(node.clock.now_ms, inputs)
        except Exception as error:
            node.fail(error)
            return
        jumped = counters["snapshots_fetched"] > snapshots
        node.counts["catch_ups"] += jumped or counters["batches_fetched"] > batches
        node.counts["snapshots"] += jumped
        self._write(self._changed(effects), node.machine.turn_us)

    def _requests_of_duties(self) -> list[bytes]:
        now_ms = self.node.clock.now_ms
        if now_ms < self._schedule.duties_at_ms:
            return []
        self._schedule.duties_at_ms = now_ms + _DUTY_POLL_MS
        return [request for duty in self.node.duties for request in duty.poll(self.node)]

    def _changed(self, effects: list[Effect]) -> list[Effect]:
        behaviour = self.node.behaviour
        return effects if behaviour is None else behaviour.on_effects(self.node, effects)

    def _write(self, effects: list[Effect], spent_us: int) -> None:
        """Take the first half of a turn; the second one follows when the disk is done."""
        try:
            written = self.driver.write(effects)
        except Full:
            self.node.end_with_full_disk()
            return
        self._schedule.busy = True
        wait_us = self.node.disk.sync_us if written.urgent else 0
        self.node.world.queue.after(spent_us + wait_us, lambda: self._finish(written))

    def _finish(self, written: Written) -> None:
        if self.driver.stopped or self._stands_still(lambda: self._finish(written)):
            return
        try:
            goes_on = self.driver.finish(written)
        except Full:
            self.node.end_with_full_disk()
            return
        if not goes_on:
            return
        schedule = self._schedule
        schedule.busy = False
        now_us = self.node.world.queue.now_us
        if self._inputs or self._requests:
            self._wake(now_us)
            return
        until_us = now_us + _LONGEST_WAIT_US
        if schedule.timer_ms is not None:
            until_us = min(until_us, max(self.node.clock.when_us(schedule.timer_ms), now_us + _SHORTEST_WAIT_US))
        if self.node.duties and schedule.duties_at_ms == 0:
            until_us = now_us
        self._wake(until_us)

    # What its driver carries out.

    def broadcast(self, message: Message) -> None:
        """Send to every other aggregator; without a seat, to every host."""
        node, members = self.node, self.members
        if members.since or members.index == NO_SEAT:
            hosts = node.directory.hosts_of(members)
        elif node.behaviour is not None:
            hosts = list(range(members.n))
        else:
            node.world.on_sent(node, message)
            node.world.broadcast(node.index, members.n, Frame(message))
            return
        for host in hosts:
            if host != node.index:
                self._send_to_host(host, message)

    def send(self, to: int, message: Message) -> None:
        """Send to one other aggregator, by its index in the set."""
        self._send_to_host(self.node.directory.host_of(to, self.members), message)

    def may_serve(self, to: int) -> bool:
        """Always: no node floods another."""
        return True

    def _send_to_host(self, host: int, message: Message) -> None:
        node = self.node
        if node.behaviour is not None:
            for changed in node.behaviour.on_send(node, host, message):
                node.world.send(node.index, host, Frame(changed))
            return
        node.world.on_sent(node, message)
        node.world.send(node.index, host, Frame(message))

    def reply(self, reply: SendReply) -> None:
        """Answer the clients that submitted the request to this process."""
        for client in self._waiting.pop(reply.digest, ()):
            self.node.world.on_reply(self.node, client, reply)

    def refuse(self, refusal: SendRefusal) -> None:
        """Refuse the request of the clients that submitted it to this process."""
        for client in self._waiting.pop(refusal.digest, ()):
            self.node.world.on_refused(self.node, client, refusal)

    def executed(self, batch: Executed) -> None:
        """Report the batch, and poll the duties at the next turn."""
        self._schedule.duties_at_ms = 0
        self.node.world.on_executed(self.node, batch, self.application.batches.pop(batch.sequence))

    def set_timer(self, at_ms: int | None) -> None:
        """Take a turn at this time of the host's clock."""
        self._schedule.timer_ms = at_ms

    def persisted(self, record: LogRecord) -> None:
        """Report what a correct node has written."""
        if self.node.is_correct:
            self.node.world.on_written(self.node, record)

    def compacted(self, proof: CheckpointProof) -> None:
        """Compact the log, and report the checkpoint that it begins with; raises Full."""
        self.journal.replace_log(proof)
        self.node.world.on_stable(self.node, proof.sequence)

    def equivocation(self, report: ReportEquivocation) -> None:
        """Report who was proved to have signed two contradicting votes."""
        self.node.world.on_accusation(self.node, report.accused)

    def members_changed(self, membership: Membership) -> None:
        """Work with another set from here on."""
        self.members = membership
        self.node.world.on_members(self.node, membership)

    def halt(self, error: PotLabError) -> None:
        """End the process."""
        self.node.kill()
        self.node.world.on_halt(self.node, error)
