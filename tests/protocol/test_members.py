"""Seats among the aggregators: who may have one, who decides, and what an order in flight keeps."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pot_lab.agreement.quorum import quorum
from pot_lab.crypto.canonical import Record, decode
from pot_lab.crypto.identity import Identity
from pot_lab.crypto.sealed_box import SealingKey
from pot_lab.protocol import members, queries, views
from pot_lab.protocol.application import LedgerApplication
from pot_lab.protocol.contact import Contact, possession_digest
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.members import NOTICE_MS
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import ChainEvent
from pot_lab.protocol.settlement import settlement_digest
from pot_lab.protocol.transactions import (
    Attest,
    Join,
    Leave,
    ReleaseShare,
    Reply,
    RotateKeys,
    SignEpoch,
    VoteSeat,
    open_transaction,
)
from tests.protocol.test_accusations import evidence, staked
from tests.protocol.world import POT, World, key

ROLE = Role.AGGREGATOR


def contact(name: str) -> Contact:
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:2], "big")
    return Contact(
        host="127.0.0.1",
        peer_port=1 + number % 60_000,
        client_port=60_001 + number % 5_000,
        custody_port=65_001,
        curve_public=hashlib.sha256(name.encode()).hexdigest()[:40],
    )


def application_for(kind: type, world: World, account: Identity, fresh: Identity, name: str = "") -> Record:
    where, sealing = contact(name or str(fresh.address.hex())), SealingKey.from_secret(bytes(31) + b"\x07").public
    digest = possession_digest(world.network_id, account.address, where, sealing)
    possession = fresh.sign(digest)
    return kind(voting_key=fresh.address, sealing_public=sealing, contact=where, possession=possession)


class Town(World):
    """A world in which consensus takes a new set over when the test says so."""

    era = 0

    def ordered(self, *requests: bytes) -> list[Reply]:
        transactions = [open_transaction(request, self.network_id) for request in requests]
        sequence = self.ledger.state.sequence + 1
        replies, events = self.ledger.execute(sequence, self.now_ms, transactions, self.era)
        self.events += events
        self.ledger.book.audit()
        if self.keeps:
            self.keep()
        return replies

    def take_over(self) -> None:
        self.era = self.ledger.state.sequence
        self.batch()

    def fund(self, identity: Identity) -> None:
        self.chain(
            ChainEvent(
                kind="staked",
                block=1,
                log_index=0,
                account=identity.address,
                role=int(ROLE),
                amount_grains=200 * POT,
                subject=b"",
                detail=(200 * POT,),
            )
        )

    def seat(self, newcomer: Identity) -> None:
        """A newcomer's whole way to a seat."""
        self.fund(newcomer)
        self.must(newcomer, application_for(Join, self, newcomer, newcomer))
        for each in self.aggregators[: self.ledger.book.quorum]:
            self.must(each, VoteSeat(newcomer.address, True))
        self.aggregators.append(newcomer)

    @property
    def accounts(self) -> list[bytes]:
        return [seat.account for seat in self.ledger.state.aggregators]


def test_a_staked_account_gets_a_seat_by_the_quorums_vote_and_not_before() -> None:
    town, newcomer = Town(), key("newcomer")
    town.fund(newcomer)
    town.must(newcomer, application_for(Join, town, newcomer, newcomer))
    for count, each in enumerate(town.aggregators[:3], 1):
        assert newcomer.address not in town.accounts
        town.must(each, VoteSeat(newcomer.address, True))
        assert (newcomer.address in town.accounts) == (count == quorum(4))
    assert town.ledger.book.quorum == quorum(5) and len(town.accounts) == 5
    town.must(
        newcomer,
        Attest(
            town.chain_events,
            (
                ChainEvent(
                    kind="funded",
                    block=1,
                    log_index=0,
                    account=key("a").address,
                    role=-1,
                    amount_grains=1,
                    subject=b"",
                    detail=(),
                ),
            ),
        ),
    )


@pytest.mark.parametrize("n", [4, 5, 6, 7, 10, 13])
def test_the_quorum_that_votes_is_consensus_own(n: int) -> None:
    town = Town(n)
    for count in range(quorum(n)):
        assert town.submit(town.aggregators[count], VoteSeat(town.aggregators[-1].address, False)).accepted == (
            n > 4 or count < quorum(n) - 1
        )
    assert len(town.accounts) == max(4, n - 1)


def test_a_seat_needs_stake_and_the_keys_own_word() -> None:
    town, poor, rich, other = Town(), key("poor"), key("rich"), key("other")
    assert town.submit(poor, application_for(Join, town, poor, poor)).code == "InsufficientStake"
    town.fund(rich)
    stolen = application_for(Join, town, other, rich)  # signed for another account
    assert town.submit(rich, stolen).code == "BadSeat"
    taken = application_for(Join, town, rich, town.aggregators[0])
    assert town.submit(rich, taken).code == "BadSeat"
    bad = Join(
        voting_key=rich.address,
        sealing_public=bytes(32),
        contact=Contact(host="", peer_port=1, client_port=2, custody_port=3, curve_public="x" * 40),
        possession=bytes(65),
    )
    assert town.submit(rich, bad).code == "Malformed"
    assert town.submit(town.aggregators[0], VoteSeat(rich.address, True)).code == "BadSeat"
    assert town.submit(rich, VoteSeat(rich.address, True)).code == "NotAllowed"
    town.must(rich, application_for(Join, town, rich, rich))
    leaves = Attest(town.chain_events, (unstaked(rich),))
    one, two, three, _ = town.aggregators
    replies = town.batch(
        (one, leaves), (two, leaves), *((each, VoteSeat(rich.address, True)) for each in (one, two, three))
    )
    assert [reply.code for reply in replies] == ["", "", "", "", "InsufficientStake"]
    assert town.submit(one, VoteSeat(rich.address, True)).code == "BadSeat", "it is a candidate no more"


def unstaked(identity: Identity) -> ChainEvent:
    return ChainEvent(
        kind="unstake_requested",
        block=1,
        log_index=0,
        account=identity.address,
        role=int(ROLE),
        amount_grains=200 * POT,
        subject=b"",
        detail=(0, 9),
    )


def test_one_change_takes_force_before_the_next_is_made() -> None:
    town, newcomer = Town(), key("newcomer")
    town.seat(newcomer)
    assert town.submit(newcomer, Leave()).code == "ChangePending"
    rotate = application_for(RotateKeys, town, newcomer, key("fresh"))
    assert town.submit(newcomer, rotate).code == "ChangePending"
    town.take_over()
    town.must(newcomer, rotate)
    assert town.submit(newcomer, Leave()).code == "ChangePending"


def test_a_batch_is_wanted_until_a_change_is_in_force() -> None:
    """Without it an idle ledger would not know, and refuse the next change for ever."""
    town = Town()
    assert town.ledger.due_ms() is None
    town.seat(key("newcomer"))
    assert town.ledger.due_ms() == town.ledger.state.time_ms + NOTICE_MS
    town.batch()
    assert town.ledger.due_ms() == town.ledger.state.time_ms + NOTICE_MS
    town.take_over()
    assert town.ledger.due_ms() is None


def test_the_last_four_cannot_leave() -> None:
    town, newcomer = Town(), key("newcomer")
    assert town.submit(town.aggregators[0], Leave()).code == "BadSeat"
    town.seat(newcomer)
    town.take_over()
    town.must(town.aggregators[0], Leave())
    town.take_over()
    assert town.submit(town.aggregators[1], Leave()).code == "BadSeat"
    assert town.submit(town.aggregators[0], VoteSeat(newcomer.address, False)).code == "NotAllowed"


def test_a_rotated_key_speaks_for_its_account_and_the_old_one_is_silent_and_still_answers_for_itself() -> None:
    town = Town()
    for each in town.aggregators:
        town.fund(each)
    account, fresh = town.aggregators[2], key("fresh")
    assert town.submit(fresh, application_for(RotateKeys, town, account, fresh)).code == "BadSeat"
    town.must(account, application_for(RotateKeys, town, account, fresh))
    event = Attest(
        town.chain_events,
        (
            ChainEvent(
                kind="funded",
                block=1,
                log_index=0,
                account=key("a").address,
                role=-1,
                amount_grains=1,
                subject=b"",
                detail=(),
            ),
        ),
    )
    assert town.submit(account, event).code == "NotAllowed"
    town.must(fresh, event)
    town.take_over()
    back = application_for(RotateKeys, town, account, account)
    assert town.submit(account, back).code == "BadSeat"  # a key that was given up never comes back
    town.must(key("anybody"), evidence(town, account))  # what the old key signed
    assert town.ledger.book.stake(account.address, ROLE).slashed == 200 * POT
    assert town.submit(fresh, event).code == "NotAllowed"
    assert town.submit(account, application_for(RotateKeys, town, account, key("third"))).code == "NotAllowed"


def test_a_convicted_member_goes_as_soon_as_four_others_are_left() -> None:
    town, newcomer = Town(), key("newcomer")
    for each in town.aggregators:
        town.fund(each)
    liar = town.aggregators[0]
    town.must(key("anybody"), evidence(town, liar))
    town.take_over()
    assert liar.address in town.accounts
    town.aggregators = town.aggregators[1:]  # the others decide, all of them
    town.fund(newcomer)
    town.must(newcomer, application_for(Join, town, newcomer, newcomer))
    for each in town.aggregators:
        town.must(each, VoteSeat(newcomer.address, True))
    assert liar.address in town.accounts and len(town.accounts) == 5
    town.take_over()
    assert liar.address not in town.accounts and len(town.accounts) == 4


def test_an_order_keeps_those_whom_its_key_is_sealed_to() -> None:
    town, newcomer = Town(), key("newcomer")
    order_id, _ = town.start()
    provider = key("provider")
    town.stake(provider, Role.PROVIDER)
    town.claim(order_id, provider, "model")
    town.seat(newcomer)
    town.take_over()
    gone = town.aggregators[1]
    town.must(gone, Leave())
    town.take_over()
    town.wait_for(order_id, "reveal")
    town.reveal(order_id, provider, "model")
    shares = town.shares[order_id]
    assert town.submit(newcomer, ReleaseShare(order_id, shares[1])).code == "NotAllowed"
    town.must(town.aggregators[0], ReleaseShare(order_id, shares[0]))
    town.must(gone, ReleaseShare(order_id, shares[1]))
    town.must(town.aggregators[2], ReleaseShare(order_id, shares[2]))
    assert town.order(order_id).test_key


def test_the_chain_counts_its_own_signers_until_it_is_told_of_others() -> None:
    town, newcomer, fresh = Town(), key("newcomer"), key("fresh")
    for each in town.aggregators:
        town.fund(each)
    town.seat(newcomer)
    town.take_over()
    rotated = town.aggregators[0]
    town.must(rotated, application_for(RotateKeys, town, rotated, fresh))
    town.must(key("anybody"), evidence(town, town.aggregators[3]))  # makes an epoch
    town.wait(2_000)
    pending = town.ledger.state.pending
    assert pending is not None and town.ledger.state.signing_quorum == 3
    digest = settlement_digest(town.genesis.chain_id, town.genesis.settlement_contract, pending.settlement)
    name = pending.settlement.epoch, pending.settlement.round

    def complete() -> bool:
        return any(event.kind == "epoch_signed" for event in town.events)

    for signer in (newcomer, fresh, town.aggregators[1]):
        town.must(signer, SignEpoch(*name, signer.sign(digest)))
    convict = town.aggregators[3]
    assert town.submit(convict, SignEpoch(*name, convict.sign(digest))).code == "NotAllowed"
    town.must(town.aggregators[2], SignEpoch(*name, town.aggregators[2].sign(digest)))
    assert not complete()
    town.must(rotated, SignEpoch(*name, rotated.sign(digest)))  # the old key, which the contract knows
    assert complete()
    view = decode(queries.query(town.ledger, "epoch", b""), views.EpochView, limit_bytes=1 << 20)
    assert view.quorum == len(view.signers) == 3 and newcomer.address not in view.signers


def test_consensus_is_asked_for_the_set_that_the_ledger_names() -> None:
    application = LedgerApplication(Town().genesis)
    first = application.seats()
    assert first is application.seats() and [seat.contact for seat in first] == [b""] * 4
    town = Town()
    application.ledger = town.ledger
    newcomer = key("newcomer")
    town.seat(newcomer)
    assert [seat.address for seat in application.seats()] == [each.address for each in town.aggregators]
    copy = Ledger(town.genesis)
    copy.restore(town.ledger.snapshot())
    application.ledger = copy
    assert [seat.address for seat in application.seats()] == [each.address for each in town.aggregators]
    assert copy.book.members == town.ledger.book.members


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("jlrvt"), st.integers(0, 7), st.integers(0, 7)), max_size=40))
@example([("r", 0, 0), ("v", 1, 1), ("t", 0, 0)])
def test_whatever_people_ask_for_sets_differ_by_one_seat_and_hold_four_to_a_hundred(deeds: list) -> None:
    town = Town(5)
    people = [*town.aggregators, *(key(f"person {i}") for i in range(3))]
    for person in people:
        town.fund(person)
    in_force = {(seat.account, seat.key) for seat in town.ledger.state.aggregators}
    for count, (deed, one, other) in enumerate(deeds):
        person = people[one]
        if deed == "j":
            town.submit(person, application_for(Join, town, person, person, f"at {one}"))
        elif deed == "l":
            town.submit(person, Leave())
        elif deed == "r":
            town.submit(person, application_for(RotateKeys, town, person, key(f"key {count}")))
        elif deed == "v":
            for seat in list(people):
                town.submit(seat, VoteSeat(people[other].address, one % 2 == 0))
        else:  # what was named before is in force then, and the same batch may name what comes next
            in_force = {(seat.account, seat.key) for seat in town.ledger.state.aggregators}
            town.take_over()
        now = {(seat.account, seat.key) for seat in town.ledger.state.aggregators}
        assert len(in_force ^ now) <= 2
        assert 4 <= len(now) <= 100 and len({account for account, _ in now}) == len(now)
        if town.ledger.state.era >= town.ledger.state.changed:
            in_force = now


def test_a_ledger_that_knows_the_stakes_is_the_same_after_a_restart() -> None:
    world = staked(5)
    world.must(key("anybody"), evidence(world, world.aggregators[0]))
    copy = Ledger(world.genesis)
    copy.restore(world.ledger.snapshot())
    assert copy.snapshot() == world.ledger.snapshot()
    assert copy.book.members == world.ledger.book.members


def test_whoever_orders_is_told_to_whom_to_seal_now() -> None:
    town, newcomer = Town(), key("newcomer")
    town.seat(newcomer)
    raw = queries.query(town.ledger, "network", b"")
    shown = decode(raw, views.NetworkView, limit_bytes=1 << 20).members
    assert [member.address for member in shown] == town.accounts
    assert shown[4].sealing_public == town.ledger.state.aggregators[4].sealing_public


def test_so_many_accounts_may_apply_for_seats_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "MAX_CANDIDATES", 2)
    town = Town()
    people = [key(f"applicant {number}") for number in range(3)]
    for person in people:
        town.fund(person)
    for person in people[:2]:
        town.must(person, application_for(Join, town, person, person))
    refused = town.submit(people[2], application_for(Join, town, people[2], people[2]))
    assert (refused.code, refused.wanted) == ("BadSeat", "at most 2")
    town.must(people[0], application_for(Join, town, people[0], people[0]))  # a second application takes no more room
    assert sorted(town.ledger.state.candidates) == sorted(person.address for person in people[:2])
