"""What nobody claims of an epoch is paid out by one aggregator after the other."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pot_lab.chain.errors import ChainReverted, ChainUnreachable
from pot_lab.network.duties.pay_earners import LEAST_GRAINS, PayEarners
from pot_lab.protocol.epochs import confirmed_tree
from pot_lab.protocol.settlement import PayoutTree
from tests.network.duties.parts import HeldQueue, signer_of
from tests.network.duties.test_settle_epochs import slashed_world
from tests.protocol.world import World, key

OWN_MS, PATIENCE_MS = 60_000, 20_000


class Chain:
    """What the contract has paid, and what wallets were told to do."""

    def __init__(self) -> None:
        self.claimed: dict[bytes, int] = {}
        self.sent: list[dict[bytes, int]] = []
        self.asked = self.open = 0
        self.error: Exception | None = None

    def claimed_grains(self, account: bytes) -> int:
        self.asked += 1
        return self.claimed.get(account, 0)

    def claim_from_tree(self, tree: PayoutTree, cumulative_grains: Mapping[bytes, int]) -> None:
        if self.error is not None:
            raise self.error
        self.sent.append(dict(cumulative_grains))
        self.claimed.update(cumulative_grains)

    def opened(self) -> Chain:
        self.open += 1
        return self

    def close(self) -> None:
        self.open -= 1


class Paying:
    """One aggregator's duty, with its queue."""

    def __init__(self, world: World, index: int, chain: Chain) -> None:
        self.queue, self.chain = HeldQueue(), chain
        signer = signer_of(world, world.aggregators[index])
        self.duty = PayEarners(lambda: world.ledger, signer, chain.opened, self.queue)

    def at(self, now_ms: int) -> int:
        """Poll, and do what it starts; returns how much was sent in all by then."""
        assert self.duty.poll(now_ms) == []
        self.queue.work()
        assert self.chain.open == 0
        return len(self.chain.sent)


@pytest.fixture
def world() -> World:
    return slashed_world()


def place_of(world: World, place: int) -> int:
    """The index of the aggregator with this place in line."""
    return (world.ledger.state.confirmed.epoch + place) % 4


def worth_it(world: World) -> dict[bytes, int]:
    return {who: int(n) for who, n in world.ledger.state.confirmed.rewards.items() if n >= LEAST_GRAINS}


def test_the_first_in_line_pays_all_that_was_not_claimed_after_a_while(world: World) -> None:
    chain, due = Chain(), worth_it(world)
    claimer = next(iter(due))
    assert len(due) > 2
    first = Paying(world, place_of(world, 0), chain)
    assert first.at(1_000) == first.at(1_000 + OWN_MS - 1) == 0
    chain.claimed[claimer] = due[claimer]
    assert first.at(1_000 + OWN_MS) == 1
    assert chain.sent == [{who: grains for who, grains in due.items() if who != claimer}]
    assert first.at(10**9) == 1, "once for each epoch"


def test_the_next_in_line_pays_only_if_the_first_did_not(world: World) -> None:
    chain = Chain()
    line = [Paying(world, place_of(world, place), chain) for place in range(3)]
    for each in line:
        each.at(0)
    assert line[1].at(OWN_MS + PATIENCE_MS - 1) == 0
    assert line[1].at(OWN_MS + PATIENCE_MS) == 1  # the first is down
    asked = chain.asked
    assert line[2].at(OWN_MS + 2 * PATIENCE_MS) == 1 and chain.asked > asked


def test_the_tree_that_is_sent_proves_every_payout(world: World) -> None:
    chain, trees = Chain(), []
    chain.claim_from_tree = lambda tree, due: trees.append((tree, due))  # type: ignore[method-assign]
    paying = Paying(world, place_of(world, 0), chain)
    paying.at(0), paying.at(OWN_MS)
    [(tree, due)] = trees
    assert tree.root == world.ledger.state.confirmed.root == confirmed_tree(world.ledger.book).root
    assert due == worth_it(world)


def test_what_is_not_worth_the_gas_waits(world: World) -> None:
    chain = Chain()
    for account, grains in world.ledger.state.confirmed.rewards.items():
        chain.claimed[account] = int(grains) - LEAST_GRAINS + 1
    paying = Paying(world, place_of(world, 0), chain)
    paying.at(0)
    assert paying.at(OWN_MS) == 0


@pytest.mark.parametrize("error", [ChainUnreachable("no node"), ChainReverted("BadProof"), ChainReverted("IsPaused")])
def test_a_chain_that_does_not_take_it_is_tried_again_a_few_times(world: World, error: Exception) -> None:
    chain = Chain()
    paying = Paying(world, place_of(world, 0), chain)
    paying.at(0)
    chain.error, now_ms = error, OWN_MS
    assert paying.at(now_ms) == 0
    chain.error = None
    assert paying.at(now_ms + 1) == paying.at(now_ms + OWN_MS) == 0
    assert paying.at(now_ms + 1 + OWN_MS) == 1
    chain.error, lonely = error, Paying(world, place_of(world, 0), chain)
    chain.claimed.clear()
    asked = []
    for now_ms in range(0, 40 * OWN_MS, OWN_MS // 2):
        before = chain.asked
        lonely.at(now_ms)
        asked.append(chain.asked > before)
    assert sum(asked) == 5, "and no more until the next epoch"


def test_an_account_without_a_seat_pays_nobody(world: World) -> None:
    chain, queue = Chain(), HeldQueue()
    duty = PayEarners(lambda: world.ledger, signer_of(world, key("stranger")), chain.opened, queue)
    assert duty.poll(0) == duty.poll(10**9) == [] and queue.work() == 0
