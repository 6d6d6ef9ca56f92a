"""The chain's signers follow the aggregators: who shall sign, who says so, what a settlement does meanwhile."""

from __future__ import annotations

import pytest

from pot_lab.agreement.quorum import quorum
from pot_lab.crypto.canonical import decode
from pot_lab.crypto.identity import Identity
from pot_lab.protocol import queries, signers, views
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import ChainEvent
from pot_lab.protocol.settlement import settlement_digest
from pot_lab.protocol.state import PendingRotation
from pot_lab.protocol.transactions import Join, Leave, RotateKeys, SignEpoch, SignRotation, VoteSeat
from tests.protocol.test_accusations import evidence
from tests.protocol.test_members import Town, application_for
from tests.protocol.world import POT, key


def rotation(town: Town) -> PendingRotation:
    found = town.ledger.state.rotation
    assert found is not None
    return found


def signature(town: Town, signer: Identity) -> SignRotation:
    named = rotation(town)
    return SignRotation(named.set_id, signer.sign(signers.digest_of(town.ledger.book, named)))


def rotated(set_id: int, threshold: int, keys: list[bytes]) -> ChainEvent:
    return ChainEvent(
        kind="signers_rotated",
        block=9,
        log_index=0,
        account=bytes(20),
        role=-1,
        amount_grains=0,
        subject=b"".join(keys),
        detail=(set_id, threshold),
    )


def named(account: Identity, signing: Identity) -> ChainEvent:
    return ChainEvent(
        kind="signing_key_set",
        block=9,
        log_index=0,
        account=account.address,
        role=-1,
        amount_grains=0,
        subject=signing.address,
        detail=(),
    )


def seat(town: Town, newcomer: Identity) -> None:
    """A newcomer's way to a seat, and to a key on the chain."""
    town.seat(newcomer)
    town.chain(named(newcomer, newcomer))


def follow(town: Town) -> None:
    """The chain takes the set that is named."""
    named = rotation(town)
    town.chain(rotated(named.set_id, named.threshold, named.stakers))


def addresses(people: list[Identity]) -> list[bytes]:
    return sorted(each.address for each in people)


def test_a_newcomer_signs_on_the_chain_when_the_signers_before_it_said_so() -> None:
    town, newcomer = Town(), key("newcomer")
    seat(town, newcomer)
    assert town.ledger.state.rotation is None  # not in force yet
    town.take_over()
    wanted = rotation(town)
    assert (wanted.set_id, wanted.threshold, wanted.stakers) == (2, quorum(5), addresses(town.aggregators))

    assert town.submit(newcomer, signature(town, newcomer)).code == "NotAllowed"
    first = town.aggregators[0]
    assert town.submit(first, SignRotation(2, town.aggregators[1].sign(bytes(32)))).code == "BadRotation"
    assert town.submit(first, SignRotation(3, signature(town, first).signature)).code == "BadRotation"
    assert town.submit(first, SignRotation(2, b"")).code == "BadRotation"
    for count, each in enumerate(town.aggregators[: quorum(4)], 1):
        town.must(each, signature(town, each))
        assert any(event.kind == "rotation_signed" for event in town.events) == (count == quorum(4))

    follow(town)
    state = town.ledger.state
    assert (state.signers, state.signer_set_id, state.signing_quorum) == (addresses(town.aggregators), 2, quorum(5))
    assert state.rotation is None
    assert town.submit(first, SignRotation(3, bytes(65))).code == "BadRotation"


def test_the_first_set_is_the_one_that_the_contracts_begin_with() -> None:
    town = Town(7)
    town.batch()
    assert town.ledger.state.rotation is None
    town.chain(rotated(1, 6, addresses(town.aggregators)))  # a founder may ask for more than the quorum
    assert town.ledger.state.signing_quorum == 6 and town.ledger.state.rotation is None


def test_a_settlement_on_its_way_is_signed_again_by_the_new_signers() -> None:
    town, newcomer = Town(), key("newcomer")
    for each in town.aggregators:
        town.fund(each)
    town.must(key("anybody"), evidence(town, town.aggregators[3]))  # makes an epoch
    liar = town.aggregators.pop(3)
    town.wait(2_000)
    before = town.ledger.state.pending
    assert before is not None and before.settlement.signer_set_id == 1
    town.fund(newcomer)
    town.must(newcomer, application_for(Join, town, newcomer, newcomer))
    for each in town.aggregators:
        town.must(each, VoteSeat(newcomer.address, True))
    town.aggregators.append(newcomer)
    town.chain(named(newcomer, newcomer))
    town.take_over()
    town.take_over()
    assert rotation(town).stakers == addresses(town.aggregators) and liar.address not in rotation(town).stakers
    follow(town)
    pending = town.ledger.state.pending
    assert pending is not None
    assert (pending.settlement.epoch, pending.settlement.round, pending.settlement.signer_set_id) == (1, 2, 2)
    digest = settlement_digest(town.genesis.chain_id, town.genesis.settlement_contract, pending.settlement)
    for each in town.aggregators[1:]:
        town.must(each, SignEpoch(1, 2, each.sign(digest)))
    view = decode(queries.query(town.ledger, "epoch", b""), views.EpochView, limit_bytes=1 << 20)
    assert list(view.signers) == addresses(town.aggregators[1:]) and view.quorum == 3


def test_no_more_leave_than_the_chain_can_do_without_until_it_follows() -> None:
    town = Town(7)  # 5 of 7 sign
    for _ in range(2):
        town.must(town.aggregators.pop(), Leave())
        town.take_over()
    reply = town.submit(town.aggregators[-1], Leave())
    assert reply.code == "ChangePending" and (reply.seen, reply.wanted) == ("4 of them would be left", "at least 5")
    for each in town.aggregators[:4]:
        reply = town.submit(each, VoteSeat(town.aggregators[-1].address, False))
    assert reply.code == "ChangePending"
    follow(town)
    town.must(town.aggregators.pop(), Leave())


def test_a_set_that_was_named_before_counts_too() -> None:
    town, one, two = Town(), key("one"), key("two")
    seat(town, one)
    town.take_over()
    first = rotation(town)
    seat(town, two)
    assert rotation(town) is first  # the change is not in force
    town.take_over()
    assert rotation(town).stakers == addresses(town.aggregators)
    assert rotation(town).signatures == {}
    town.chain(rotated(2, first.threshold, first.stakers))
    assert town.ledger.state.signers == first.stakers
    assert (rotation(town).set_id, rotation(town).stakers) == (3, addresses(town.aggregators))


def test_what_the_contracts_owner_seats_is_believed_and_then_followed_on_from() -> None:
    town, newcomer, recovery = Town(), key("newcomer"), key("recovery")
    owners = addresses([recovery, *town.aggregators[1:]])
    town.chain(rotated(2, 3, owners))
    state = town.ledger.state
    # the first one is no signer any more: the ledger cannot know what key it has on the chain by now
    assert state.signers == owners and rotation(town).stakers == addresses(town.aggregators[1:])
    seat(town, newcomer)
    town.take_over()
    assert rotation(town).stakers == addresses(town.aggregators[1:])
    town.fund(town.aggregators[0])
    town.chain(named(town.aggregators[0], town.aggregators[0]))
    assert rotation(town).stakers == addresses(town.aggregators)
    assert town.submit(recovery, signature(town, recovery)).code == ""
    follow(town)
    assert town.ledger.state.signers == addresses(town.aggregators) and town.ledger.state.signer_set_id == 3


def test_a_newcomer_signs_once_its_account_has_named_a_key_that_it_votes_with() -> None:
    town, cold, hot, other = Town(), key("cold"), key("hot"), key("other")
    town.chain(named(cold, hot))
    assert town.ledger.state.chain_keys == {}  # a stranger's
    town.fund(cold)
    town.must(cold, application_for(Join, town, cold, hot))
    for each in town.aggregators[:3]:
        town.must(each, VoteSeat(cold.address, True))
    town.take_over()
    book = town.ledger.book
    assert book.state.rotation is None and signers.has_to_name_its_key(book, cold.address)
    assert not signers.has_to_name_its_key(book, town.aggregators[0].address)
    town.chain(named(cold, cold))
    assert book.state.rotation is None  # its account's key is on no host
    town.chain(named(cold, hot))
    pairs = sorted([(hot.address, cold.address), *((each.address, each.address) for each in town.aggregators)])
    wanted = rotation(town)
    assert wanted.stakers == [account for _, account in pairs] and not signers.has_to_name_its_key(book, cold.address)

    # It names yet another key just before the chain takes the set: the set without it comes next, and no more after.
    town.chain(named(cold, other))
    taken = sorted([other.address, *(each.address for each in town.aggregators)])
    town.chain(rotated(2, wanted.threshold, taken))
    assert town.ledger.state.signers == taken and rotation(town).stakers == addresses(town.aggregators)
    follow(town)
    assert town.ledger.state.rotation is None


def test_a_key_that_was_named_without_stake_is_not_relied_on() -> None:
    town, newcomer = Town(), key("newcomer")
    town.fund(newcomer)
    town.chain(named(newcomer, newcomer))
    stake = 200 * POT
    town.chain(
        ChainEvent(
            kind="unstake_requested",
            block=1,
            log_index=0,
            account=newcomer.address,
            role=int(Role.AGGREGATOR),
            amount_grains=stake,
            subject=b"",
            detail=(0, 9),
        )
    )
    town.chain(named(newcomer, key("other")))
    town.seat(newcomer)
    town.take_over()
    assert town.ledger.state.rotation is None
    town.chain(named(newcomer, newcomer))
    assert rotation(town).stakers == addresses(town.aggregators)


def test_a_change_of_voting_keys_changes_no_signer() -> None:
    town = Town()
    town.must(town.aggregators[0], application_for(RotateKeys, town, town.aggregators[0], key("fresh")))
    town.take_over()
    assert town.ledger.state.rotation is None  # the contract changes no key of a current signer


def test_a_convict_signs_no_more() -> None:
    town = Town(5)
    for each in town.aggregators:
        town.fund(each)
    liar = town.aggregators[0]
    town.must(key("anybody"), evidence(town, liar))
    town.batch()
    town.take_over()
    assert rotation(town).stakers == addresses(town.aggregators[1:])
    assert town.submit(liar, signature(town, liar)).code == "NotAllowed"


@pytest.mark.parametrize("moment", ["named", "signed"])
def test_a_restored_ledger_goes_on_with_the_same_set(moment: str) -> None:
    town = Town()
    seat(town, key("newcomer"))
    town.take_over()
    if moment == "signed":
        town.must(town.aggregators[0], signature(town, town.aggregators[0]))
    copy = Ledger(town.genesis)
    copy.restore(town.ledger.snapshot())
    sequence, era = town.ledger.state.sequence + 1, town.era
    for ledger in (town.ledger, copy):
        ledger.execute(sequence, town.now_ms, [], era)
    assert copy.snapshot() == town.ledger.snapshot() and copy.state.rotation == rotation(town)
