"""A set of replicas in virtual time: one seed decides every delay, loss, duplicate and crash.

The application is a per-account register, so what was executed, and how often, can be read back from every replica.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator, Sequence

from pot_lab.agreement.application import Batch, Execution, RequestId, Seat
from pot_lab.consensus.driver import Driver
from pot_lab.consensus.membership import NO_SEAT, OUTSIDERS, Membership
from pot_lab.consensus.messages import (
    CheckpointProof,
    DecidedBatch,
    Message,
    decode_message,
    encode_message,
    request_digest,
)
from pot_lab.consensus.parameters import ConsensusParameters
from pot_lab.consensus.records import (
    Accepted,
    Decided,
    Fetched,
    LogRecord,
    Stabilised,
    compacted,
    decided_batch,
    decode_record,
    encode_record,
)
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
from pot_lab.crypto.canonical import decode, encode, sha256, tagged_hash
from pot_lab.crypto.identity import Identity
from pot_lab.errors import Malformed, PotLabError

NETWORK_ID = bytes(range(32))
START_MS = 1_700_000_000_000
ACCOUNT_BYTES, NONCE_BYTES = 20, 8
SEATS = b"seats:"


def make_request(account: int, nonce: int, payload: bytes = b"") -> bytes:
    """A request of the register: account, nonce, payload."""
    return account.to_bytes(ACCOUNT_BYTES, "big") + nonce.to_bytes(NONCE_BYTES, "big") + payload


def ask_for_seats(account: int, nonce: int, identities: Sequence[Identity]) -> bytes:
    """A request that makes the register ask for another set of replicas."""
    seats = tuple(Seat(each.address, b"at " + each.address) for each in identities)
    return make_request(account, nonce, SEATS + encode(seats))


class Register:
    """Counts each account's requests and remembers their order; wants an empty batch at each time in `wanted_ms`."""

    def __init__(self) -> None:
        self.executed: list[bytes] = []
        self.times_ms: list[int] = []
        self.last_nonce: dict[bytes, int] = {}
        self.wanted_ms: list[int] = []
        self.salt = b""
        self.asked_for: tuple[Seat, ...] | None = None
        self.eras: list[int] = []

    def validate(self, request: bytes) -> RequestId:
        if len(request) < ACCOUNT_BYTES + NONCE_BYTES or request.endswith(b"invalid"):
            raise Malformed("no register request", seen=request)
        nonce = int.from_bytes(request[ACCOUNT_BYTES : ACCOUNT_BYTES + NONCE_BYTES], "big")
        return RequestId(request[:ACCOUNT_BYTES], nonce)

    def execute(self, batch: Batch) -> Execution:
        replies = []
        for request in batch.requests:
            id_ = self.validate(request)
            if id_.nonce <= self.last_nonce.get(id_.account, -1):
                replies.append(b"stale nonce")
                continue
            self.last_nonce[id_.account] = id_.nonce
            self._take(request)
            replies.append(b"done %d" % len(self.executed))
        self.times_ms.append(batch.time_ms)
        self.eras.append(batch.since)
        self.wanted_ms = [at_ms for at_ms in self.wanted_ms if at_ms > batch.time_ms]
        return Execution(tuple(replies), tuple(b"event " + r for r in batch.requests), self._digest())

    def _take(self, request: bytes) -> None:
        self.executed.append(request)
        payload = request[ACCOUNT_BYTES + NONCE_BYTES :]
        if payload.startswith(SEATS):
            self.asked_for = decode(payload[len(SEATS) :], tuple[Seat, ...], limit_bytes=1 << 20)

    def _digest(self) -> bytes:
        return tagged_hash("register", self.salt, encode((tuple(self.executed), tuple(self.times_ms))))

    def due_ms(self) -> int | None:
        return min(self.wanted_ms, default=None)

    def seats(self) -> tuple[Seat, ...] | None:
        return self.asked_for

    def query(self, name: str, arguments: bytes) -> bytes:
        raise PotLabError("the register answers no queries", seen=name)

    def snapshot(self) -> bytes:
        return encode((tuple(self.executed), tuple(self.times_ms)))

    def restore(self, snapshot: bytes) -> None:
        executed, times_ms = decode(snapshot, tuple[tuple[bytes, ...], tuple[int, ...]], limit_bytes=1 << 30)
        self.executed, self.times_ms = [], list(times_ms)
        self.last_nonce = {}
        for request in executed:
            self._take(request)
            id_ = self.validate(request)
            self.last_nonce[id_.account] = id_.nonce


class Log:
    """A node's log and snapshots in memory (`driver.Journal`)."""

    def __init__(self, node: Node) -> None:
        self.node = node

    def beginning(self) -> tuple[CheckpointProof, bytes] | None:
        first = decode_record(self.node.disk[0]) if self.node.disk else None
        return (first.proof, self.node.snapshots[first.proof.sequence]) if isinstance(first, Stabilised) else None

    def recover(self) -> Iterator[tuple[LogRecord, ...]]:
        records = [decode_record(data) for data in self.node.disk]
        middle = len(records) // 2
        yield tuple(records[:middle])
        yield tuple(records[middle:])

    def append(self, record: LogRecord, *, urgent: bool) -> None:
        self.node.unsynced.append(encode_record(record))

    def executed(self, batch: Executed) -> None:
        pass

    def keep_snapshot(self, sequence: int, snapshot: bytes) -> None:
        self.node.snapshots[sequence] = snapshot

    def compact(self, proof: CheckpointProof) -> None:
        node = self.node
        records = compacted(proof, map(decode_record, node.disk + node.unsynced))
        node.disk, node.unsynced = list(map(encode_record, records)), []
        node.snapshots = {at: data for at, data in node.snapshots.items() if at >= proof.sequence}

    def write(self) -> None:
        pass

    def commit(self, *, urgent: bool) -> None:
        if urgent:
            self.node.disk += self.node.unsynced
            self.node.unsynced = []

    def decisions(self, first: int, last: int, limit_bytes: int) -> list[DecidedBatch]:
        accepted: dict[int, Accepted] = {}
        found: dict[int, DecidedBatch] = {}
        for data in self.node.disk + self.node.unsynced:
            record: LogRecord = decode_record(data)
            if isinstance(record, Accepted):
                accepted[record.proposal.sequence] = record
            elif isinstance(record, Decided):
                found[record.sequence] = decided_batch(accepted[record.sequence], record)
            elif isinstance(record, Fetched):
                found[record.batch.sequence] = record.batch
        return [found[sequence] for sequence in range(first, last + 1) if sequence in found]

    def read_snapshot(self, sequence: int, start: int, size_bytes: int) -> bytes | None:
        return self.node.snapshots[sequence][start : start + size_bytes]


class Node:
    """One replica with its disk; the outputs of its driver. `up` is whether its process runs."""

    def __init__(self, cluster: Cluster, index: int) -> None:
        self.cluster, self.index = cluster, index
        self.disk: list[bytes] = []
        self.unsynced: list[bytes] = []
        self.snapshots: dict[int, bytes] = {}
        self.skew_ms = 0
        self.life = 0
        self.effects: list[Effect] = []
        self.start()

    def start(self, make_application: Callable[[], Register] | None = None) -> None:
        self.life, self.timer_ms = self.life + 1, None
        self.application = (make_application or self.cluster.make_application)()
        first = self.cluster.addresses
        index = self.index if self.index < len(first) else NO_SEAT
        self.membership = Membership(network_id=NETWORK_ID, addresses=first, index=index)
        identity, *spare = self.cluster.keys_of(self.index)
        self.replica = Replica(self.membership, identity, self.application, self.cluster.parameters, spare=spare)
        self.driver = Driver(self.replica, Log(self), self)
        for effects in self.driver.recover(self.now_ms):
            self.effects += effects
            self.driver.carry_out(effects)

    def crash(self, *, keep_unsynced: int = 0) -> None:
        """End the process: of what was not synced, the disk keeps the first records at most."""
        self.driver.stop()
        self.disk += self.unsynced[:keep_unsynced]
        self.unsynced = []

    @property
    def up(self) -> bool:
        return not self.driver.stopped

    @property
    def now_ms(self) -> int:
        return self.cluster.now_ms + self.skew_ms

    def step(self, *inputs: Input) -> None:
        effects = self.driver.step(self.now_ms, inputs)
        self.effects += effects
        self.driver.carry_out(effects)

    def send(self, to: int, message: Message) -> None:
        self.cluster.send(self.index, self.host_of(to), encode_message(message))

    def broadcast(self, message: Message) -> None:
        data = encode_message(message)
        hosts = range(len(self.cluster.nodes))
        if self.membership.index != NO_SEAT:
            hosts = sorted(map(self.host_of, range(self.membership.n)))
        for host in hosts:
            if host != self.index:
                self.cluster.send(self.index, host, data)

    def may_serve(self, to: int) -> bool:
        return True

    def reply(self, reply: SendReply) -> None:
        self.cluster.on_reply(self, reply)

    def refuse(self, refusal: SendRefusal) -> None:
        self.cluster.refusals.append(refusal)

    def executed(self, batch: Executed) -> None:
        self.cluster.on_executed(self, batch)

    def set_timer(self, at_ms: int | None) -> None:
        self.timer_ms = at_ms
        if at_ms is not None:
            life, cluster = self.life, self.cluster
            cluster.at(max(at_ms - self.skew_ms, cluster.now_ms + 1), lambda: self.fire(life, at_ms))

    def persisted(self, record: LogRecord) -> None:
        pass

    def compacted(self, proof: CheckpointProof) -> None:
        pass

    def equivocation(self, report: ReportEquivocation) -> None:
        self.cluster.accusations.append(report)

    def members_changed(self, membership: Membership) -> None:
        self.membership = membership

    def halt(self, error: PotLabError) -> None:
        self.cluster.halts.append((self.index, error))

    def host_of(self, replica: int) -> int:
        """The host behind an index of the set that this node knows."""
        if replica >= OUTSIDERS:
            return replica - OUTSIDERS
        return self.cluster.hosts[self.membership.addresses[replica]]

    def number_of(self, host: int) -> int:
        """A host's number in the set in force here."""
        addresses = self.replica.membership.addresses
        own = (each.address for each in self.cluster.keys_of(host))
        return next((addresses.index(address) for address in own if address in addresses), OUTSIDERS + host)

    def fire(self, life: int, at_ms: int | None) -> None:
        if self.up and life == self.life and at_ms == self.timer_ms:
            self.timer_ms = None
            self.step()
            if self.timer_ms is None:  # the replica still counts on the timer that has just fired
                self.cluster.after(10, lambda: self.poke(life))

    def poke(self, life: int) -> None:
        if self.up and life == self.life:
            self.step()


class Cluster:
    """n replicas, the links between them, and what is checked after each step."""

    def __init__(
        self, n: int = 4, seed: int = 0, parameters: ConsensusParameters | None = None, delay_ms: int = 2
    ) -> None:
        self.random = random.Random(seed)
        self.parameters = parameters or ConsensusParameters()
        self.now_ms = START_MS
        self.delay_ms, self.jitter_ms = delay_ms, 0
        self.loss = self.duplication = 0.0
        self.cut: Callable[[int, int], bool] = lambda sender, to: False
        self.tamper: Callable[[int, int, bytes], bytes | None] = lambda sender, to, data: data
        self.identities = [Identity(sha256(b"replica %d" % i)) for i in range(n)]
        self.addresses = tuple(identity.address for identity in self.identities)
        self.spare: dict[int, list[Identity]] = {}
        self.hosts = {address: host for host, address in enumerate(self.addresses)}
        self.make_application: Callable[[], Register] = Register
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._ticket = 0
        self.decided: dict[int, tuple[bytes, int]] = {}
        self.replies: dict[bytes, dict[int, SendReply]] = {}
        self.accusations: list[ReportEquivocation] = []
        self.halts: list[tuple[int, PotLabError]] = []
        self.refusals: list[SendRefusal] = []
        self.nodes: list[Node] = []
        for i in range(n):
            self.nodes.append(Node(self, i))

    def keys_of(self, host: int) -> list[Identity]:
        """A host's keys: the one that it begins with, and those that it may use later."""
        return [self.identities[host], *self.spare.get(host, [])]

    def give_key(self, host: int, name: bytes) -> Identity:
        """Lay another key ready on a host; its next process knows it."""
        identity = Identity(sha256(name))
        self.spare.setdefault(host, []).append(identity)
        self.hosts[identity.address] = host
        return identity

    def add_host(self) -> Node:
        """A new host, which knows the network's first set and has no seat yet."""
        host = len(self.nodes)
        self.identities.append(Identity(sha256(b"replica %d" % host)))
        self.hosts[self.identities[host].address] = host
        self.nodes.append(Node(self, host))
        return self.nodes[host]

    def at(self, at_ms: int, action: Callable[[], None]) -> None:
        self._ticket += 1
        heapq.heappush(self._queue, (at_ms, self._ticket, action))

    def after(self, delay_ms: int, action: Callable[[], None]) -> None:
        self.at(self.now_ms + delay_ms, action)

    def send(self, sender: int, to: int, data: bytes) -> None:
        if self.cut(sender, to) or self.random.random() < self.loss:
            return
        changed = self.tamper(sender, to, data)
        if changed is None:
            return
        for _ in range(2 if self.random.random() < self.duplication else 1):
            self.after(
                self.delay_ms + self.random.randint(0, self.jitter_ms), lambda: self.deliver(sender, to, changed)
            )

    def deliver(self, sender: int, to: int, data: bytes) -> None:
        node = self.nodes[to]
        if node.up:
            node.step(Received(node.number_of(sender), decode_message(data, limit_bytes=1 << 24)))

    def submit(self, request: bytes, to: list[int] | None = None, *, spread: bool | None = None) -> None:
        targets = [node for node in self.nodes if node.up and (to is None or node.index in to)]
        for node in targets:
            node.step(Submitted(request, to is None if spread is None else spread))

    def run(self, duration_ms: int) -> None:
        """Let virtual time pass."""
        until_ms = self.now_ms + duration_ms
        while self._queue and self._queue[0][0] <= until_ms:
            at_ms, _, action = heapq.heappop(self._queue)
            self.now_ms = max(self.now_ms, at_ms)
            action()
        self.now_ms = until_ms

    def run_until(self, condition: Callable[[], bool], limit_ms: int = 60_000) -> None:
        """Let time pass until something holds; fails when it does not in time."""
        until_ms = self.now_ms + limit_ms
        while not condition():
            assert self._queue and self.now_ms < until_ms, f"not within {limit_ms} ms"
            at_ms, _, action = heapq.heappop(self._queue)
            self.now_ms = max(self.now_ms, at_ms)
            action()

    def on_executed(self, node: Node, effect: Executed) -> None:
        """Agreement: whoever executes a sequence ends in the state that the first to execute it ended in."""
        expected = self.decided.setdefault(effect.sequence, (effect.state, effect.time_ms))
        assert expected == (effect.state, effect.time_ms), f"replica {node.index} disagrees at {effect.sequence}"

    def on_reply(self, node: Node, effect: SendReply) -> None:
        known = self.replies.setdefault(effect.digest, {})
        for other in known.values():
            assert other.reply == effect.reply or other.sequence != effect.sequence
        known[node.index] = effect

    def answered(self, request: bytes) -> bool:
        """Whether f+1 replicas gave the same reply."""
        return len(self.replies.get(request_digest(request), {})) >= self.nodes[0].replica.f + 1

    def heights(self) -> list[int]:
        return [node.replica.executed for node in self.nodes]
