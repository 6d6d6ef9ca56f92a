"""One run: a network of real replicas and ledgers, its people, its faults, and what must hold meanwhile.

Everything follows from the seed. The storm lasts `STORM_US`; then all faults end but Byzantine aggregators, the people
go on for a while and fall silent, and everything that was asked must be answered, and all correct aggregators be equal,
within `LIVENESS_US`; a run that does not get there is stuck.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from pot_lab.agreement.application import Application, Batch
from pot_lab.agreement.quorum import check_size, faulty, quorum
from pot_lab.consensus.membership import NO_SEAT, Membership
from pot_lab.consensus.messages import Message, request_digest
from pot_lab.consensus.parameters import ConsensusParameters
from pot_lab.consensus.records import LogRecord
from pot_lab.consensus.replica import Replica
from pot_lab.consensus.steps import Executed, SendRefusal, SendReply
from pot_lab.errors import InvariantBroken, PotLabError
from pot_lab.protocol.application import LedgerApplication
from pot_lab.protocol.ledger import Ledger
from pot_lab.simulator.byzantine import Behaviour, Several
from pot_lab.simulator.checkers import Checkers, Violation
from pot_lab.simulator.clients import ByzantineClient, ClientSettings, VirtualClient
from pot_lab.simulator.clocks import Clock
from pot_lab.simulator.disks import Disk
from pot_lab.simulator.eras import Course, Registrar, SeatedLedger
from pot_lab.simulator.faults import Forecast, Storm, weather_of
from pot_lab.simulator.links import Frame, Wired
from pot_lab.simulator.nodes import SimulatedNode
from pot_lab.simulator.outcome import Outcome
from pot_lab.simulator.people import AggregatorDuty, Chain, cast_of, population
from pot_lab.simulator.profiles import STORM_US, profile_of
from pot_lab.simulator.signatures import limit_memory, recover
from pot_lab.simulator.stage import Stage
from pot_lab.simulator.trace import Trace
from pot_lab.simulator.virtual_time import MILLISECOND_US, SECOND_US, START_MS

SMALL_CHUNK_BYTES = 4_096
"""So small that the snapshots of a short run have several chunks."""
GOING_ON_US = 4 * SECOND_US
LIVENESS_US = 60 * SECOND_US
_LOOK_US = 500 * MILLISECOND_US
_SKEW_SLACK_MS = 1_000
_USUAL_SIZES = (4, 4, 4, 4, 5, 6, 7)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What decides a run.

    Attributes:
        n: how many aggregators the network has at first.
        byzantine_hosts: hosts that are Byzantine whatever the seed draws, and how.
    """

    seed: int
    n: int
    profile: str
    without: tuple[str, ...]
    byzantine_hosts: Mapping[int, Sequence[type[Behaviour]]]

    def random_of(self, name: str) -> Random:
        """A source of its own for each part, so that one more draw in one changes nothing in another."""
        return Random(f"{self.seed}/{name}")


def _parameters(random: Random) -> ConsensusParameters:
    """Small limits, so that a short run reaches them."""
    in_flight = random.randint(1, 5)
    return ConsensusParameters(
        in_flight=in_flight,
        window=in_flight + random.randint(4, 16),
        batch_requests=random.choice([2, 10, 500]),
        inline_bytes=random.choice([0, 16_384]),
        snapshot_batches=random.choice([6, 20, 60]),
        beside_requests=random.choice([0, 1, 4]),
        chunk_bytes=SMALL_CHUNK_BYTES,
    )


class Simulation(Wired):
    """One run of one seed.

    Args:
        seed: decides everything that the other arguments leave open.
        nodes: how many aggregators; None: the seed decides.
        profile: which faults may come; see `profiles.PROFILES`.
        without: faults to leave out of those that the seed brings: kinds, or episodes as `kind#number`.
        byzantine_hosts: aggregators that are Byzantine, and how, besides those that the profile brings.
        make_replica, make_application, make_disk, make_node, make_checkers: the parts, for tests that plant a bug in
            one.
    Raises:
        UnknownProfile, BadReplicaCount: there is no such profile, or no such network.
    """

    def __init__(
        self,
        seed: int,
        nodes: int | None = None,
        profile: str = "everything",
        *,
        without: Collection[str] = (),
        byzantine_hosts: Mapping[int, Sequence[type[Behaviour]]] | None = None,
        make_replica: Callable[..., Replica] = Replica,
        make_application: Callable[..., Application] = LedgerApplication,
        make_disk: Callable[[int], Disk] = Disk,
        make_node: Callable[..., SimulatedNode] = SimulatedNode,
        make_checkers: Callable[[int, ConsensusParameters, int], Checkers] = Checkers,
    ) -> None:
        n = nodes if nodes is not None else Random(f"{seed}/size").choice(_USUAL_SIZES)
        check_size(n)
        self.setting = Setting(
            seed=seed, n=n, profile=profile, without=tuple(sorted(without)), byzantine_hosts=dict(byzantine_hosts or {})
        )
        random_of = self.setting.random_of
        forecast = Forecast.drawn(n, profile_of(profile), random_of, self.setting.without, self.setting.byzantine_hosts)
        self.cast = cast_of(n)
        self.parameters = _parameters(random_of("parameters"))
        weather = weather_of(forecast.hosts, random_of("weather"))
        self.stage = Stage(n, forecast.hosts, weather, random_of, self._deliver)
        self.queue, self.links = self.stage.queue, self.stage.links
        self.storm = Storm(self.stage, self, forecast, random_of, self.setting.without)
        self.checkers = make_checkers(n, self.parameters, self.parameters.time_tolerance_ms + _SKEW_SLACK_MS)
        self._views: dict[int, int] = {}
        chain = Chain(self.queue)
        self._make_nodes(chain, make_replica, make_application, make_disk, make_node)
        self.clients = self._make_clients(chain)
        self._receivers: list[VirtualClient | ByzantineClient] = [*self.clients]
        keys = self.cast.keys[: forecast.hosts]
        self._host_of: dict[bytes, int] = {key.address: host for host, own in enumerate(keys) for key in own}

    def _make_nodes(
        self,
        chain: Chain,
        make_replica: Callable[..., Replica],
        make_application: Callable[..., Application],
        make_disk: Callable[[int], Disk],
        make_node: Callable[..., SimulatedNode],
    ) -> None:
        random_of, sets = self.setting.random_of, self.course.seats(self.cast)
        first = tuple(seat.address for seat in sets[0])
        keys = self.cast.keys[: self.stage.hosts]

        def replica(index: int, application: Application) -> Replica:
            membership = Membership(
                network_id=self.cast.network_id, addresses=first, index=index if index < self.n else NO_SEAT
            )
            key, spare = keys[index]
            return make_replica(membership, key, application, self.parameters, spare=[spare], recover=recover)

        def application() -> Application:
            if len(sets) == 1:
                return make_application(self.cast.genesis, recover=recover)
            return SeatedLedger(self.cast, sets)

        for index in range(self.stage.hosts):
            disk = make_disk(random_of(f"sync {index}").choice([100, 500, 2_000]))
            node = make_node(
                self,
                index,
                Clock(self.queue),
                disk,
                random_of(f"node {index}"),
                application,
                replica,
                addresses=[[key.address for key in own] for own in keys],
            )
            if index < self.n:
                node.duties = (AggregatorDuty(self.cast, index, chain, self.queue, self._duty_submitted),)
            self.nodes.append(node)

    def _make_clients(self, chain: Chain) -> list[VirtualClient]:
        random_of = self.setting.random_of
        orders = random_of("orders").randint(1, 3)
        alone = random_of("alone").choice([0.0, 0.1, 0.5])
        people = population(self.cast, chain, orders)
        if len(self.course.sets) > 1:
            people.append(Registrar(self.cast, [START_MS + at_us // MILLISECOND_US for at_us in self.course.at_us]))
        return [
            VirtualClient(
                self,
                number,
                person,
                random_of(f"client {number}"),
                ClientSettings(
                    aggregators=self.stage.hosts,
                    needed=1 + max(faulty(len(each)) for each in self.course.sets),
                    pause_us=random_of(f"pause {number}").choice([150, 300, 600]) * MILLISECOND_US,
                    alone=alone,
                ),
            )
            for number, person in enumerate(people)
        ]

    @property
    def n(self) -> int:
        """How many aggregators the network has at first."""
        return self.setting.n

    @property
    def course(self) -> Course:
        """The sets of aggregators that the run sees."""
        return self.storm.forecast.course

    @property
    def nodes(self) -> list[SimulatedNode]:
        """The hosts."""
        return self.stage.nodes

    @property
    def trace(self) -> Trace:
        """What happened."""
        return self.stage.trace

    @property
    def faults(self) -> Counter[str]:
        """How often each kind of fault happened."""
        return self.stage.faults

    def make_byzantine(self, index: int, kinds: Sequence[type[Behaviour]]) -> None:
        """Let an aggregator break the protocol from now on."""
        self.trace.mark(f"aggregator {index} is a liar:", *(kind.kind for kind in kinds))
        identity, network_id = self.cast.keys[index][0], self.cast.network_id
        parts = [
            kind(identity, network_id, self.setting.random_of(f"liar {index} {kind.kind}"), self.faults)
            for kind in kinds
        ]
        self.nodes[index].behaviour = Several(parts)

    def add_byzantine_client(self, random: Random, until_us: int) -> None:
        """Add a client that keeps to nothing."""

        def count() -> None:
            self.faults["client_lie"] += 1

        client = ByzantineClient(self, len(self._receivers), self.cast, random, self.stage.hosts, until_us, count)
        self._receivers.append(client)
        client.begin()

    # The run.

    def run(self) -> Outcome:
        """Run to the end; a violation ends it at once."""
        setting = self.setting
        outcome = Outcome(seed=setting.seed, nodes=setting.n, profile=setting.profile, without=setting.without)
        about: int | None = None
        limit_memory()
        try:
            outcome.stuck = self._run()
        except Violation as violation:
            outcome.violation, about = str(violation), violation.sequence
            self.trace.mark("VIOLATION", str(violation))
        outcome.parts = tuple(self.storm.parts)
        correct = [node for node in self.nodes if node.is_correct and node.life]
        outcome.events, outcome.virtual_ms = self.queue.events, self.queue.now_us // MILLISECOND_US
        outcome.batches = self.checkers.height
        outcome.answered = sum(client.answered for client in self.clients)
        outcome.view_changes = max((node.replica.view for node in correct), default=0)
        outcome.catch_ups = sum(node.counts["catch_ups"] for node in correct)
        outcome.snapshots = sum(node.counts["snapshots"] for node in correct)
        ledger = self.ledger()
        outcome.settled = ledger.state.confirmed.epoch if ledger is not None else 0
        outcome.faults = Counter({kind: count for kind, count in sorted(self.faults.items()) if count})
        outcome.digest = self.trace.digest
        if not outcome.is_good:
            outcome.trace = "\n".join([self._setting(), self.trace.text(about), self._standing()])
        return outcome

    def _run(self) -> str | None:
        for index, kinds in self.setting.byzantine_hosts.items():
            self.storm.faulty.add(index)
            self.make_byzantine(index, kinds)
        self.storm.begin()
        for node in self.nodes:
            node.start()
        for client in self.clients:
            client.begin()
        self.queue.after(_LOOK_US, self._look)
        self.queue.run(STORM_US)
        self.storm.end()
        self.queue.run(STORM_US + GOING_ON_US)
        for client in self.clients:
            client.stop()
        until_us = self.queue.now_us + LIVENESS_US
        while self.queue.now_us < until_us:
            self.queue.run(min(self.queue.now_us + _LOOK_US, until_us))
            if self._is_done():
                self._check_end()
                return None
        return self._missing()

    def _look(self) -> None:
        """Now and then: count the money and measure the memory of every correct aggregator."""
        for node in self.nodes:
            if node.up and node.is_correct:
                self.checkers.memory(node.index, node.replica)
                self.checkers.log(node.index, len(node.disk), len(node.disk.snapshots))
                self.checkers.audit(node.index, self._ledger_of(node))
        self.queue.after(_LOOK_US, self._look)

    def _is_done(self) -> bool:
        if any(client.unanswered for client in self.clients):
            return False
        return all(node.up for node in self._seated()) and len({node.replica.executed for node in self._seated()}) == 1

    def _seated(self) -> list[SimulatedNode]:
        """The correct aggregators of the last set that is in force anywhere."""
        correct = [node for node in self.nodes if node.is_correct]
        last = max((node.replica.membership for node in correct), key=lambda members: members.since)
        seated = {self._host_of[address] for address in last.addresses}
        return [node for node in correct if node.index in seated]

    def _check_end(self) -> None:
        for node in self._seated():
            if node.is_correct:
                self.checkers.finished(node.index, node.replica)
                self.checkers.audit(node.index, self._ledger_of(node))

    def _missing(self) -> str:
        unanswered = [f"client {client.number} to {name}" for client in self.clients for name, _ in client.unanswered]
        heights = [(node.replica.executed if node.up else "down") if node.is_correct else "liar" for node in self.nodes]
        return (
            f"{LIVENESS_US // SECOND_US} s after the storm: heights {heights}, waiting {', '.join(unanswered) or '-'}"
        )

    def _setting(self) -> str:
        """What was drawn for this run, for its trace."""
        limits, f = self.parameters, self.storm.forecast.f
        return (
            f"{self.n} aggregators, f = {f}, q = {quorum(self.n)}, {len(self.clients)} clients; in flight "
            f"{limits.in_flight}, window {limits.window}, a checkpoint every {limits.checkpoint_batches}, a snapshot "
            f"every {limits.snapshot_batches} batches, at most {limits.batch_requests} requests each"
        )

    def _standing(self) -> str:
        """How the aggregators stand at the end, for its trace."""
        lines = ["the aggregators at the end:", "     is    view  executed  stable  pending  log  clock"]
        for node in self.nodes:
            if not node.life:
                continue
            replica = node.replica
            what = "liar" if not node.is_correct else "up" if node.up else "down"
            view = f"{replica.view}{'?' if replica.changing else ''}"
            off = f"{node.clock.error_us / SECOND_US:+.1f} s"
            lines.append(
                f"{node.index:3}  {what:4} {view:>5}  {replica.executed:8}  {replica.low:6}  {len(replica.pool):7} "
                f"{len(node.disk):4}  {off}"
            )
        return "\n".join(lines)

    # What clients and duties need.

    def ledger(self) -> Ledger | None:
        """The ledger of the correct aggregator that is furthest."""
        up = [node for node in self.nodes if node.up and node.is_correct]
        if not up:
            return None
        return self._ledger_of(max(up, key=lambda node: node.replica.executed))

    @staticmethod
    def _ledger_of(node: SimulatedNode) -> Ledger:
        ledger: Ledger = node.application.ledger
        return ledger

    def on_submitted(self, client: int, request: bytes, name: str) -> None:
        """A client has signed a request."""
        self.trace.note(None, f"client {client} asks to {name}:", request_digest(request))
        self.checkers.submitted(request, self.queue.now_ms)

    def _duty_submitted(self, request: bytes) -> None:
        self.checkers.submitted(request, self.queue.now_ms)

    def submit(self, client: int, aggregator: int, request: bytes, spread: bool) -> None:
        """Carry a request from a client to an aggregator."""
        node = self.nodes[aggregator]
        self.stage.client_links.carry(lambda: node.on_request(client, request, spread))

    def on_acknowledged(self, client: int, digest: bytes, reply: SendReply) -> None:
        """A client has its result."""
        self.trace.note(None, "client", client, "has f+1 replies to", digest, "of batch", reply.sequence)
        self.checkers.acknowledged(digest, reply)

    # What nodes need.

    def _deliver(self, sender: int, receiver: int, what: object) -> None:
        if not isinstance(what, Frame):
            raise InvariantBroken("a link carries only frames", seen=type(what).__name__)
        self.trace.frame(sender, receiver, what.message)
        self.nodes[receiver].on_frame(sender, what)

    def on_sent(self, node: SimulatedNode, message: Message) -> None:
        """A correct aggregator sends a message."""
        if node.index not in self.storm.forgetful:
            self.checkers.sent(node.index, message, node.members)

    def on_written(self, node: SimulatedNode, record: LogRecord) -> None:
        """A correct aggregator has a record on its disk."""
        if node.index not in self.storm.forgetful:
            self.checkers.wrote(node.index, record, node.members)

    def on_stable(self, node: SimulatedNode, sequence: int) -> None:
        """A correct aggregator has a stable checkpoint on its disk."""
        if node.index not in self.storm.forgetful:
            self.checkers.moved(node.index, sequence)

    def on_executed(self, node: SimulatedNode, effect: Executed, batch: Batch) -> None:
        """An aggregator has run a batch."""
        if node.replica.view != self._views.get(node.index, 0):
            self._views[node.index] = node.replica.view
            self.trace.mark(f"aggregator {node.index} works in view", node.replica.view)
        what = f"executed batch {effect.sequence}: {effect.requests} requests, state"
        self.trace.note(node.index, what, effect.state)
        if node.is_correct:
            self.checkers.executed(node.index, effect, batch, self.queue.now_ms)

    def on_reply(self, node: SimulatedNode, client: int, reply: SendReply) -> None:
        """An aggregator answers a client."""
        self.stage.client_links.carry(lambda: self._receivers[client].on_reply(node.index, reply))

    def on_refused(self, node: SimulatedNode, client: int, refusal: SendRefusal) -> None:
        """An aggregator does not take a request; the client asks again."""
        self.faults["request_refused"] += 1

    def on_accusation(self, node: SimulatedNode, accused: int) -> None:
        """An aggregator holds a proof against another."""
        if node.is_correct:
            accused = self._host_of[node.members.addresses[accused]]
            self.trace.mark(f"aggregator {node.index} proves that {accused} lied")
            self.faults["liar_proved"] += 1
            is_correct = self.nodes[accused].is_correct and accused not in self.storm.forgetful
            self.checkers.accused(node.index, accused, is_correct=is_correct)

    def on_halt(self, node: SimulatedNode, error: PotLabError) -> None:
        """An aggregator has stopped itself."""
        self.trace.mark(f"aggregator {node.index} halts:", error)
        if node.is_correct:
            self.checkers.halted(node.index, error)

    def on_failure(self, node: SimulatedNode, error: Exception) -> None:
        """An aggregator's step raised."""
        if self.storm.is_damage(node.index, error):
            return
        self.trace.mark(f"aggregator {node.index} falls over:", repr(error))
        if node.is_correct:
            self.checkers.failed(node.index, error)

    def on_members(self, node: SimulatedNode, members: Membership) -> None:
        """An aggregator works with another set."""
        self.faults["set_changed"] += 1
        where = [self._host_of[address] for address in members.addresses]
        self.trace.mark(f"aggregator {node.index} begins era {members.since}, with", where)
        if node.is_correct:
            self.checkers.began(node.index, members)

    def on_full_disk(self, node: SimulatedNode) -> None:
        """An aggregator has stopped for want of room; the storm starts it again."""
        self.faults["stopped_by_full_disk"] += 1
        self.trace.mark(f"aggregator {node.index} stops: its disk is full")
