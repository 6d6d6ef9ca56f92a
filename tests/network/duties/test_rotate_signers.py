"""The signer set that the contract shall have is signed, and sent by one aggregator after the other."""

from __future__ import annotations

import pytest

from pot_lab.chain.errors import ChainUnreachable
from pot_lab.crypto.identity import Identity
from pot_lab.network.duties.duty import REPEAT_AFTER_MS
from pot_lab.network.duties.rotate_signers import RotateSigners
from pot_lab.protocol.transactions import SignRotation, open_body
from tests.network.duties.parts import HeldQueue, opened, signer_of
from tests.protocol.test_members import Town
from tests.protocol.test_signers import follow, named, rotation, seat, signature
from tests.protocol.world import key

PATIENCE_MS = 8_000


class Wallet:
    """What a chain wallet was told to do."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.error: Exception | None = None

    def set_signing_key(self, key: Identity) -> None:
        self._call("set_signing_key", key.address)

    def rotate(self, set_id: int, threshold: int, stakers: list[bytes], signatures: dict[bytes, bytes]) -> None:
        self._call("rotate", set_id, threshold, tuple(stakers), frozenset(signatures))

    def _call(self, *what: object) -> None:
        self.calls.append(what)
        if self.error is not None:
            raise self.error


class Rotating:
    """One aggregator's duty in a town, with its queue and its wallet."""

    def __init__(self, town: Town, identity: Identity) -> None:
        self.queue, self.wallet = HeldQueue(), Wallet()
        signer = signer_of(town, identity)
        self.duty = RotateSigners(lambda: town.ledger, signer, lambda: self.wallet, self.queue, PATIENCE_MS)

    def worked(self) -> list[tuple[object, ...]]:
        """What the wallet was told, by the work that waited."""
        self.queue.work()
        calls, self.wallet.calls[:] = list(self.wallet.calls), []
        return calls


@pytest.fixture
def town() -> Town:
    """A town whose newcomer has a seat in force, so that the contract shall have another set."""
    town = Town()
    seat(town, key("newcomer"))
    town.take_over()
    return town


def test_while_the_contract_has_the_right_set_nothing_is_signed() -> None:
    town = Town()
    rotating = Rotating(town, town.aggregators[0])
    assert rotating.duty.poll(10_000) == [] and rotating.worked() == []


def test_the_set_is_signed_again_after_a_while_until_the_signature_shows(town: Town) -> None:
    rotating = Rotating(town, town.aggregators[0])
    requests = rotating.duty.poll(10_000)
    [body] = [open_body(each) for each in opened(town, requests)]
    assert isinstance(body, SignRotation) and body.set_id == 2
    assert rotating.duty.poll(10_000 + REPEAT_AFTER_MS - 1) == []
    assert len(rotating.duty.poll(10_000 + REPEAT_AFTER_MS)) == 1
    assert town.ordered(*requests)[0].accepted
    assert rotating.duty.poll(20_000) == [] and rotating.worked() == []


def test_who_is_not_in_the_contracts_set_signs_nothing(town: Town) -> None:
    assert Rotating(town, key("newcomer")).duty.poll(10_000) == []


def test_a_signed_set_is_sent_by_one_after_the_other_and_again_in_turn(town: Town) -> None:
    wanted, n = rotation(town), len(town.aggregators)
    signers = town.aggregators[: town.ledger.state.signing_quorum]
    for each in signers:
        town.must(each, signature(town, each))
    members = town.ledger.book.members
    for each in town.aggregators:
        place = (members[each.address] - wanted.set_id) % n
        rotating, at_ms = Rotating(town, each), 10_000 + place * PATIENCE_MS
        rotating.duty.poll(10_000)
        if place:
            assert rotating.worked() == []
            rotating.duty.poll(at_ms - 1)
            assert rotating.worked() == []
            rotating.duty.poll(at_ms)
        sent = "rotate", 2, wanted.threshold, tuple(wanted.stakers), frozenset(one.address for one in signers)
        assert rotating.worked() == [sent]
        rotating.duty.poll(at_ms + n * PATIENCE_MS - 1)
        assert rotating.worked() == []
        rotating.duty.poll(at_ms + n * PATIENCE_MS)
        assert rotating.worked() == [sent]


def test_below_the_quorum_nothing_is_sent(town: Town) -> None:
    for each in town.aggregators[: town.ledger.state.signing_quorum - 1]:
        town.must(each, signature(town, each))
    for each in town.aggregators:
        rotating = Rotating(town, each)
        rotating.duty.poll(10_000)
        rotating.duty.poll(10_000 + 20 * PATIENCE_MS)
        assert rotating.worked() == []


def test_another_set_is_signed_and_timed_anew(town: Town) -> None:
    first = town.aggregators[0]
    rotating = Rotating(town, first)
    assert len(rotating.duty.poll(10_000)) == 1
    for each in town.aggregators[: town.ledger.state.signing_quorum]:
        town.must(each, signature(town, each))
    follow(town)
    assert rotating.duty.poll(10_001) == []
    seat(town, key("another"))
    town.take_over()
    assert rotation(town).set_id == 3
    assert len(rotating.duty.poll(10_002)) == 1, "within the time after which the same would be repeated"
    assert rotating.worked() == []


def test_a_newcomer_names_its_key_on_the_chain_until_the_chain_knows_it() -> None:
    town, newcomer = Town(), key("newcomer")
    town.seat(newcomer)
    rotating = Rotating(town, newcomer)
    rotating.duty.poll(10_000)
    assert rotating.worked() == [("set_signing_key", newcomer.address)]
    rotating.duty.poll(10_000 + PATIENCE_MS - 1)
    assert rotating.worked() == []
    rotating.duty.poll(10_000 + PATIENCE_MS)
    assert rotating.worked() == [("set_signing_key", newcomer.address)]
    town.chain(named(newcomer, newcomer))
    rotating.duty.poll(10_000 + 2 * PATIENCE_MS)
    assert rotating.worked() == []


def test_what_the_chain_refuses_is_logged(town: Town, caplog: pytest.LogCaptureFixture) -> None:
    for each in town.aggregators[: town.ledger.state.signing_quorum]:
        town.must(each, signature(town, each))
    members = town.ledger.book.members
    turn = next(each for each in town.aggregators if (members[each.address] - 2) % 5 == 0)
    rotating = Rotating(town, turn)
    rotating.wallet.error = ChainUnreachable("no node")
    rotating.duty.poll(10_000)
    assert len(rotating.worked()) == 1 and "rotation_not_sent set=2" in caplog.text

    newcomer = key("late")
    town.seat(newcomer)
    naming = Rotating(town, newcomer)
    naming.wallet.error = ChainUnreachable("no node")
    naming.duty.poll(10_000)
    assert len(naming.worked()) == 1 and "signing_key_not_named" in caplog.text
