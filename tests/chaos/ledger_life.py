"""The real ledger on real aggregators: the accounts, orders and chain of the simulator's cast, on the host's clock."""

from __future__ import annotations

import fcntl
import threading
import time
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pot_lab.crypto.canonical import decode, encode, sha256
from pot_lab.crypto.shamir import Share
from pot_lab.errors import PotLabError
from pot_lab.network.client.calls import Call
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.records import ChainEvent, OrderRecord
from pot_lab.protocol.settlement import Settlement
from pot_lab.protocol.transactions import Reply, sign
from pot_lab.simulator.people import REGULARS, Cast, Person, Regular, population
from pot_lab.simulator.signatures import Signer

if TYPE_CHECKING:
    from tests.chaos.network import Bookkeeper

_ATTESTED_AT_ONCE = 64
_MORE_REGULARS = 12
_REFUSED_PAUSE_S = 1.0
_LOOK_EVERY_S = 0.2
_ANSWER_LIMIT_BYTES = 1 << 20


class HostClock:
    """What the simulator's people see of time, read from this host."""

    @property
    def now_us(self) -> int:
        return time.time_ns() // 1_000

    @property
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


class RealCast(Cast):
    """A cast with more regulars, for load, whose orders may be sealed within the next days."""

    def __init__(self, n: int) -> None:
        super().__init__(n)
        self.regulars += [Signer(sha256(b"another regular %d" % i)) for i in range(_MORE_REGULARS)]

    def _make_order(self, number: int) -> tuple[OrderRecord, list[Share]]:
        order, shares = super()._make_order(number)
        return msgspec.structs.replace(order, seal_by_s=self.seal_by_s), shares

    @property
    def seal_by_s(self) -> int:
        """Equal for all processes of a run: the number stands in the genesis' name."""
        return int(self.genesis.name.split()[-1])


@lru_cache(maxsize=4)
def cast_until(n: int, seal_by_s: int) -> RealCast:
    """The cast of a network whose orders must be sealed by a time (seconds since the Unix epoch)."""
    cast = RealCast(n)
    cast.genesis = msgspec.structs.replace(cast.genesis, name=f"chaos {seal_by_s}")
    cast.network_id = cast.genesis.network_id
    return cast


class ChainFile:
    """The chain as all processes of a run see it: a file of events that only grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch()

    def add(self, event: ChainEvent) -> None:
        """Something happened on the chain."""
        with open(self._path, "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self._append(event)

    def settle(self, settlement: Settlement) -> None:
        """An aggregator sends a settlement with a quorum of signatures; each epoch is taken once."""
        detail = (settlement.epoch, settlement.round, settlement.signer_set_id)
        event = ChainEvent(
            kind="settled",
            block=9,
            log_index=0,
            account=bytes(20),
            role=-1,
            amount_grains=settlement.cumulative_total,
            subject=settlement.root,
            detail=detail,
        )
        with open(self._path, "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not any(each.kind == "settled" and each.detail[0] == settlement.epoch for each in self._all()):
                self._append(event)

    def seen(self, first: int) -> tuple[ChainEvent, ...]:
        """Events from a number on, as many as one attestation carries."""
        return tuple(self._all()[first : first + _ATTESTED_AT_ONCE])

    def _append(self, event: ChainEvent) -> None:
        with open(self._path, "ab") as file:
            file.write(encode(event).hex().encode() + b"\n")

    def _all(self) -> list[ChainEvent]:
        lines = self._path.read_bytes().split(b"\n")[:-1]
        return [decode(bytes.fromhex(line.decode()), ChainEvent, limit_bytes=1 << 20) for line in lines]


class Crowd:
    """Everybody of a cast, speaking through one client that keeps book; they look at the ledger and say what they wish.

    Args:
        cast, chain, book: the network's people, its chain, and the client.
        orders: how many orders the researcher places, one after the other.
        patience_s: how long each request may take.
    """

    def __init__(self, cast: Cast, chain: ChainFile, book: Bookkeeper, *, orders: int, patience_s: float) -> None:
        self._cast, self._book, self._patience_s = cast, book, patience_s
        self._people = population(cast, chain, orders)  # type: ignore[arg-type]
        self._people += [Regular(cast, place) for place in range(REGULARS, len(cast.regulars))]
        self._nonces: dict[Person, int] = {}
        self._under_way: dict[tuple[Person, str], Call[bytes]] = {}
        self._not_before_s: dict[tuple[Person, str], float] = {}
        self._ended = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._live, name="crowd")

    def __enter__(self) -> Crowd:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()
        if self._error is not None and error[0] is None:
            raise self._error

    def _live(self) -> None:
        try:
            while not self._ended.wait(_LOOK_EVERY_S):
                try:
                    self._book.look(timeout_s=2)
                    raw = self._book.query("snapshot", timeout_s=5).result(5 + self._patience_s)
                except PotLabError:
                    continue  # no f+1 alike at the moment
                ledger = Ledger(self._cast.genesis)
                ledger.restore(raw)
                self._collect()
                for person in self._people:
                    self._hear(person, ledger)
            for call in self._under_way.values():
                call.result(self._patience_s)
        except BaseException as error:
            self._error = error

    def _hear(self, person: Person, ledger: Ledger) -> None:
        for name, body in person.intents(ledger, time.time_ns() // 1_000_000):
            what = person, name
            if what not in self._under_way and time.monotonic() >= self._not_before_s.get(what, 0):
                nonce = self._nonces[person] = self._nonces.get(person, 0) + 1
                request = sign(self._cast.network_id, body, person.identity, nonce)
                self._under_way[what] = self._book.submit(request, timeout_s=self._patience_s)

    def _collect(self) -> None:
        for what in [what for what, call in self._under_way.items() if call.done()]:
            reply = decode(self._under_way.pop(what).result(0), Reply, limit_bytes=_ANSWER_LIMIT_BYTES)
            if not reply.accepted:
                self._not_before_s[what] = time.monotonic() + _REFUSED_PAUSE_S
