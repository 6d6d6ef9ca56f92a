"""An order as data for the front end."""

from __future__ import annotations

import json

import msgspec
import pytest

from pot_lab.cards.order_card import SHOWN_CLAIMS, order_card, void_advice
from pot_lab.protocol.cycle import Phase, VoidReason, Window
from pot_lab.protocol.views import OrderView, PayoutView
from tests.notebook.finished import finished_order

replace = msgspec.structs.replace


@pytest.fixture(scope="module")
def view() -> OrderView:
    return finished_order()


def test_a_card_says_where_the_order_stands_what_it_costs_and_who_leads(view: OrderView) -> None:
    card = order_card(view, 7)
    assert (card["window"], card["phase"], card["read_ms"]) == ("finalization", "FINALIZATION", 7)
    assert (card["reward_grains"], card["cost_grains"]) == ("25000000000", "28000000000")
    assert (card["claims"], card["revealed"], card["scores"], card["opened"]) == (2, 2, 8, 8)
    assert card["best"] == "95 of 100"
    assert card["leader_score"] == {"total": "95", "count": 100}
    assert [one["score"] for one in card["leaders"]] == ["95 of 100", "80 of 100"]
    assert card["leader"] == card["leaders"][0]["provider"]
    assert json.loads(json.dumps(card)) == card


def test_money_beyond_what_javascript_counts_stays_exact(view: OrderView) -> None:
    large = replace(view, order=replace(view.order, reward_grains=2**60 + 1))
    assert order_card(large, 0)["reward_grains"] == str(2**60 + 1)


def test_before_there_are_scores_the_newest_claims_come_first_and_not_all_of_thousands(view: OrderView) -> None:
    plain = [replace(view.claims[0], agreed=None, committed_ms=number) for number in range(1_000)]
    card = order_card(replace(view, claims=tuple(plain), winner=b""), 0)
    assert [one["committed_ms"] for one in card["leaders"]] == list(range(999, 999 - SHOWN_CLAIMS, -1))
    assert (card["claims"], card["newest_claim_ms"], card["best"], card["leader"]) == (1_000, 999, "", "")


def test_an_unusable_score_leads_nobody(view: OrderView) -> None:
    spoilt = [replace(one, agreed=replace(one.agreed, valid=False)) for one in view.claims if one.agreed]
    card = order_card(replace(view, claims=tuple(spoilt), winner=b""), 0)
    assert card["best"] == "" and {one["score"] for one in card["leaders"]} == {"not usable"}


def test_a_void_says_what_comes_back_and_what_to_do(view: OrderView) -> None:
    back = PayoutView(view.order.client, 27_000_000_000, "refund")
    others = PayoutView(b"\1" * 20, 1_000_000_000, "fee")
    void = replace(
        view, winner=b"", window=Window.VOID, phase=Phase.ENDED, void_reason=VoidReason.NO_CLAIMS.value,
        payouts=(back, others),
    )  # fmt: skip
    card = order_card(void, 0)
    assert card["back_grains"] == "27000000000"
    assert "pot-lab mine provider" in card["advice"]


@pytest.mark.parametrize("reason", list(VoidReason))
def test_every_void_has_advice_but_for_what_the_client_did_itself(reason: VoidReason) -> None:
    own = {VoidReason.WITHDRAWN, VoidReason.REFUNDED}
    assert bool(void_advice(reason.value)) == (reason not in own)
