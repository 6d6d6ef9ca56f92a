"""An order that waits to be settled while the guardian pauses for as long as it may: its client must not take the
escrow back, having the model.
"""

from __future__ import annotations

import pytest

from pot_lab.chain.errors import ChainReverted
from pot_lab.chain.inspection import ContractInspector
from pot_lab.network.founding.found import REFUND_GRACE_S, NetworkTerms, contract_setup
from pot_lab.protocol.parameters import Parameters
from tests.chain.world import DAY_S, World

PAUSE_S = 7 * DAY_S


def refunded_in_a_pause(world: World, grace_s: int) -> bool:
    """Whether a client gets its escrow back during a pause that begins shortly before its order's last date."""
    world.send(world.founder, "OrderEscrow", "setRefundGrace", grace_s)
    order = world.order(life_s=3_600)
    world.send(world.guardian, "RewardSettlement", "pause", world.now_s() + PAUSE_S)
    world.warp(PAUSE_S - 60)
    try:
        world.wallet(world.client).refund(order.seal_by_s, order.spec, order.nonce)
    except ChainReverted as error:
        assert error.name == "TooEarly"
        return False
    return True


def test_with_the_grace_of_a_founded_network_it_cannot(world: World) -> None:
    setup = contract_setup((), Parameters(), NetworkTerms(name="four", rpc_url="http://127.0.0.1:1"))
    assert setup.refund_grace_s == REFUND_GRACE_S > PAUSE_S + DAY_S
    assert not refunded_in_a_pause(world, setup.refund_grace_s)


@pytest.mark.parametrize("grace_s", [60, DAY_S, 6 * DAY_S])
def test_with_a_shorter_grace_it_can_and_a_check_says_so(world: World, grace_s: int) -> None:
    assert refunded_in_a_pause(world, grace_s)
    with ContractInspector(world.url, world.contracts) as inspector:
        (said,) = inspector.grace_troubles()
        assert f"refunded {grace_s} s after" in said
        world.send(world.founder, "OrderEscrow", "setRefundGrace", REFUND_GRACE_S)
        assert inspector.grace_troubles() == []
