"""`pot-lab orders`: what is printed of an order."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from pot_lab.cli.orders import (
    bonds_lost,
    order_facts,
    order_line,
)
from pot_lab.cli.wallet import on_its_way, what_is_not_free
from pot_lab.crypto.identity import format_address
from pot_lab.notebook.quantities import pot
from pot_lab.protocol.cycle import Phase, Window
from pot_lab.protocol.parameters import GRAINS_PER_POT
from pot_lab.protocol.queries import order_view
from pot_lab.protocol.views import OrderSummary
from tests.protocol.scenes import PROVIDERS, bring_to, new_world

FIRST = bytes.fromhex("abcd" + "00" * 30)


def summary(**changes: Any) -> OrderSummary:
    whole = OrderSummary(
        id=FIRST,
        client=bytes(20),
        title="digits",
        window=Window.COMMIT,
        phase=Phase.TRAINING,
        t0_ms=0,
        closes_ms=100_000,
        reward_grains=25 * GRAINS_PER_POT,
        train_ms=60_000,
        score_name="accuracy",
        claims=2,
        leader=b"",
        leader_score=None,
        void_reason="",
        ended_ms=0,
    )
    return msgspec.structs.replace(whole, **changes)


def test_a_line_has_window_time_left_reward_claims_and_title() -> None:
    assert order_line(summary(), 95_500).split() == [
        "abcd00000000", "commit", "5", "s", "25", "POT", "2", "claims", "digits"
    ]  # fmt: skip


def test_a_line_of_an_ended_order_has_its_winner_or_why_it_is_void() -> None:
    settled = order_line(summary(window=Window.SETTLED, closes_ms=0, leader=bytes([0xAB] * 20)), 95_500)
    assert settled.split()[1:] == ["settled", "25", "POT", "2", "claims", "winner", "0xABaBaBaB", "digits"]
    void = order_line(summary(window=Window.VOID, closes_ms=0, void_reason="no claim"), 95_500)
    assert void.split()[1:] == ["void", "25", "POT", "2", "claims", "no", "claim", "digits"]


def test_the_facts_of_a_settled_order_are_the_ledgers() -> None:
    world = new_world()
    order_id = bring_to(world, Window.SETTLED)
    state = world.order(order_id)
    view = order_view(order_id, state)
    facts = json.loads(json.dumps(order_facts(view)))
    winner = format_address(PROVIDERS[1].address)
    assert (facts["order"], facts["title"], facts["window"]) == (order_id.hex(), state.order.title, "settled")
    assert (facts["winner"], facts["void_reason"], facts["closes_ms"]) == (winner, "", view.closes_ms)
    assert {claim["provider"]: claim["total"] for claim in facts["claims"]} == {
        format_address(PROVIDERS[0].address): 80,
        winner: 95,
    }
    assert {claim["model"] for claim in facts["claims"]} == {claim.mid.hex() for claim in view.claims}
    assert sum(payout["grains"] for payout in facts["payouts"]) == sum(payout.grains for payout in view.payouts) > 0
    assert {"account": winner, "grains": view.payouts[0].grains, "reason": view.payouts[0].reason} in facts["payouts"]


def test_the_facts_of_an_open_order_have_no_winner_and_no_scores() -> None:
    world = new_world()
    order_id = bring_to(world, Window.COMMIT)
    facts = order_facts(order_view(order_id, world.order(order_id)))
    assert facts["winner"] is None and facts["payouts"] == []
    assert [(claim["total"], claim["model"]) for claim in facts["claims"]] == [(None, "")]


def test_a_bond_that_was_lost_is_shown_with_the_order_and_the_wallet() -> None:
    from pot_lab.crypto.canonical import decode, encode
    from pot_lab.protocol.queries import query
    from pot_lab.protocol.views import AccountQuery, AccountView

    world = new_world()
    order_id = bring_to(world, Window.COMMIT)
    who = PROVIDERS[0]
    assert world.claim(order_id, who, "late").accepted
    assert bonds_lost(order_view(order_id, world.order(order_id))) == ""
    world.wait_for(order_id, Window.VOID)
    assert "lost its bond of 1 POT" in bonds_lost(order_view(order_id, world.order(order_id)))
    raw = query(world.ledger, "account", encode(AccountQuery(who.address)))
    lines = what_is_not_free(decode(raw, AccountView, limit_bytes=1 << 20))
    assert lines[0] == "slashed  1 POT as provider" and lines[1].startswith("forfeits 1: ")


def test_money_on_its_way_is_shown_with_what_brings_it_home() -> None:
    from pot_lab.crypto.canonical import decode, encode
    from pot_lab.protocol.queries import query
    from pot_lab.protocol.transactions import Withdraw
    from pot_lab.protocol.views import AccountQuery, AccountView

    world = new_world()
    order_id, _ = world.start()
    client = world.client

    def view() -> AccountView:
        raw = query(world.ledger, "account", encode(AccountQuery(client.address)))
        return decode(raw, AccountView, limit_bytes=1 << 20)

    assert on_its_way(view(), 0) == []
    world.must(client, Withdraw(order_id))
    earned = view().earned_grains
    (coming,) = on_its_way(view(), 0)
    assert coming == f"coming   {pot(earned)} POT with the next settlement"
    while world.ledger.state.pending is None:
        world.now_ms += 1_000
        world.ordered()
    world.sign_epoch()
    world.settle()
    (due,) = on_its_way(view(), 0)
    assert due == f"due      {pot(earned)} POT: `pot-lab wallet claim` brings them home"
    assert on_its_way(view(), earned) == []
