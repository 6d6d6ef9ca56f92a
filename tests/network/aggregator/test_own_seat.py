"""An aggregator's own seat: which keys it uses in which set, and whom it needs links to."""

from __future__ import annotations

import msgspec
import pytest

from pot_lab.agreement.application import Seat
from pot_lab.consensus.membership import NO_SEAT, OUTSIDERS, Membership, Succession
from pot_lab.crypto.canonical import encode
from pot_lab.crypto.identity import Identity
from pot_lab.network.aggregator.own_seat import OwnSeat, SeatChange
from pot_lab.network.config import AggregatorEntry, NetworkConfig
from pot_lab.network.errors import BadConfig, BadKeyFile
from pot_lab.network.keys import CurveKeyPair
from pot_lab.network.seats import first_set
from pot_lab.protocol.contact import Contact
from tests.network.test_config import network

PAIRS = [CurveKeyPair.generate() for _ in range(6)]
IDENTITIES = [Identity(bytes([index + 1]) * 32) for index in range(6)]


@pytest.fixture
def config() -> NetworkConfig:
    plain = network()
    entries = [msgspec.structs.replace(each, curve_public=PAIRS[each.index].public) for each in plain.aggregators]
    return msgspec.structs.replace(plain, aggregators=tuple(entries))


def contact(index: int, port: int) -> bytes:
    where = Contact(
        host="127.0.0.1",
        peer_port=port,
        client_port=port + 1,
        custody_port=port + 2,
        curve_public=PAIRS[index].public,
    )
    return encode(where)


def membership(config: NetworkConfig, own: int, *seats: Seat, since: int = 9) -> Membership:
    addresses = tuple(each.address for each in seats)
    return Membership(
        network_id=config.network_id,
        addresses=addresses,
        index=own,
        contacts=tuple(each.contact for each in seats),
        since=since,
        before=first_set(config),
    )


def seat_of(config: NetworkConfig, index: int) -> Seat:
    return Seat(config.aggregators[index].address, b"")


def listening(index: int, port: int) -> AggregatorEntry:
    return AggregatorEntry(
        index=NO_SEAT, host="127.0.0.1", peer_port=port, client_port=port + 1, custody_port=port + 2,
        curve_public=PAIRS[index].public, address=IDENTITIES[index].address, sealing_public=b"",
    )  # fmt: skip


def test_keys_must_be_those_that_the_network_names(config: NetworkConfig) -> None:
    seat = OwnSeat(config, 2, IDENTITIES[2], PAIRS[2].secret)
    assert (seat.index, seat.entry, seat.keys) == (2, config.aggregators[2], PAIRS[2])
    with pytest.raises(BadKeyFile, match="CURVE key is not aggregator 2's"):
        OwnSeat(config, 2, IDENTITIES[2], PAIRS[1].secret)
    with pytest.raises(BadKeyFile, match="account is not aggregator 2's"):
        OwnSeat(config, 2, IDENTITIES[1], PAIRS[2].secret)
    for index in (-1, 4):
        with pytest.raises(BadConfig, match=rf"seen: {index}, wanted: 0 \.\. 3"):
            OwnSeat(config, index, IDENTITIES[2], PAIRS[2].secret)
    with pytest.raises(BadConfig, match="address to listen at"):
        OwnSeat(config, None, IDENTITIES[5], PAIRS[5].secret)


def test_the_last_aggregator_of_the_first_set_has_a_seat(config: NetworkConfig) -> None:
    assert OwnSeat(config, 3, IDENTITIES[3], PAIRS[3].secret).index == 3
    assert OwnSeat(config, 0, IDENTITIES[0], PAIRS[0].secret).index == 0


def test_a_set_without_it_means_that_it_left_unless_it_never_had_a_seat(config: NetworkConfig) -> None:
    others = [seat_of(config, index) for index in (0, 1, 3)]
    member = OwnSeat(config, 2, IDENTITIES[2], PAIRS[2].secret)
    assert member.change(membership(config, NO_SEAT, *others)) is SeatChange.LEFT and member.index == NO_SEAT
    newcomer = OwnSeat(config, None, IDENTITIES[5], PAIRS[5].secret, listening=listening(5, 9_000))
    assert newcomer.index == NO_SEAT
    assert newcomer.change(membership(config, NO_SEAT, *others)) is SeatChange.STAYED
    seated = membership(config, 3, *others, Seat(IDENTITIES[5].address, contact(5, 9_000)))
    assert newcomer.change(seated) is SeatChange.STAYED and newcomer.index == 3
    assert newcomer.change(membership(config, NO_SEAT, *others)) is SeatChange.LEFT


@pytest.mark.parametrize("index", [2, 4])
def test_it_moves_to_the_place_and_key_of_its_seat(config: NetworkConfig, index: int) -> None:
    seat = OwnSeat(config, 2, IDENTITIES[2], PAIRS[2].secret, spare_secrets=[PAIRS[4].secret])
    others = [seat_of(config, each) for each in (0, 1)]
    there = membership(config, 2, *others, Seat(IDENTITIES[2].address, contact(index, 9_100)))
    assert seat.change(there) is SeatChange.MOVED
    assert seat.keys == PAIRS[index] and (seat.entry.peer_port, seat.entry.client_port) == (9_100, 9_101)
    assert seat.change(there) is SeatChange.STAYED


def test_a_key_that_it_lacks_is_named(config: NetworkConfig) -> None:
    seat = OwnSeat(config, 2, IDENTITIES[2], PAIRS[2].secret)
    others = [seat_of(config, each) for each in (0, 1)]
    with pytest.raises(BadKeyFile, match="lacks the CURVE key"):
        seat.change(membership(config, 2, *others, Seat(IDENTITIES[2].address, contact(4, 9_100))))


def test_peers_are_the_others_of_the_set_by_index(config: NetworkConfig) -> None:
    seat = OwnSeat(config, 2, IDENTITIES[2], PAIRS[2].secret)
    first = first_set(config, 2)
    assert seat.peers(first, Succession(first)) == {index: config.aggregators[index] for index in (0, 1, 3)}


def test_without_a_seat_everybody_is_a_peer_from_the_outsiders_on(config: NetworkConfig) -> None:
    newcomer = OwnSeat(config, None, IDENTITIES[5], PAIRS[5].secret, listening=listening(5, 9_000))
    first = first_set(config)
    peers = newcomer.peers(first, Succession(first))
    assert {entry.curve_public for entry in peers.values()} == {each.public for each in PAIRS[:4]}
    assert all(number < OUTSIDERS for number in peers)
