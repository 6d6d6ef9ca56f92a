"""What a simulated host is made of: its hardware, its program, and which replica it is in which set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from pot_lab.agreement.application import Application, Batch, Execution, RequestId, Seat
from pot_lab.consensus.membership import NO_SEAT, OUTSIDERS, Membership
from pot_lab.consensus.replica import Replica
from pot_lab.simulator.clocks import Clock
from pot_lab.simulator.disks import Disk


class Observed:
    """An application that keeps the batches which its replica has executed and its node not yet reported."""

    def __init__(self, inner: Application) -> None:
        self.inner = inner
        self.batches: dict[int, Batch] = {}

    def validate(self, request: bytes) -> RequestId:
        """As the application does."""
        return self.inner.validate(request)

    def execute(self, batch: Batch) -> Execution:
        """As the application does; keeps the batch."""
        self.batches[batch.sequence] = batch
        return self.inner.execute(batch)

    def due_ms(self) -> int | None:
        """As the application does."""
        return self.inner.due_ms()

    def seats(self) -> tuple[Seat, ...] | None:
        """As the application does."""
        return self.inner.seats()

    def query(self, name: str, arguments: bytes) -> bytes:
        """As the application does."""
        return self.inner.query(name, arguments)

    def snapshot(self) -> bytes:
        """As the application does."""
        return self.inner.snapshot()

    def restore(self, snapshot: bytes) -> None:
        """As the application does."""
        self.inner.restore(snapshot)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@dataclass(kw_only=True)
class Machine:
    """The hardware of one host.

    Attributes:
        random: decides what a power cut leaves of what was written.
        turn_us: processor time of one turn, microseconds; more on a slow host.
        stopped_until_us: until when its process stands still (SIGSTOP).
    """

    clock: Clock
    disk: Disk
    random: Random
    turn_us: int
    stopped_until_us: int = 0


@dataclass(frozen=True)
class Program:
    """What a host runs: called at each start of its process."""

    make_application: Callable[[], Application]
    make_replica: Callable[[int, Application], Replica]


class Directory:
    """Which host has which index in a set of replicas.

    Args:
        addresses: every host's addresses; None where a host's number is its index in the one set that there is.
    """

    def __init__(self, addresses: Sequence[Sequence[bytes]] | None) -> None:
        self._hosts = {address: host for host, own in enumerate(addresses or ()) for address in own}
        self._members: Membership | None = None
        self._indices: dict[int, int] = {}

    def index_of(self, host: int, members: Membership) -> int:
        """A host's index in a set; from `OUTSIDERS` on where it has no seat."""
        if members is not self._members:
            self._members = members
            if self._hosts:
                self._indices = {self._hosts[address]: index for index, address in enumerate(members.addresses)}
            else:
                self._indices = {index: index for index in range(members.n)}
        return self._indices.get(host, OUTSIDERS + host)

    def host_of(self, index: int, members: Membership) -> int:
        """The host with an index in a set, or behind an outsider's number."""
        if index >= OUTSIDERS:
            return index - OUTSIDERS
        return self._hosts[members.addresses[index]] if self._hosts else index

    def hosts_of(self, members: Membership) -> list[int]:
        """The hosts that a member broadcasts to; for a node without a seat, all of them."""
        if members.index == NO_SEAT:
            return sorted(set(self._hosts.values()))
        return sorted({self._hosts[address] for address in members.addresses})
