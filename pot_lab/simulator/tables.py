"""Table 5 of the paper by the simulator: how long real replicas take to agree on a bundle over narrow and far links.

Messages have the sizes of the paper's Table 3 (order 312 bytes, validation 304, challenge 296) and the real wire
encoding. Two models of bandwidth: `connection` throttles each connection, as the paper's program did; `uplink` gives
each host one uplink for all its connections, as real machines have. Virtual time knows no processor, so the figures are
what the links cost; one way takes 300 ms, as in the paper. Replicas are set to links like these: what they wait for
before they repeat, fetch or doubt grows with the time that a batch needs.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import Any

from pot_lab.agreement.application import Batch, Execution, RequestId
from pot_lab.agreement.quorum import quorum, weak_quorum
from pot_lab.consensus.membership import Membership
from pot_lab.consensus.messages import Message
from pot_lab.consensus.parameters import ConsensusParameters
from pot_lab.consensus.records import LogRecord
from pot_lab.consensus.replica import Replica
from pot_lab.consensus.steps import Executed, SendRefusal, SendReply
from pot_lab.crypto.canonical import sha256, tagged_hash
from pot_lab.errors import Malformed, PotLabError
from pot_lab.simulator.clocks import Clock
from pot_lab.simulator.disks import Disk
from pot_lab.simulator.links import Frame, Links, Weather, Wired
from pot_lab.simulator.nodes import SimulatedNode
from pot_lab.simulator.people import cast_of
from pot_lab.simulator.signatures import limit_memory, recover
from pot_lab.simulator.virtual_time import MILLISECOND_US, SECOND_US, EventQueue

RECORD_BYTES = (312, 304, 296)
"""Order, validation, challenge: Table 3."""
LATENCY_US = 300 * MILLISECOND_US
MBPS = {"slow": 0.1, "medium": 30.0, "fast": 125.0}
PAPER_S: dict[tuple[int, int], tuple[float | None, float, float]] = {
    (100, 10): (8.609, 1.494, 1.497),
    (100, 30): (8.707, 1.685, 1.755),
    (1_000, 30): (73.536, 1.682, 1.833),
    (100, 50): (8.697, 1.842, 1.752),
    (200, 50): (15.984, 1.908, 1.893),
    (5_000, 50): (37.532, 1.767, 1.678),
    (10_000, 50): (None, 7.215, 2.074),
}
"""Table 5: (transactions, nodes) -> seconds at slow, medium, fast. Its 37.532 s are of 500 transactions, not 5000."""
_OVERHEAD_BYTES = 80
_REPLY_BYTES = 64
_LIMIT_US = 7_200 * SECOND_US
_ACCOUNT_BYTES = 20


class Bundle:
    """An application that takes records of any content and counts them."""

    def __init__(self) -> None:
        self._digest = bytes(32)

    def validate(self, request: bytes) -> RequestId:
        """Any record of Table 3's size; raises Malformed."""
        if len(request) not in RECORD_BYTES:
            raise Malformed(
                "a request does not have the size of a record of Table 3", seen=len(request), wanted=RECORD_BYTES
            )
        return RequestId(request[:_ACCOUNT_BYTES], 0)

    def execute(self, batch: Batch) -> Execution:
        """Count the batch's records."""
        self._digest = tagged_hash("pot-lab/simulator/bundle/1", self._digest, *batch.requests)
        return Execution((b"ok",) * len(batch.requests), (), self._digest)

    def due_ms(self) -> int | None:
        """Never."""
        return None

    def seats(self) -> None:
        """Always the same."""

    def query(self, name: str, arguments: bytes) -> bytes:
        """Nothing can be asked."""
        raise PotLabError("a bundle answers no queries", seen=name)

    def snapshot(self) -> bytes:
        """The digest is all there is."""
        return self._digest

    def restore(self, snapshot: bytes) -> None:
        """Take the digest over."""
        self._digest = snapshot


@dataclass(frozen=True)
class Cell:
    """One figure of the table.

    Attributes:
        synchronised_s: until a quorum of aggregators has run every transaction.
        answered_s: until every account has f+1 equal replies.
        sent_bytes: everything that went over any link.
    """

    synchronised_s: float
    answered_s: float
    sent_bytes: int


class _Bench(Wired):
    """n replicas, and accounts that submit one transaction each, over links of one kind."""

    def __init__(self, n: int, transactions: int, mbps: float, model: str) -> None:
        self.n, self.transactions = n, transactions
        self.queue = EventQueue()
        bits_per_s = int(mbps * 1_000_000)
        hosts = n + transactions
        weather = Weather([[LATENCY_US] * hosts] * hosts, overhead_bytes=_OVERHEAD_BYTES)
        if model == "connection":
            weather.link_bits_per_s = bits_per_s
        else:
            weather.uplink_bits_per_s = dict.fromkeys(range(hosts), bits_per_s)
        self.links = Links(self.queue, Random(0), weather, self._deliver, Counter())
        cast = cast_of(n)
        addresses = tuple(each.address for each in cast.aggregators)
        parameters = _parameters(transactions, n, bits_per_s, model)

        def replica(index: int, application: Any) -> Replica:
            membership = Membership(network_id=cast.network_id, addresses=addresses, index=index)
            return Replica(membership, cast.aggregators[index], application, parameters, recover=recover)

        self.nodes = [
            SimulatedNode(self, index, Clock(self.queue), Disk(), Random(index), Bundle, replica) for index in range(n)
        ]
        self._executed: Counter[int] = Counter()
        self._replies: dict[int, Counter[tuple[int, bytes]]] = {}
        self._answered: set[int] = set()
        self._synchronised: set[int] = set()
        self._synchronised_us = self._answered_us = 0

    def run(self) -> Cell:
        """Let every account submit its transaction at once; the clock runs from there."""
        for node in self.nodes:
            node.start()
        self.queue.run(5 * SECOND_US)
        start_us, start_bytes = self.queue.now_us, self.links.sent_bytes
        for number in range(self.transactions):
            request = sha256(b"account %d" % number)[:_ACCOUNT_BYTES]
            request = request.ljust(RECORD_BYTES[number % len(RECORD_BYTES)], b"\x01")
            for index in range(self.n):
                self.links.send(self.n + number, index, request, len(request))
        until_us = start_us + _LIMIT_US
        while not (self._synchronised_us and self._answered_us) and self.queue.now_us < until_us:
            self.queue.step()
        synchronised_s = (self._synchronised_us - start_us) / SECOND_US
        answered_s = (self._answered_us - start_us) / SECOND_US
        return Cell(synchronised_s, answered_s, self.links.sent_bytes - start_bytes)

    def _deliver(self, sender: int, receiver: int, what: object) -> None:
        if isinstance(what, Frame):
            self.nodes[receiver].on_frame(sender, what)
        elif isinstance(what, bytes):
            self.nodes[receiver].on_request(sender - self.n, what, True)
        elif isinstance(what, SendReply) and receiver - self.n not in self._answered:
            account = receiver - self.n
            given = self._replies.setdefault(account, Counter())
            given[what.sequence, what.reply] += 1
            if given[what.sequence, what.reply] >= weak_quorum(self.n):
                self._answered.add(account)
                del self._replies[account]
                if len(self._answered) == self.transactions:
                    self._answered_us = self.queue.now_us

    def on_sent(self, node: SimulatedNode, message: Message) -> None:
        pass

    def on_written(self, node: SimulatedNode, record: LogRecord) -> None:
        pass

    def on_executed(self, node: SimulatedNode, effect: Executed, batch: Batch) -> None:
        self._executed[node.index] += len(batch.requests)
        if self._executed[node.index] == self.transactions:
            self._synchronised.add(node.index)
            if len(self._synchronised) == quorum(self.n):
                self._synchronised_us = self.queue.now_us

    def on_reply(self, node: SimulatedNode, client: int, reply: SendReply) -> None:
        self.links.send(node.index, self.n + client, reply, _REPLY_BYTES)

    def on_refused(self, node: SimulatedNode, client: int, refusal: SendRefusal) -> None:
        raise refusal.error

    def on_accusation(self, node: SimulatedNode, accused: int) -> None:
        raise AssertionError(f"aggregator {accused} was accused in a run without faults")

    def on_halt(self, node: SimulatedNode, error: PotLabError) -> None:
        raise error

    def on_failure(self, node: SimulatedNode, error: Exception) -> None:
        raise error

    def on_stable(self, node: SimulatedNode, sequence: int) -> None:
        pass

    def on_members(self, node: SimulatedNode, members: Membership) -> None:
        raise AssertionError("the aggregators of Table 5 stay the same")

    def on_full_disk(self, node: SimulatedNode) -> None:
        raise AssertionError("no disk of Table 5 is full")


def _parameters(transactions: int, n: int, bits_per_s: int, model: str) -> ConsensusParameters:
    """Waits that fit links on which the whole bundle takes its time."""
    copies = n if model == "uplink" else 1
    bundle_ms = transactions * (max(RECORD_BYTES) + _OVERHEAD_BYTES) * 8 * 1_000 // bits_per_s * copies
    patience_ms = 4 * LATENCY_US // MILLISECOND_US + 2 * bundle_ms
    return ConsensusParameters(
        message_delay_ms=patience_ms,
        in_flight=64,
        beside_requests=0,
        window=128,
        batch_requests=4_000,
        batch_bytes=4 * 1024 * 1024,
        inline_bytes=0,
        forward_delay_ms=patience_ms,
        resend_ms=patience_ms,
        sync_delay_ms=patience_ms,
        fetch_timeout_ms=2 * patience_ms,
        pending_ttl_ms=100 * patience_ms,
    )


def cell(transactions: int, nodes: int, mbps: float, model: str) -> Cell:
    """One figure: this many transactions among so many aggregators over such links.

    Args:
        model: "connection" or "uplink".
    """
    limit_memory()
    return _Bench(nodes, transactions, mbps, model).run()


def table_5(rows: list[tuple[int, int]] | None = None) -> dict[str, Any]:
    """Every figure of Table 5 under both models, beside the paper's.

    Args:
        rows: (transactions, nodes) to run; None: all of the paper's.
    Returns: what `pot-lab bench wan --json` prints, but for the time that it took.
    """
    found = []
    for transactions, nodes in rows if rows is not None else list(PAPER_S):
        paper = PAPER_S.get((transactions, nodes), (None, None, None))
        for (speed, mbps), paper_s in zip(MBPS.items(), paper, strict=True):
            figures: dict[str, Any] = {
                "transactions": transactions,
                "nodes": nodes,
                "speed": speed,
                "mbps": mbps,
                "paper_s": paper_s,
            }
            for model in ("connection", "uplink"):
                got = cell(transactions, nodes, mbps, model)
                figures[model] = {
                    "synchronised_s": round(got.synchronised_s, 3),
                    "answered_s": round(got.answered_s, 3),
                    "sent_bytes": got.sent_bytes,
                }
            found.append(figures)
    return {
        "latency_ms": LATENCY_US // MILLISECOND_US,
        "record_bytes": list(RECORD_BYTES),
        "overhead_bytes": _OVERHEAD_BYTES,
        "rows": found,
    }
