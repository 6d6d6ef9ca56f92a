"""A client that leaves no time to judge its test data orders for nothing: others train, and it gets everything back."""

from __future__ import annotations

import pytest
from msgspec import structs

from pot_lab.crypto.link import Link
from pot_lab.protocol import rewards
from pot_lab.protocol.cycle import VoidReason, Window
from pot_lab.protocol.records import OrderRecord, TestData
from pot_lab.protocol.rewards import UNPROVEN
from pot_lab.protocol.transactions import Put
from tests.protocol.scenes import PROVIDERS, bring_to, new_world
from tests.protocol.world import POT, WINDOWS, World, link


def cost(world: World) -> tuple[int, int]:
    """What the client loses whose sealed test data no aggregator can read in its short window, and what each provider
    gets.
    """
    order_id = bring_to(world, Window.RELEASE)
    world.release(order_id, count=3)  # the key is known, and nobody comes to a verdict
    world.wait_for(order_id, Window.VOID)
    order = world.order(order_id)
    assert order.void_reason is VoidReason.RELEASE_TOO_SHORT and order.released_twice
    earned = [int(world.ledger.book.account(each.address).earned_grains) for each in (world.client, *PROVIDERS)]
    return order.order.reward_grains + order.order.fee_grains + order.order.bond_grains - earned[0], earned[1]


def test_it_costs_the_bond_and_the_fee_and_pays_those_who_trained() -> None:
    lost, got = cost(new_world())
    assert (lost, got) == (3 * POT, POT)


def test_without_the_rule_it_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewards, "UNPROVEN", UNPROVEN[:1])
    assert cost(new_world()) == (0, 0)


def large(world: World, **windows: int) -> OrderRecord:
    """An order whose test data take 20 s to fetch at the network's rate."""
    order = world.new_order(windows=structs.replace(WINDOWS, **windows))
    test: TestData = structs.replace(order.test, link=Link(link("test").digest, 20_000_000, link("test").uri))
    return structs.replace(order, test=test)


def test_windows_are_as_long_as_the_files_ask_for() -> None:
    world = new_world()
    reply = world.submit(world.client, Put(large(world)))
    assert (reply.code, reply.message) == ("BadWindows", "the release window is too short for the order's files")
    enough = dict.fromkeys(("release_ms", "score_ms", "challenge_ms"), 22_000)
    assert world.submit(world.client, Put(large(world, **enough))).accepted


@pytest.mark.parametrize("window", ["release_ms", "score_ms", "challenge_ms"])
def test_each_window_in_which_they_are_fetched_is(window: str) -> None:
    world = new_world()
    enough = dict.fromkeys(("release_ms", "score_ms", "challenge_ms"), 22_000) | {window: 20_000}
    assert world.submit(world.client, Put(large(world, **enough))).code == "BadWindows"


def test_without_that_rule_a_window_is_over_before_anybody_has_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OrderRecord, "_check_windows_for_files", lambda self, parameters: None)
    world = new_world()
    assert world.submit(world.client, Put(large(world))).accepted
