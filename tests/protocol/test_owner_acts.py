"""A vote that changes a rule of the contracts too names an act of their owner, which the contracts' signers sign."""

from __future__ import annotations

import pytest
from msgspec import structs

from pot_lab.crypto.identity import Identity
from pot_lab.protocol import owner_acts
from pot_lab.protocol.parameters import Parameters
from pot_lab.protocol.proposals import OwnerActDue, change
from pot_lab.protocol.transactions import SignOwnerAct
from tests.protocol.scenes import new_world
from tests.protocol.test_governance import pass_, propose, view, vote
from tests.protocol.world import POT, World, key

DIGEST, OTHER = bytes([1]) * 32, bytes([2]) * 32


def signed(who: Identity, proposal: int, digest: bytes = DIGEST, number: int = 1) -> SignOwnerAct:
    return SignOwnerAct(proposal=proposal, number=number, digest=digest, signature=who.sign(digest))


def acts(world: World) -> dict[int, OwnerActDue]:
    return world.ledger.state.governance.acts


def test_an_act_is_named_when_a_vote_on_a_rule_of_the_contracts_has_passed() -> None:
    world = new_world()
    number = propose(world, update_ms=5_000, min_claim_bond_grains=2 * POT, treasury=key("new treasury").address)
    vote(world, number, 6)
    assert not acts(world)
    world.wait(world.parameters.voting_ms)
    assert {one.name for one in acts(world)[number].changes} == {"update_ms", "treasury"}
    assert [act.proposal for act in view(world).acts] == [number]
    assert world.ledger.state.parameters.update_ms != 5_000, "it is named as soon as the vote is over"
    assert world.replayed().snapshot() == world.ledger.snapshot()


def test_no_act_is_named_where_a_vote_fails_or_the_contracts_have_no_such_rule() -> None:
    world = new_world()
    lost = propose(world, update_ms=5_000)
    vote(world, lost, 0, 6)
    world.wait(world.parameters.voting_ms)
    pass_(world, min_claim_bond_grains=2 * POT)
    assert not acts(world) and view(world).acts == ()


def test_every_followed_parameter_is_one_that_a_vote_changes() -> None:
    usual = Parameters()
    for name in owner_acts.FOLLOWED:
        assert change(name, getattr(usual, name)).name in Parameters.__struct_fields__


def test_signatures_of_the_same_bytes_count_together() -> None:
    world = new_world()
    number = pass_(world, min_reward_grains=POT)
    quorum = world.ledger.state.signing_quorum
    first, *others = world.aggregators
    world.must(first, signed(first, number, OTHER))
    for each in others[: quorum - 1]:
        world.must(each, signed(each, number))
    act = acts(world)[number]
    assert len(owner_acts.agreed(world.ledger.book, act, DIGEST)) == quorum - 1
    assert not any(event.kind == "owner_act_signed" for event in world.events)
    world.must(first, signed(first, number))  # it signs again: what it signed before counts no more
    assert len(owner_acts.agreed(world.ledger.book, act, DIGEST)) == quorum
    assert not owner_acts.agreed(world.ledger.book, act, OTHER)
    assert [event.detail for event in world.events if event.kind == "owner_act_signed"] == [
        {"proposal": number, "number": 1}
    ]
    [shown] = view(world).acts
    assert shown.quorum == quorum and dict(shown.signatures)[first.address].digest == DIGEST


def test_only_the_contracts_signers_sign_and_only_what_waits() -> None:
    world = new_world()
    number = pass_(world, min_reward_grains=POT)
    first, second = world.aggregators[:2]
    stranger = key("stranger")
    assert world.submit(stranger, signed(stranger, number)).code == "NotAllowed"
    assert world.submit(first, signed(first, number + 1)).code == "BadProposal"
    assert world.submit(first, signed(second, number)).code == "BadProposal"
    wrong = signed(first, number)
    for changes in ({"number": 0}, {"number": 1 << 63}, {"signature": bytes(65)}, {"digest": OTHER}):
        assert world.submit(first, structs.replace(wrong, **changes)).code == "BadProposal"
    assert world.submit(first, structs.replace(wrong, digest=b"\1" * 31)).code == "Malformed"
    assert not acts(world)[number].signatures
    world.ledger.state.convicted.append(first.address)
    assert world.submit(first, wrong).code == "NotAllowed"


def test_an_act_is_forgotten_when_its_time_is_over() -> None:
    world = new_world()
    number = pass_(world, min_reward_grains=POT)
    until_ms = acts(world)[number].until_ms
    world.wait(until_ms - world.now_ms - 1)
    assert number in acts(world)
    world.wait(1)
    assert not acts(world) and view(world).acts == ()


def test_only_the_newest_acts_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner_acts, "MAX_ACTS", 2)
    world = new_world()
    numbers = [pass_(world, min_reward_grains=POT + i) for i in range(3)]
    assert sorted(acts(world)) == numbers[1:]
