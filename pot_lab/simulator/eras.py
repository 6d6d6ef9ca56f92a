"""Runs in which the set of aggregators changes: hosts join, leave and rotate their keys, each at a checkpoint.

Which sets a run may see follows from its seed (`Course`). A registrar's ordered transaction asks for the next one: it
is a transaction like any other to the ledger, which refuses it (there is no such order), and `SeatedLedger` takes it as
the request for another set. So the rule of who may ask is the simulator's, and all that follows is consensus's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

from pot_lab.agreement.application import Batch, Execution, Seat
from pot_lab.agreement.quorum import SMALLEST_SET, faulty
from pot_lab.crypto.canonical import Record, decode, encode, sha256, tagged_hash
from pot_lab.protocol.application import LedgerApplication
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.records import OrderId
from pot_lab.protocol.transactions import Withdraw
from pot_lab.simulator.people import Cast, Intent, Person
from pot_lab.simulator.signatures import recover

_SNAPSHOT_LIMIT_BYTES = 1 << 30
Keys = tuple[tuple[int, int], ...]
"""A set of aggregators: of each seat the host, and which of its keys."""


class _Seated(Record, frozen=True):
    stage: int
    ledger: bytes


@dataclass
class Course:
    """The sets of one run, the first one first.

    Attributes:
        sets: each with the host and the number of its key, seat by seat.
        at_us: when each set after the first is asked for.
    """

    sets: list[Keys]
    at_us: list[int] = field(default_factory=list)

    @classmethod
    def drawn(cls, n: int, random: Random, times_us: Sequence[int], *, keep_places: bool) -> Course:
        """A course of joins, leaves and rotations from n hosts on; host n has no seat at first.

        Args:
            times_us: when each step is asked for.
            keep_places: let every host keep its index: the one that leaves has the last seat. For runs with Byzantine
                hosts, whose behaviours count places.
        """
        course = cls([tuple((host, 0) for host in range(n))])
        for at_us in sorted(times_us):
            last = course.sets[-1]
            steps = ["rotate"]
            if all(host != n for host, _ in last):
                steps.append("join")
            if len(last) > SMALLEST_SET:
                steps.append("leave")
            step = random.choice(steps)
            if step == "join":
                now = (*last, (n, 0))
            elif step == "leave":
                gone = len(last) - 1 if keep_places else random.randrange(len(last))
                now = (*last[:gone], *last[gone + 1 :])
            else:
                place = random.randrange(len(last))
                now = (*last[:place], (last[place][0], 1 - last[place][1]), *last[place + 1 :])
            course.sets.append(now)
            course.at_us.append(at_us)
        return course

    @property
    def f(self) -> int:
        """How many faulty aggregators every one of the sets bears."""
        return min(faulty(len(each)) for each in self.sets)

    @property
    def hosts(self) -> int:
        """How many hosts there are."""
        return 1 + max(host for each in self.sets for host, _ in each)

    def seats(self, cast: Cast) -> list[tuple[Seat, ...]]:
        """The sets as consensus knows them; a host's contact is its number."""
        return [
            tuple(Seat(cast.keys[host][key].address, b"" if not stage else b"host %d" % host) for host, key in each)
            for stage, each in enumerate(self.sets)
        ]


def intent_of(stage: int) -> Withdraw:
    """The body of the registrar's request for a set."""
    return Withdraw(OrderId(sha256(b"seats %d" % stage)))


class Registrar(Person):
    """Asks for one set after the other."""

    def __init__(self, cast: Cast, times_ms: Sequence[int]) -> None:
        super().__init__(cast, cast.registrar)
        self._times_ms, self._asked = times_ms, 0

    def intents(self, ledger: Ledger, now_ms: int) -> Iterator[Intent]:
        """The next set, when its time has come."""
        if self._asked < len(self._times_ms) and now_ms >= self._times_ms[self._asked]:
            self._asked += 1
            yield f"seats {self._asked}", intent_of(self._asked)


class SeatedLedger(LedgerApplication):
    """The ledger, and the set of aggregators that the registrar asked for last."""

    def __init__(self, cast: Cast, sets: Sequence[tuple[Seat, ...]]) -> None:
        super().__init__(cast.genesis, recover=recover)
        self._registrar, self._sets, self._stage = cast.registrar.address, sets, 0
        self._stages = {encode(intent_of(stage)): stage for stage in range(1, len(sets))}

    def execute(self, batch: Batch) -> Execution:
        """Apply a batch; a later set that the registrar names in it is asked for from now on."""
        execution = super().execute(batch)
        for request in batch.requests:
            transaction = self._open(request)
            if transaction.account == self._registrar:
                self._stage = max(self._stage, self._stages.get(transaction.body, 0))
        digest = tagged_hash("pot-lab/simulator/seated/1", execution.digest, self._stage.to_bytes(8, "big"))
        return Execution(execution.replies, execution.events, digest)

    def seats(self) -> tuple[Seat, ...]:
        """The set that is asked for."""
        return self._sets[self._stage]

    def snapshot(self) -> bytes:
        """The ledger's, and which set is asked for."""
        return encode(_Seated(self._stage, super().snapshot()))

    def restore(self, snapshot: bytes) -> None:
        """Take both over."""
        seated = decode(snapshot, _Seated, limit_bytes=_SNAPSHOT_LIMIT_BYTES)
        self._stage = seated.stage
        super().restore(seated.ledger)
