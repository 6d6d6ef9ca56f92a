"""An aggregator that signs two things that contradict each other loses its stake, on proof alone and once."""

from __future__ import annotations

import msgspec
import pytest

from pot_lab.agreement.evidence import Equivocation
from pot_lab.agreement.votes import CHECKPOINT, COMMIT, PREPARE, VIEW_CHANGE, SignedVote, vote_digest
from pot_lab.consensus.messages import NO_HASH
from pot_lab.crypto.canonical import encode, sha256
from pot_lab.crypto.identity import Identity
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import ChainEvent
from pot_lab.protocol.transactions import Accuse, Attest
from tests.protocol.world import POT, World, key

ROLE = Role.AGGREGATOR


def vote(
    world: World, identity: Identity, name: str, phase: int = COMMIT, view: int = 0, sequence: int = 7
) -> SignedVote:
    digest = sha256(name.encode())
    signed = vote_digest(world.network_id, phase, view, sequence, digest, 3, NO_HASH)
    return SignedVote(phase, view, sequence, digest, 3, NO_HASH, identity.sign(signed))


def evidence(world: World, liar: Identity, **step: int) -> Accuse:
    return Accuse(encode(Equivocation(vote(world, liar, "one", **step), vote(world, liar, "other", **step))))


def staked(aggregators: int = 4) -> World:
    """A network whose aggregators' stakes the ledger knows."""
    world = World(aggregators)
    for each in world.aggregators:
        world.chain(
            ChainEvent(
                kind="staked",
                block=1,
                log_index=0,
                account=each.address,
                role=int(ROLE),
                amount_grains=200 * POT,
                subject=b"",
                detail=(200 * POT,),
            )
        )
    return world


def refused(world: World, accuse: Accuse, code: str) -> None:
    before = [world.ledger.book.stake(each.address, ROLE).slashed for each in world.aggregators]
    reply = world.submit(key("anybody"), accuse)
    assert not reply.accepted and reply.code == code, reply
    assert before == [world.ledger.book.stake(each.address, ROLE).slashed for each in world.aggregators]


@pytest.mark.parametrize(
    "step", [{}, {"phase": PREPARE, "view": 9}, {"phase": VIEW_CHANGE, "sequence": 0}, {"phase": CHECKPOINT}]
)
def test_a_proved_lie_costs_the_whole_stake_and_the_say(step: dict[str, int]) -> None:
    world = staked()
    liar = world.aggregators[2]
    reply = world.must(key("anybody"), evidence(world, liar, **step))
    assert reply.result == liar.address
    stake = world.ledger.book.stake(liar.address, ROLE)
    assert (stake.bonded, stake.unbonding, stake.slashed) == (0, 0, 200 * POT)
    said = world.submit(
        liar,
        Attest(
            world.chain_events,
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
    assert said.code == "NotAllowed"
    assert liar.address not in world.ledger.book.paid_aggregators
    assert any(event.kind == "convicted" and event.account == liar.address for event in world.events)
    assert world.replayed().state.digest == world.ledger.state.digest


def test_unbonding_stake_is_taken_too() -> None:
    world = staked()
    liar = world.aggregators[0]
    world.chain(
        ChainEvent(
            kind="unstake_requested",
            block=1,
            log_index=0,
            account=liar.address,
            role=int(ROLE),
            amount_grains=150 * POT,
            subject=b"",
            detail=(50 * POT, 9),
        )
    )
    assert world.ledger.book.stake(liar.address, ROLE).unbonding == 150 * POT
    world.must(key("anybody"), evidence(world, liar))
    assert world.ledger.book.stake(liar.address, ROLE).slashed == 200 * POT


def test_stake_that_the_ledger_hears_of_later_is_taken_as_well_and_there_is_no_way_back() -> None:
    world = World()
    liar = world.aggregators[2]
    world.must(key("anybody"), evidence(world, liar))
    assert world.ledger.book.stake(liar.address, ROLE).slashed == 0
    for _ in range(2):
        world.chain(
            ChainEvent(
                kind="staked",
                block=1,
                log_index=0,
                account=liar.address,
                role=int(ROLE),
                amount_grains=200 * POT,
                subject=b"",
                detail=(200 * POT,),
            )
        )
    assert world.ledger.book.stake(liar.address, ROLE).slashed == 400 * POT
    assert world.ledger.book.free(liar.address, ROLE) == 0
    world.wait(2_000)
    assert world.ledger.state.pending is not None


def test_one_misdeed_is_punished_once_whoever_shows_what_of_it() -> None:
    world = staked()
    liar = world.aggregators[1]
    first, second = evidence(world, liar), evidence(world, liar, view=5)
    twice = world.batch((key("anybody"), first), (key("another"), first))
    assert [reply.code for reply in twice] == ["", "AlreadyDone"]
    refused(world, second, "AlreadyDone")
    turned = msgspec.msgpack.decode(first.evidence)
    refused(world, Accuse(msgspec.msgpack.encode(turned[::-1])), "AlreadyDone")


def test_what_proves_nothing_is_refused() -> None:
    world = staked()
    liar, other, stranger = world.aggregators[0], world.aggregators[1], key("stranger")
    one, two = vote(world, liar, "one"), vote(world, liar, "other")
    forged = msgspec.structs.replace(two, digest=sha256(b"forged"))
    elsewhere = World()
    elsewhere.network_id = sha256(b"another network")
    for first, second in (
        (one, one),  # no contradiction
        (one, vote(world, liar, "other", view=1)),  # another step
        (one, vote(world, liar, "other", phase=PREPARE)),
        (one, vote(world, other, "other")),  # two signers
        (one, msgspec.structs.replace(two, signature=bytes(65))),  # no signature
        (one, forged),
        (vote(elsewhere, liar, "one"), two),
    ):
        refused(world, Accuse(encode(Equivocation(first, second))), "BadEvidence")
    refused(world, evidence(world, stranger), "NotAllowed")
    refused(world, evidence(elsewhere, liar), "BadEvidence")  # under this network's id they have other signers
    refused(world, Accuse(b"\x00" * 40), "Malformed")
    refused(world, Accuse(b"\x00" * 2_000), "Oversize")


def test_a_conviction_goes_to_the_chain_without_waiting_for_an_order() -> None:
    world = staked()
    liar = world.aggregators[3]
    assert world.ledger.due_ms() is None
    world.must(key("anybody"), evidence(world, liar))
    world.wait(2_000)
    pending = world.ledger.state.pending
    assert pending is not None and pending.slashes == {liar.address: [0, 0, 0, 200 * POT]}
    assert pending.order_ids == []
    world.sign_epoch()
    world.settle()
    assert world.ledger.state.confirmed.slashes == {liar.address: [0, 0, 0, 200 * POT]}
    assert world.ledger.due_ms() is None
