"""One simulated aggregator: the real replica and ledger, driven as `network/aggregator/process.py` drives them.

A turn takes everything that has come, steps the replica with all of it at once, writes the log once, waits for the
disk if anything must be there, and only then sends. While it waits, frames queue. A host can be killed or lose its
power at any moment, also in the middle of a turn; what it had not sent then, nobody ever hears of.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Protocol, assert_never

from pot_lab.agreement.application import Application, Batch, Execution, RequestId, Seat
from pot_lab.consensus.membership import NO_SEAT, OUTSIDERS, Membership
from pot_lab.consensus.messages import Chunk, Decisions, Message, request_digest
from pot_lab.consensus.records import LogRecord, Stabilised
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
    Received,
    Recovered,
    ReportEquivocation,
    Restored,
    Send,
    SendRefusal,
    SendReply,
    ServeChunk,
    ServeDecisions,
    SetTimer,
    Submitted,
    Tick,
)
from pot_lab.errors import PotLabError
from pot_lab.simulator.clocks import Clock
from pot_lab.simulator.disks import Disk, Full, Journal
from pot_lab.simulator.links import Frame
from pot_lab.simulator.virtual_time import MILLISECOND_US, EventQueue

DECISIONS_BYTES = 2 * 1024 * 1024
_LONGEST_WAIT_US = 1_000_000
_DUTY_POLL_MS = 100
_SPIN_US = MILLISECOND_US


class World(Protocol):
    """What a node needs of what is around it."""

    queue: EventQueue

    def send(self, sender: int, receiver: int, frame: Frame) -> None: ...

    def broadcast(self, sender: int, hosts: int, frame: Frame) -> None: ...

    def on_sent(self, node: SimulatedNode, message: Message) -> None: ...

    def on_written(self, node: SimulatedNode, record: LogRecord) -> None: ...

    def on_stable(self, node: SimulatedNode, sequence: int) -> None: ...

    def on_executed(self, node: SimulatedNode, effect: Executed, batch: Batch) -> None: ...

    def on_reply(self, node: SimulatedNode, client: int, reply: SendReply) -> None: ...

    def on_refused(self, node: SimulatedNode, client: int, refusal: SendRefusal) -> None: ...

    def on_accusation(self, node: SimulatedNode, accused: int) -> None: ...

    def on_halt(self, node: SimulatedNode, error: PotLabError) -> None: ...

    def on_failure(self, node: SimulatedNode, error: Exception) -> None: ...

    def on_full_disk(self, node: SimulatedNode) -> None: ...

    def on_members(self, node: SimulatedNode, members: Membership) -> None: ...


class HostBehaviour(Protocol):
    """What makes a faulty host differ from a correct one; see `byzantine`."""

    def hear(self, node: SimulatedNode, inputs: list[Input]) -> list[Input]: ...

    def act(self, node: SimulatedNode, effects: list[Effect]) -> list[Effect]: ...

    def sends(self, node: SimulatedNode, receiver: int, message: Message) -> list[Message]: ...


class SimulatedDuty(Protocol):
    """What the aggregator says on its own account."""

    def poll(self, node: SimulatedNode) -> list[bytes]: ...


class Observed:
    """An application that remembers the batches which its replica has run and not yet told the world of."""

    def __init__(self, inner: Application) -> None:
        self.inner = inner
        self.batches: dict[int, Batch] = {}

    def validate(self, request: bytes) -> RequestId:
        return self.inner.validate(request)

    def execute(self, batch: Batch) -> Execution:
        self.batches[batch.sequence] = batch
        return self.inner.execute(batch)

    def due_ms(self) -> int | None:
        return self.inner.due_ms()

    def seats(self) -> tuple[Seat, ...] | None:
        return self.inner.seats()

    def query(self, name: str, arguments: bytes) -> bytes:
        return self.inner.query(name, arguments)

    def snapshot(self) -> bytes:
        return self.inner.snapshot()

    def restore(self, snapshot: bytes) -> None:
        self.inner.restore(snapshot)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class SimulatedNode:
    """A host that runs an aggregator.

    Args:
        world: what is around it.
        index: which aggregator it is.
        clock, disk: the host's.
        make_application, make_replica: called at each start of its process.
        addresses: every host's addresses; None where a host's number is its place in the one set that there is.
        turn_us: processor time of one turn; more on a slow host.
    Attributes:
        up: whether its process runs.
        life: how many processes it has had.
        behaviour: None while it is correct.
        duties: what it submits itself.
        members: the set of aggregators that its process works with.
        turns: how many there were.
        catch_ups: how many turns took decisions or a snapshot from a peer.
        snapshots: how many of them took a snapshot.
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
        self.world, self.index, self.clock, self.disk, self.random = world, index, clock, disk, random
        self.turn_us = turn_us
        self.up, self.life = False, 0
        self.behaviour: HostBehaviour | None = None
        self.duties: Sequence[SimulatedDuty] = ()
        self.turns = self.catch_ups = self.snapshots = 0
        self._hosts = {address: host for host, own in enumerate(addresses or ()) for address in own}
        self._stopped_until_us = 0
        self._make_application, self._make_replica = make_application, make_replica

    @property
    def is_correct(self) -> bool:
        """Whether it does as the protocol says."""
        return self.behaviour is None

    # Its process.

    def start(self) -> None:
        """Start the process: read the log back, then work."""
        self.up, self.life = True, self.life + 1
        self.application = Observed(self._make_application())
        self.replica = self._make_replica(self.index, self.application)
        self.members = self._numbered = self.replica.membership
        self._numbers: dict[int, int] = self._numbers_in(self.members)
        self.journal = Journal(self.disk)
        self._inbox: list[Input] = []
        self._from_clients: list[tuple[int, bytes, bool]] = []
        self._waiting: defaultdict[bytes, list[int]] = defaultdict(list)
        self._timer_ms: int | None = None
        self._duty_at_ms = 0
        self._busy = False
        self._turn_at_us: int | None = None
        self._stopped_until_us = 0
        effects: list[Effect] = []
        try:
            effects += self.replica.step(Tick(self.clock.now_ms))
            for number, records in enumerate(self.journal.recover()):
                if number == 0 and records and isinstance(records[0], Stabilised):
                    proof = records[0].proof
                    effects += self.replica.step(Restored(proof, self.disk.snapshots[proof.sequence]))
                effects += self.replica.step(Recovered(records, final=False))
                for record in records:
                    if isinstance(record, Stabilised):  # it may have died before it told that this was written
                        self.world.on_stable(self, record.proof.sequence)
            effects += self.replica.step(Recovered((), final=True))
        except Exception as error:
            self._fail(error)
            return
        self._write(self._changed(effects), 0)

    def kill(self, *, power: bool = False) -> None:
        """End the process now; with `power` the host goes dark."""
        self.up = False
        self.disk.lose_memory()
        if power:
            self.disk.lose_power(self.random)

    def stop(self, until_us: int) -> None:
        """Let the process stand still until then (SIGSTOP, SIGCONT): what comes meanwhile waits for it."""
        self._stopped_until_us = until_us

    def hear(self, sender: int, frame: Frame) -> None:
        """A frame from another aggregator has arrived."""
        if self.up:
            if self.replica.membership is not self._numbered:
                self._numbered = self.replica.membership
                self._numbers = self._numbers_in(self._numbered)
            self._inbox.append(Received(self._numbers.get(sender, OUTSIDERS + sender), frame.message))
            self._wake(self.world.queue.now_us)

    def ask(self, client: int, request: bytes, spread: bool) -> None:
        """A request from a client has arrived."""
        if self.up:
            self._from_clients.append((client, request, spread))
            self._wake(self.world.queue.now_us)

    # Its loop.

    def _wake(self, at_us: int) -> None:
        if self._busy or (self._turn_at_us is not None and self._turn_at_us <= at_us):
            return
        self._turn_at_us, life = at_us, self.life
        self.world.queue.at(at_us, lambda: self._fire(life, at_us))

    def _fire(self, life: int, at_us: int) -> None:
        if self._is_over(life) or at_us != self._turn_at_us or self._busy:
            return
        if self.world.queue.now_us < self._stopped_until_us:
            self.world.queue.at(self._stopped_until_us, lambda: self._fire(life, at_us))
            return
        self._turn_at_us = None
        self._turn()

    def _turn(self) -> None:
        self.turns += 1
        inputs, self._inbox = self._inbox, []
        for client, request, spread in self._from_clients:
            self._waiting[request_digest(request)].append(client)
            inputs.append(Submitted(request, spread))
        self._from_clients = []
        inputs += [Submitted(request) for request in self._said_by_duties()]
        if self.behaviour is not None:
            inputs = self.behaviour.hear(self, inputs)
        counters = self.replica.counters
        batches, snapshots = counters["batches_fetched"], counters["snapshots_fetched"]
        try:
            effects = self.replica.step(Tick(self.clock.now_ms), *inputs)
        except Exception as error:
            self._fail(error)
            return
        jumped = counters["snapshots_fetched"] > snapshots
        self.catch_ups += jumped or counters["batches_fetched"] > batches
        self.snapshots += jumped
        self._write(self._changed(effects), self.turn_us)

    def _said_by_duties(self) -> list[bytes]:
        now_ms = self.clock.now_ms
        if now_ms < self._duty_at_ms:
            return []
        self._duty_at_ms = now_ms + _DUTY_POLL_MS
        return [request for duty in self.duties for request in duty.poll(self)]

    def _changed(self, effects: list[Effect]) -> list[Effect]:
        return effects if self.behaviour is None else self.behaviour.act(self, effects)

    def _write(self, effects: list[Effect], spent_us: int) -> None:
        """Write first; what is left of the turn happens when the disk has it."""
        urgent = False
        try:
            for effect in effects:
                if isinstance(effect, Persist):
                    self.append(effect.record)
                    urgent = urgent or effect.urgent
                elif isinstance(effect, KeepSnapshot):
                    self.disk.keep(effect.sequence, effect.snapshot)
                elif isinstance(effect, Compact):
                    urgent = True
            self.disk.write()
        except Full:
            self._end_with_full_disk()
            return
        self._busy = True
        life = self.life
        wait_us = self.disk.sync_us if urgent else 0
        self.world.queue.after(spent_us + wait_us, lambda: self._finish(life, effects, urgent))

    def append(self, record: LogRecord) -> None:
        """Queue a record for the disk."""
        self.journal.append(record)

    def sync(self) -> None:
        """Wait for the disk."""
        self.disk.sync()

    def _finish(self, life: int, effects: list[Effect], urgent: bool) -> None:
        if self._is_over(life):
            return
        if self.world.queue.now_us < self._stopped_until_us:
            self.world.queue.at(self._stopped_until_us, lambda: self._finish(life, effects, urgent))
            return
        if urgent:
            self.sync()
        for effect in effects:
            self._carry_out(effect)
            if self._is_over(life):
                return
        self._busy = False
        now_us = self.world.queue.now_us
        if self._inbox or self._from_clients:
            self._wake(now_us)
            return
        until_us = now_us + _LONGEST_WAIT_US
        if self._timer_ms is not None:
            until_us = min(until_us, max(self.clock.when_us(self._timer_ms), now_us + _SPIN_US))
        if self.duties and self._duty_at_ms == 0:
            until_us = now_us
        self._wake(until_us)

    def _is_over(self, life: int) -> bool:
        return not self.up or life != self.life

    def _carry_out(self, effect: Effect) -> None:
        world = self.world
        if isinstance(effect, Broadcast):
            self.broadcast(effect.message)
        elif isinstance(effect, Send):
            self.send(effect.to, effect.message)
        elif isinstance(effect, Executed):
            self._duty_at_ms = 0
            world.on_executed(self, effect, self.application.batches.pop(effect.sequence))
        elif isinstance(effect, SendReply):
            for client in self._waiting.pop(effect.digest, ()):
                world.on_reply(self, client, effect)
        elif isinstance(effect, SendRefusal):
            for client in self._waiting.pop(effect.digest, ()):
                world.on_refused(self, client, effect)
        elif isinstance(effect, SetTimer):
            self._timer_ms = effect.at_ms
        elif isinstance(effect, ServeDecisions):
            batches = self.journal.decisions(effect.first, effect.last, DECISIONS_BYTES)
            self.send(effect.to, Decisions(tuple(batches)))
        elif isinstance(effect, Compact):
            try:
                self.journal.compact(effect.proof)
                world.on_stable(self, effect.proof.sequence)
            except Full:
                self._end_with_full_disk()
        elif isinstance(effect, ServeChunk):
            chunk = self.journal.chunk(effect.sequence, effect.index)
            if chunk is not None:
                self.send(effect.to, Chunk(effect.sequence, effect.index, chunk))
        elif isinstance(effect, ReportEquivocation):
            world.on_accusation(self, effect.accused)
        elif isinstance(effect, Halt):
            self.kill()
            world.on_halt(self, effect.error)
        elif isinstance(effect, Persist):
            if self.behaviour is None:
                world.on_written(self, effect.record)
        elif isinstance(effect, MembersChanged):
            self.members = effect.membership
            world.on_members(self, self.members)
        elif isinstance(effect, KeepSnapshot):
            pass  # written before
        else:
            assert_never(effect)

    def broadcast(self, message: Message) -> None:
        """Send to every other aggregator; without a seat, to every host."""
        if self.members.since or self.members.index == NO_SEAT:
            hosts = sorted(self._hosts_of_members())
        elif self.behaviour is not None:
            hosts = list(range(self.members.n))
        else:
            self.world.on_sent(self, message)
            self.world.broadcast(self.index, self.members.n, Frame(message))
            return
        for host in hosts:
            if host != self.index:
                self._send_to_host(host, message)

    def send(self, receiver: int, message: Message) -> None:
        """Send to one other aggregator, by its number in the set."""
        if receiver >= OUTSIDERS:
            receiver -= OUTSIDERS
        elif self._hosts:
            receiver = self._hosts[self.members.addresses[receiver]]
        self._send_to_host(receiver, message)

    def _send_to_host(self, host: int, message: Message) -> None:
        if self.behaviour is not None:
            for changed in self.behaviour.sends(self, host, message):
                self.world.send(self.index, host, Frame(changed))
            return
        self.world.on_sent(self, message)
        self.world.send(self.index, host, Frame(message))

    def _numbers_in(self, members: Membership) -> dict[int, int]:
        """Each host's place in a set, if it has one."""
        if not self._hosts:
            return {index: index for index in range(members.n)}
        return {self._hosts[address]: place for place, address in enumerate(members.addresses)}

    def _hosts_of_members(self) -> set[int]:
        if self.members.index == NO_SEAT:
            return set(self._hosts.values())
        return {self._hosts[address] for address in self.members.addresses}

    def _end_with_full_disk(self) -> None:
        self.kill()
        self.world.on_full_disk(self)

    def _fail(self, error: Exception) -> None:
        """The process fell over: that must never happen to a correct one."""
        self.kill()
        self.world.on_failure(self, error)
