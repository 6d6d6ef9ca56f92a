"""From the sets of aggregators that consensus names to hosts, ports and CURVE keys.

The network's first set stands in `network.toml`, whose hash is the network's id; each later one in a handover that the
set before it signed. A seat without a contact of its own is one of the first set's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import msgspec

from pot_lab.agreement.application import Seat
from pot_lab.consensus.membership import NO_SEAT, Membership, Succession
from pot_lab.consensus.messages import MAX_HANDOVERS, Handover
from pot_lab.crypto.canonical import decode, encode
from pot_lab.errors import PotLabError
from pot_lab.network.config import AggregatorEntry, NetworkConfig
from pot_lab.network.errors import BadConfig
from pot_lab.protocol.contact import Contact

HANDOVERS = "handovers"
"""The query that every aggregator answers itself: the handovers after an era (8 bytes, big-endian), a few at a time."""
_CONTACT_LIMIT_BYTES = 1_024
_HANDOVERS_LIMIT_BYTES = 4 << 20


def first_set(config: NetworkConfig, index: int = NO_SEAT) -> Membership:
    """The network's first set, as the aggregator of this index (or a process without a seat) uses it."""
    return Membership(
        network_id=config.network_id, addresses=tuple(each.address for each in config.aggregators), index=index
    )


def succession_of(config: NetworkConfig) -> Succession:
    """The sets from the first one on, as far as the handovers in `network.toml` reach.

    Raises:
        BadConfig: one of its handovers is not signed by the set before it.
    """
    succession = Succession(first_set(config))
    for number, raw in enumerate(config.handovers):
        try:
            followed = succession.follow(decode(raw, Handover, limit_bytes=_HANDOVERS_LIMIT_BYTES))
        except PotLabError:
            followed = False
        if not followed:
            raise BadConfig("network.toml: a handover is not signed by the aggregators before it", seen=number)
    return succession


def with_handovers(config: NetworkConfig, handovers: Iterable[Handover]) -> NetworkConfig:
    """The same network with these handovers in its file."""
    return msgspec.structs.replace(config, handovers=tuple(encode(each) for each in handovers))


def entry_of(index: int, seat: Seat, config: NetworkConfig) -> AggregatorEntry:
    """How the aggregator in a seat is reached.

    Raises:
        BadConfig: the seat has no contact and `network.toml` does not know its address.
        Malformed: its contact is invalid.
    """
    if not seat.contact:
        found = next((each for each in config.aggregators if each.address == seat.address), None)
        if found is None:
            raise BadConfig(
                "network.toml has no address of an aggregator", seen=seat.address, wanted="an [[aggregators]] table"
            )
        return msgspec.structs.replace(found, index=index)
    contact = decode(seat.contact, Contact, limit_bytes=_CONTACT_LIMIT_BYTES)
    contact.check()
    return AggregatorEntry(
        index=index,
        host=contact.host,
        peer_port=contact.peer_port,
        client_port=contact.client_port,
        custody_port=contact.custody_port,
        curve_public=contact.curve_public,
        address=seat.address,
        sealing_public=b"",
    )


def entries_of(membership: Membership, config: NetworkConfig) -> tuple[AggregatorEntry, ...]:
    """How each aggregator of a set is reached, by index."""
    return tuple(entry_of(index, seat, config) for index, seat in enumerate(membership.seats))


def copies_of(membership: Membership, config: NetworkConfig) -> tuple[str, ...]:
    """Where the aggregators of a set serve their custody, as far as that is known."""
    found = []
    for index, seat in enumerate(membership.seats):
        with contextlib.suppress(PotLabError):
            found.append(entry_of(index, seat, config).custody_url)
    return tuple(filter(None, found))


def encode_handovers(handovers: Iterable[Handover]) -> bytes:
    """The answer to `HANDOVERS`: the first of these."""
    return encode(tuple(handovers)[:MAX_HANDOVERS])


def decode_handovers(answer: bytes) -> tuple[Handover, ...]:
    """Read it; raises Malformed or Oversize."""
    return decode(answer, tuple[Handover, ...], limit_bytes=_HANDOVERS_LIMIT_BYTES)
