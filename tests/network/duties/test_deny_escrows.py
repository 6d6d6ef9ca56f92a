"""Members deny orders whose escrow their own chain does not hold, and the network goes on to pay the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from pot_lab.chain.errors import ChainReverted, ChainUnreachable
from pot_lab.network.duties.deny_escrows import DenyEscrows
from pot_lab.network.duties.duty import REPEAT_AFTER_MS
from pot_lab.network.duties.settle_epochs import SettleEpochs
from pot_lab.protocol.state import PendingEpoch
from pot_lab.protocol.transactions import DenyEscrow, open_body
from tests.network.duties.parts import HeldQueue, opened, signer_of
from tests.network.duties.test_settle_epochs import Wallet
from tests.protocol.test_epochs import ended_orders, finish_due
from tests.protocol.world import World, key


@dataclass
class Lookup:
    """A chain that lacks these escrows."""

    lacking: list[bytes] = field(default_factory=list)
    error: Exception | None = None
    asked: list[Mapping[bytes, int]] = field(default_factory=list)

    def lacking_escrows(self, due_grains: Mapping[bytes, int], confirmations: int) -> list[bytes]:
        assert confirmations == 3
        self.asked.append(due_grains)
        if self.error is not None:
            raise self.error
        return [each for each in self.lacking if each in due_grains]


class Denying:
    """One aggregator's duty in a world."""

    def __init__(self, world: World, index: int, lookup: Lookup) -> None:
        self.world, self.queue, self.lookup = world, HeldQueue(), lookup
        self.seen: int | None = None
        self.duty = DenyEscrows(
            lambda: world.ledger,
            signer_of(world, world.aggregators[index]),
            lambda: self.lookup,
            self.queue,
            seen_events=lambda: world.ledger.state.next_chain_event if self.seen is None else self.seen,
            confirmations=3,
        )

    def poll(self, now_ms: int) -> list[bytes]:
        """What the duty submits, at once and when the work that it started is done."""
        at_once = self.duty.poll(now_ms)
        self.queue.work()
        return at_once + self.duty.poll(now_ms)


@pytest.fixture
def world() -> World:
    """A world whose first epoch of three orders waits."""
    world = World()
    ended_orders(world, 3)
    finish_due(world)
    return world


def waiting(world: World) -> PendingEpoch:
    assert world.ledger.state.pending is not None
    return world.ledger.state.pending


def test_a_refused_epoch_is_looked_into_and_its_bad_order_denied_until_the_rest_is_settled(world: World) -> None:
    bad, lookup = waiting(world).order_ids[1], Lookup([waiting(world).order_ids[1]])
    first, second = Denying(world, 0, lookup), Denying(world, 1, lookup)
    assert first.poll(10_000) == [] and lookup.asked == [], "nothing is looked up without cause"
    first.duty.on_epoch_refused()
    requests = first.poll(10_001)
    [body] = [open_body(each) for each in opened(world, requests)]
    assert isinstance(body, DenyEscrow) and [each.order_id for each in body.orders] == [bad]
    orders = world.ledger.state.orders
    assert lookup.asked == [{each: sum(p.grains for p in orders[each].payouts) for each in waiting(world).order_ids}]
    assert first.poll(10_002) == [], "it was submitted just now"
    assert len(first.poll(10_001 + REPEAT_AFTER_MS)) == 1, "and is submitted again until it shows"
    assert world.ordered(*requests)[0].accepted
    assert first.poll(30_000) == []

    requests = second.poll(30_000)  # another's denial is cause to look
    assert world.ordered(*requests)[0].accepted
    assert world.ledger.state.pending is None
    assert first.poll(40_000) == second.poll(40_000) == []
    finish_due(world)
    assert bad not in waiting(world).order_ids
    for each in world.aggregators:
        world.nonces[each.address] = 2_000_000  # above those of the duties' transactions
    world.sign_epoch()
    world.settle()
    assert world.ledger.state.confirmed.epoch == 1


def test_a_lie_of_one_member_makes_the_others_look_and_deny_nothing(world: World) -> None:
    lies = Denying(world, 3, Lookup(list(waiting(world).order_ids)))
    lies.duty.on_epoch_refused()
    assert world.ordered(*lies.poll(10_000))[0].accepted
    honest = [Denying(world, index, Lookup()) for index in range(3)]
    assert [each.poll(10_000) for each in honest] == [[], [], []]
    assert [len(each.lookup.asked) for each in honest] == [1, 1, 1]
    assert [each.poll(60_000) for each in honest] == [[], [], []]
    assert [len(each.lookup.asked) for each in honest] == [1, 1, 1], "once for each round"
    assert len(waiting(world).order_ids) == 3


def test_an_aggregator_whose_watcher_is_behind_denies_nothing(world: World) -> None:
    behind = Denying(world, 0, Lookup(list(waiting(world).order_ids)))
    behind.seen = world.ledger.state.next_chain_event - 1
    behind.duty.on_epoch_refused()
    assert behind.poll(10_000) == [] and behind.lookup.asked == []
    behind.seen += 1
    assert len(behind.poll(10_001)) == 1


def test_a_chain_that_is_away_is_asked_again_in_the_next_round(world: World) -> None:
    one = Denying(world, 0, Lookup(error=ChainUnreachable("no node")))
    one.duty.on_epoch_refused()
    assert one.poll(10_000) == one.poll(20_000) == [] and len(one.lookup.asked) == 1
    world.wait(world.parameters.settlement_timeout_ms)
    one.lookup = Lookup([waiting(world).order_ids[0]])
    assert len(one.poll(30_000)) == 1


def test_an_account_without_a_seat_denies_nothing(world: World) -> None:
    lookup = Lookup(list(waiting(world).order_ids))
    duty = DenyEscrows(
        lambda: world.ledger,
        signer_of(world, key("stranger")),
        lambda: lookup,
        HeldQueue(),
        seen_events=lambda: 10**6,
        confirmations=3,
    )
    duty.on_epoch_refused()
    assert duty.poll(10_000) == []


@pytest.mark.parametrize(("name", "told"), [("UnknownOrder", 1), ("Insolvent", 1), ("WrongEpoch", 0), ("TooEarly", 0)])
def test_only_a_refusal_for_money_is_cause_to_look(world: World, name: str, told: int) -> None:
    world.sign_epoch()
    wallet, queue, calls = Wallet(error=ChainReverted(name)), HeldQueue(), []
    duty = SettleEpochs(
        lambda: world.ledger,
        signer_of(world, world.aggregators[2]),
        lambda: wallet,
        queue,
        on_refused=lambda: calls.append(name),
    )
    duty.poll(10_000)
    queue.work()
    assert len(calls) == told
