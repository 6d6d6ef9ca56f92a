"""Unstaking right after a promise, so that nothing is left when the promise is broken."""

from __future__ import annotations

from msgspec import structs

from pot_lab.protocol.cycle import Window
from pot_lab.protocol.parameters import Parameters, Role
from pot_lab.protocol.records import ChainEvent, Windows
from pot_lab.protocol.transactions import Put
from tests.protocol.scenes import PROVIDERS, new_world
from tests.protocol.world import POT, WINDOWS, World, key

DAY_MS = 86_400_000
CHAIN_UNBONDING_MS = 7 * DAY_MS
LONG = structs.replace(WINDOWS, train_ms=8 * DAY_MS)


def world(unbonding_ms: int) -> World:
    """A ledger that was told this about a chain which holds stake for seven days."""
    return new_world(Parameters(update_ms=1_000, treasury=key("treasury").address, unbonding_ms=unbonding_ms))


def longest(parameters: Parameters) -> Windows:
    """The longest windows that an order may ask for."""
    spare_ms = parameters.unbonding_ms - parameters.settling_ms - WINDOWS.longest_ms
    return structs.replace(WINDOWS, train_ms=WINDOWS.train_ms + spare_ms)


def taken_home(world: World, windows: Windows) -> int:
    """A provider claims, unstakes at once, withdraws as soon as the chain lets it, and reveals nothing: what it loses,
    in grains.
    """
    cheat = PROVIDERS[0]
    order_id, _ = world.start(windows=windows)
    assert world.claim(order_id, cheat, "model").accepted
    for kind, detail, later_ms in (("unstake_requested", (0, 9), 0), ("withdrawn", (), CHAIN_UNBONDING_MS)):
        end_ms = world.now_ms + later_ms
        world.wait_for(order_id, Window.VOID) if world.order(order_id).closes_ms < end_ms else None
        world.wait(end_ms - world.now_ms) if world.now_ms < end_ms else None
        event = ChainEvent(
            kind=kind, block=3, log_index=0, account=cheat.address, role=int(Role.PROVIDER),
            amount_grains=200 * POT, subject=b"", detail=detail,
        )  # fmt: skip
        world.chain(event)
    world.wait_for(order_id, Window.VOID)
    return world.ledger.book.stake(cheat.address, Role.PROVIDER).slashed


def test_no_order_outlasts_the_stakes_that_back_it() -> None:
    town = world(CHAIN_UNBONDING_MS)
    refused = town.submit(town.client, Put(town.new_order(windows=LONG)))
    assert (refused.code, refused.message) == (
        "BadWindows",
        "the order could outlast the stakes that back it, which the chain gives back after its unbonding time",
    )
    most = longest(town.parameters)
    more = structs.replace(most, train_ms=most.train_ms + 1)
    assert town.submit(town.client, Put(town.new_order(windows=more))).code == "BadWindows"
    assert taken_home(town, most) == POT


def test_without_the_rule_nothing_is_left_to_slash() -> None:
    assert taken_home(world(60 * DAY_MS), LONG) == 0
