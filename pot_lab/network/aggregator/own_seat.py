"""This aggregator's own seat: where it listens and with which keys, and which other aggregators it needs links to."""

from __future__ import annotations

import enum
from collections.abc import Sequence

from pot_lab.consensus.membership import NO_SEAT, OUTSIDERS, Membership, Succession
from pot_lab.crypto.identity import Identity
from pot_lab.network.config import AggregatorEntry, NetworkConfig
from pot_lab.network.errors import BadConfig, BadKeyFile
from pot_lab.network.keys import CurveKeyPair
from pot_lab.network.seats import entries_of, entry_of


class SeatChange(enum.Enum):
    """What a change of the set of aggregators means for this one."""

    LEFT = "left"
    """It had a seat and has none any more."""
    MOVED = "moved"
    """It listens elsewhere, or with another CURVE key: all its sockets must be opened anew."""
    STAYED = "stayed"
    """Only its peers may have changed."""


class OwnSeat:
    """Where this aggregator listens, under which keys, in the set in force.

    Args:
        config: the network.
        index: which of its first aggregators this is; None for one that joined later, or is to.
        identity: the key that signs its votes.
        curve_secret: its CURVE secret key, Z85.
        listening: where it listens, if it is not one of the first aggregators.
        spare_secrets: further CURVE secret keys, which it uses once a set in force names them.
    Attributes:
        index: its index in the set in force; NO_SEAT without a seat.
        entry, keys: where it listens now, and its CURVE keys in use.
    Raises:
        BadConfig: no such index, or nowhere to listen.
        BadKeyFile: a key is not the one that the network names for this aggregator.
    """

    def __init__(
        self,
        config: NetworkConfig,
        index: int | None,
        identity: Identity,
        curve_secret: str,
        *,
        listening: AggregatorEntry | None = None,
        spare_secrets: Sequence[str] = (),
    ) -> None:
        entry = listening
        if index is not None:
            if not 0 <= index < config.n:
                raise BadConfig("the network has no such aggregator", seen=index, wanted=f"0 .. {config.n - 1}")
            entry = config.aggregators[index]
        elif entry is None:
            raise BadConfig("an aggregator that joins needs an address to listen at", wanted="host and two ports")
        self._config = config
        self.entry, self.keys = entry, CurveKeyPair.from_secret(curve_secret)
        name = "newcomer" if index is None else index
        if self.keys.public != entry.curve_public:
            raise BadKeyFile(
                f"this CURVE key is not aggregator {name}'s", seen=self.keys.public, wanted=entry.curve_public
            )
        if identity.address != entry.address:
            raise BadKeyFile(f"this account is not aggregator {name}'s", seen=identity.address, wanted=entry.address)
        self.index = NO_SEAT if index is None else index
        self._had_seat = index is not None
        pairs = [self.keys, *map(CurveKeyPair.from_secret, spare_secrets)]
        self._pairs = {pair.public: pair for pair in pairs}

    def change(self, membership: Membership) -> SeatChange:
        """Another set is in force.

        Raises:
            BadKeyFile: it names a CURVE key for this aggregator whose secret half is not here.
        """
        self.index = membership.index
        if membership.index == NO_SEAT:
            return SeatChange.LEFT if self._had_seat else SeatChange.STAYED
        self._had_seat = True
        entry = entry_of(membership.index, membership.seats[membership.index], self._config)
        before, self.entry = self.entry, entry
        if _where(entry) == _where(before):
            return SeatChange.STAYED
        pair = self._pairs.get(entry.curve_public)
        if pair is None:
            raise BadKeyFile("this aggregator lacks the CURVE key that its seat names", seen=entry.curve_public)
        self.keys = pair
        return SeatChange.MOVED

    def peers(self, membership: Membership, sets: Succession) -> dict[int, AggregatorEntry]:
        """The other aggregators by number.

        Those of the set in force by index; then, from OUTSIDERS on, those of the set before, who may still have to
        learn of this one; and for an aggregator without a seat, those of the last set and the first, who may know of
        a later one.
        """
        entries = entries_of(membership, self._config)
        peers = {each.index: each for each in entries if each.index != membership.index}
        others = [] if membership.since == 0 else list(entries_of(sets.at(membership.since).membership, self._config))
        if membership.index == NO_SEAT:
            others += [*entries_of(sets.latest.membership, self._config), *self._config.aggregators]
        known = {self.keys.public, *(each.curve_public for each in peers.values())}
        for each in others:
            if each.curve_public not in known:
                known.add(each.curve_public)
                peers[OUTSIDERS + len(peers)] = each
        return peers


def _where(entry: AggregatorEntry) -> tuple[str, int, int]:
    return entry.curve_public, entry.peer_port, entry.client_port
