"""What the members decide reaches the contracts: signed by the aggregators' processes, after the timelock's delay.

The ledger and the contracts are real, and so is the chain between them; each aggregator has its own duty and queue.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from pot_lab.chain.account import ChainAccount, Receipt
from pot_lab.chain.errors import BadOwnerAct, ChainUnreachable
from pot_lab.chain.governance import OwnerAct, OwnerActs
from pot_lab.crypto.identity import Identity
from pot_lab.network.duties.act_on_votes import NO_OWNER_MS, ActOnVotes, ContractOwner
from pot_lab.network.duties.duty import REPEAT_AFTER_MS
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.transactions import SignOwnerAct, open_body
from tests.chain.owned import STRANGER, Owned, owned_network
from tests.network.duties.parts import HeldQueue, opened, signer_of
from tests.protocol.scenes import new_world
from tests.protocol.test_governance import pass_
from tests.protocol.world import POT, World, key

LOOK_MS = 15_000


class Acting:
    """One aggregator's duty, its queue and its way to the contracts."""

    def __init__(self, world: World, owned: Owned, identity: Identity) -> None:
        self.world, self.owned, self.identity, self.queue = world, owned, identity, HeldQueue()
        self.now_ms, self.error, self.opened = 0, None, 0
        self.error: Exception | None
        signer = signer_of(world, identity)
        self.duty = ActOnVotes(lambda: world.ledger, signer, self.owner, self.queue, look_ms=LOOK_MS)

    def owner(self) -> ContractOwner:
        self.opened += 1
        if self.error is not None:
            raise self.error
        return OwnerActs(self.owned.url, self.owned.contracts, self.identity)

    def look(self) -> int:
        """One look at the chain, and what it has to say to the ledger; how many requests that were."""
        self.now_ms += LOOK_MS
        self.duty.poll(self.now_ms)
        self.queue.work()
        requests = self.duty.poll(self.now_ms)
        if requests:
            assert all(reply.accepted for reply in self.world.ordered(*requests))
        return len(requests)


@pytest.fixture
def world() -> World:
    return new_world()


@pytest.fixture
def owned(chain_url: str, world: World) -> Iterator[Owned]:
    with owned_network(chain_url, world.aggregators) as made:
        yield made


@pytest.fixture
def all_of_them(world: World, owned: Owned) -> list[Acting]:
    return [Acting(world, owned, each) for each in world.aggregators]


def rules(owned: Owned) -> dict[str, object]:
    """What of the contracts' rules a vote changes."""
    at = owned.contracts
    return {
        "min_stakes": [owned.read("StakeRegistry", at.registry, "minStake", int(role))[0] for role in Role],
        "treasury": owned.read("StakeRegistry", at.registry, "treasury")[0],
        "min_reward": owned.read("OrderEscrow", at.escrow, "minReward")[0],
        "cycle": owned.read("RewardSettlement", at.settlement, "minCycle")[0],
        "delay": owned.read("Timelock", owned.timelock, "getMinDelay")[0],
    }


def proposals(owned: Owned) -> int:
    return int(owned.read("Governor", owned.governor, "proposals")[0])  # type: ignore[call-overload]


def test_a_vote_changes_the_contracts_after_their_delay_without_any_operator(
    world: World, owned: Owned, all_of_them: list[Acting]
) -> None:
    before = rules(owned)
    treasury = key("new treasury").address
    stakes = (POT, 2 * POT, 3 * POT, 4 * POT)
    pass_(
        world,
        min_stake_grains=stakes,
        min_reward_grains=5 * POT,
        treasury=treasury,
        update_ms=8_000,
        timelock_ms=259_200_000,
    )
    for _ in range(2 * len(all_of_them)):
        for each in all_of_them:
            each.look()
    assert proposals(owned) == 1, "one proposal, whoever sends it"
    assert rules(owned) == before, "nothing before the delay is over"
    owned.wait()
    for _ in range(len(all_of_them)):
        for each in all_of_them:
            each.look()
    assert rules(owned) == {
        "min_stakes": list(stakes),
        "treasury": treasury,
        "min_reward": 5 * POT,
        "cycle": 4,
        "delay": 259_200,
    }
    assert proposals(owned) == 1
    for each in all_of_them:  # and afterwards nothing is asked, signed or sent
        each.look()
        height, opened_before = owned.rpc.call("eth_blockNumber"), each.opened
        assert each.look() == 0 and each.queue.work() == 0 and each.opened == opened_before
        assert owned.rpc.call("eth_blockNumber") == height


def test_below_the_quorum_nothing_is_proposed(world: World, owned: Owned, all_of_them: list[Acting]) -> None:
    pass_(world, min_reward_grains=5 * POT)
    few = all_of_them[: world.ledger.state.signing_quorum - 1]
    for _ in range(3 * len(all_of_them)):
        for each in few:
            each.look()
    assert proposals(owned) == 0
    late = all_of_them[len(few)]
    assert late.look() == 1
    for _ in range(len(all_of_them)):
        for each in (*few, late):
            each.look()
    assert proposals(owned) == 1


def test_a_signature_is_submitted_again_until_the_ledger_has_it(world: World, owned: Owned) -> None:
    number = pass_(world, min_reward_grains=5 * POT)
    acting = Acting(world, owned, world.aggregators[0])
    acting.duty.poll(LOOK_MS)
    acting.queue.work()
    requests = acting.duty.poll(LOOK_MS)
    [body] = [open_body(each) for each in opened(world, requests)]
    assert isinstance(body, SignOwnerAct) and (body.proposal, body.number) == (number, 1)
    assert acting.duty.poll(LOOK_MS + REPEAT_AFTER_MS - 1) == []
    assert len(acting.duty.poll(LOOK_MS + REPEAT_AFTER_MS)) == 1
    assert world.ordered(*requests)[0].accepted
    assert acting.duty.poll(2 * LOOK_MS + REPEAT_AFTER_MS) == []


def test_where_another_proposal_took_the_number_it_is_signed_again(
    world: World, owned: Owned, all_of_them: list[Acting]
) -> None:
    number = pass_(world, min_reward_grains=5 * POT)
    for each in all_of_them[:-1]:
        assert each.look() == 1
    owned.propose(("escrow", "setGraces", [86_400, 30 * 86_400]))  # by its operators' files
    for each in all_of_them:
        each.look()
    signatures = world.ledger.state.governance.acts[number].signatures
    assert {each.number for each in signatures.values()} == {2}
    for _ in range(len(all_of_them)):
        for each in all_of_them:
            each.look()
    assert proposals(owned) == 2
    owned.wait()
    for _ in range(len(all_of_them)):
        for each in all_of_them:
            each.look()
    assert rules(owned)["min_reward"] == 5 * POT


def test_two_votes_have_their_turns(world: World, owned: Owned, all_of_them: list[Acting]) -> None:
    pass_(world, min_reward_grains=5 * POT)
    pass_(world, min_reward_grains=6 * POT)
    for _ in range(4 * len(all_of_them)):
        for each in all_of_them:
            each.look()
    assert proposals(owned) == 2
    owned.wait()
    for _ in range(2 * len(all_of_them)):
        for each in all_of_them:
            each.look()
    assert rules(owned)["min_reward"] == 6 * POT, "the later vote holds"


def test_an_aggregator_that_starts_late_finds_what_was_done(
    world: World, owned: Owned, all_of_them: list[Acting]
) -> None:
    pass_(world, min_reward_grains=5 * POT)
    early = all_of_them[: world.ledger.state.signing_quorum]
    for _ in range(2 * len(all_of_them)):
        for each in early:
            each.look()
    owned.wait()
    for _ in range(2 * len(all_of_them)):
        for each in early:
            each.look()
    assert rules(owned)["min_reward"] == 5 * POT
    sent = ChainAccount(owned.rpc, owned.contracts.chain_id, None).height()
    late = Acting(world, owned, world.aggregators[-1])
    assert [late.look() for _ in range(3)] == [0, 0, 0]
    assert ChainAccount(owned.rpc, owned.contracts.chain_id, None).height() == sent and proposals(owned) == 1


def test_a_chain_that_is_away_delays_it(world: World, owned: Owned) -> None:
    pass_(world, min_reward_grains=5 * POT)
    acting = Acting(world, owned, world.aggregators[0])
    acting.error = ChainUnreachable("the node does not answer")
    assert [acting.look() for _ in range(3)] == [0, 0, 0] and acting.opened == 3
    acting.error = None
    assert acting.look() == 1


class Beaten(OwnerActs):
    """Another aggregator's proposal is there between this one's draft and its sending, once."""

    others: int = 1

    def propose(self, proposal: OwnerAct, signatures: Mapping[bytes, bytes]) -> Receipt:
        if self.others:
            self.others -= 1
            raise BadOwnerAct("a proposal has another number than is due", seen=1, wanted=2)
        return super().propose(proposal, signatures)


def test_an_aggregator_that_was_beaten_to_it_goes_on_at_its_next_look(
    world: World, owned: Owned, all_of_them: list[Acting]
) -> None:
    pass_(world, min_reward_grains=5 * POT)
    for each in all_of_them[1:]:
        each.look()
    only = all_of_them[0]
    only.owner = lambda: Beaten(owned.url, owned.contracts, only.identity)  # type: ignore[method-assign]
    only.duty._make_owner = only.owner
    for _ in range(len(all_of_them) + 3):
        only.look()
    assert proposals(owned) == 1


def test_where_no_governor_owns_the_contracts_it_seldom_asks(world: World, owned: Owned) -> None:
    pass_(world, min_reward_grains=5 * POT)
    acting = Acting(world, owned, world.aggregators[0])
    acting.error = BadOwnerAct("nothing of this network is decided by a quorum")
    assert [acting.look() for _ in range(4)] == [0, 0, 0, 0] and acting.opened == 1
    acting.now_ms += NO_OWNER_MS
    acting.look()
    assert acting.opened == 2


def test_who_is_no_signer_does_nothing(world: World, owned: Owned) -> None:
    pass_(world, min_reward_grains=5 * POT)
    acting = Acting(world, owned, STRANGER)
    assert acting.look() == 0 and acting.opened == 0
