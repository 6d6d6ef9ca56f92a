"""A client orders with a bond as large as a provider's stake and a window in which nobody can reveal, to burn it."""

from __future__ import annotations

import pytest
from msgspec import structs

from pot_lab.protocol.parameters import Parameters, Role
from pot_lab.protocol.records import OrderId, OrderRecord, Windows
from pot_lab.protocol.transactions import Put
from tests.protocol.scenes import MODELS, PROVIDERS, new_world, speech
from tests.protocol.world import POT, WINDOWS, World

STAKE = 200 * POT
SHORT = structs.replace(WINDOWS, reveal_ms=1)


def ordered(world: World, bond: int, windows: Windows) -> tuple[str, OrderId]:
    """The order's refusal, or none."""
    world.have_validators()
    order = world.new_order(claim_bond_grains=bond, windows=windows)
    code = world.submit(world.client, Put(order)).code
    if not code:
        world.escrow(order)
    return code, order.id


def lost(world: World, order_id: OrderId) -> int:
    """What the provider loses that commits, and finds the reveal window closed again."""
    world.must(*speech(world, order_id, "claim"))
    world.now_ms = world.order(order_id).closes_ms
    world.batch()  # the reveal window opens, and closes before anybody could answer
    world.now_ms += 2_500  # by how much aggregators' clocks may differ
    assert world.reveal(order_id, PROVIDERS[0], MODELS[0]).code == "TooLate"
    return world.ledger.book.stake(PROVIDERS[0].address, Role.PROVIDER).slashed


def test_neither_such_a_bond_nor_such_a_window_is_accepted(world: World) -> None:
    assert ordered(world, STAKE, WINDOWS)[0] == "RewardTooSmall"
    assert ordered(world, POT, SHORT)[0] == "BadWindows"


def test_without_either_rule_a_provider_loses_its_whole_stake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Parameters, "claim_bond_grains", lambda self, reward: STAKE)
    monkeypatch.setattr(Windows, "check", lambda self, parameters: None)
    monkeypatch.setattr(OrderRecord, "_check_windows_for_files", lambda self, parameters: None)
    world = new_world()
    code, order_id = ordered(world, STAKE, SHORT)
    assert code == "" and lost(world, order_id) == STAKE
