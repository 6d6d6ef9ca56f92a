"""A client withdraws in the batch of the first claim, or at the last moment, so that providers train for nothing."""

from __future__ import annotations

from typing import Any

import pytest

from pot_lab.protocol import ledger as rules
from pot_lab.protocol.book import Book
from pot_lab.protocol.cycle import VoidReason, Window
from pot_lab.protocol.orders.windows import end_void
from pot_lab.protocol.transactions import Withdraw
from tests.protocol.scenes import bring_to, new_world, speech
from tests.protocol.world import World


def withdraws(world: World) -> str:
    """The claim comes first in the batch, the client's withdrawal after it; returns where the order then stands."""
    order_id = bring_to(world, Window.COMMIT, claimed=False)
    world.batch(speech(world, order_id, "claim"), (world.client, Withdraw(order_id)))
    return world.order(order_id).window


def test_a_claimed_order_is_not_withdrawn_in_the_same_batch(world: World) -> None:
    assert withdraws(world) == Window.COMMIT


def test_nor_is_it_claimed_or_withdrawn_at_the_deadline_itself(world: World) -> None:
    order_id = bring_to(world, Window.COMMIT, claimed=False)
    world.now_ms = world.order(order_id).closes_ms
    claim, withdrawal = world.batch(speech(world, order_id, "claim"), (world.client, Withdraw(order_id)))
    assert (claim.code, withdrawal.code) == ("TooLate", "TooLate")
    assert world.order(order_id).void_reason is VoidReason.NO_CLAIMS, "the window is half-open"


def test_without_the_rule_the_client_gets_all_back_and_the_provider_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def whenever(book: Book, client: Any, body: Withdraw) -> bytes:
        end_void(book, body.order_id, book.require_order(body.order_id), VoidReason.WITHDRAWN)
        return b""

    monkeypatch.setitem(rules.HANDLERS, "withdraw", whenever)
    world = new_world()
    assert withdraws(world) == Window.VOID
    spent = world.ledger.book.account(world.client.address).earned_grains
    order = next(iter(world.ledger.state.orders.values())).order
    assert spent == order.reward_grains + order.fee_grains + order.bond_grains
