"""`why`: each account of an order learns what decided its payment, in every way in which an order can go."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pot_lab.crypto.canonical import decode, encode
from pot_lab.crypto.identity import Identity
from pot_lab.errors import PotLabError
from pot_lab.protocol.cycle import VoidReason, Window
from pot_lab.protocol.queries import query
from pot_lab.protocol.reasons import _PAID, _VOID, utc
from pot_lab.protocol.transactions import Withdraw
from pot_lab.protocol.views import WhyQuery, WhyView
from tests.protocol.scenes import MODELS, PROVIDERS, SCORES, VALIDATORS, bring_to, new_world
from tests.protocol.world import POT, World, key


def told(world: World, order_id: bytes, who: Identity) -> str:
    answer = query(world.ledger, "why", encode(WhyQuery(order_id, who.address)))
    return repr(decode(answer, WhyView, limit_bytes=1 << 20))


def brought(world: World, order_id: bytes, who: Identity) -> int:
    """The grains of the lines that say what was paid."""
    answer = query(world.ledger, "why", encode(WhyQuery(order_id, who.address)))
    return sum(line.grains for line in decode(answer, WhyView, limit_bytes=1 << 20).lines if line.grains > 0)


def test_winner_and_loser_hear_whose_score_was_better_and_each_line_adds_up() -> None:
    world = new_world()
    order_id = bring_to(world, Window.SETTLED)
    winner, loser = told(world, order_id, PROVIDERS[1]), told(world, order_id, PROVIDERS[0])
    assert "its score stands: 95 of 100" in winner and "no other model's score is better" in winner
    assert "paid 20 POT: the best model whose score stands gets 80 % of the reward  [protocol.md, Money]" in winner
    assert "settled on the chain in epoch 1" in winner
    assert "its score stands: 80 of 100" in loser and "has a better one: 95 of 100" in loser
    assert "paid nothing for this order" in loser
    order = world.order(order_id)
    for who in (world.client, *PROVIDERS, *VALIDATORS, *world.aggregators):
        paid = sum(payout.grains for payout in order.payouts if payout.account == who.address)
        assert brought(world, order_id, who) == paid


def test_a_validator_hears_of_each_score_and_of_its_seats() -> None:
    world = new_world()
    order_id = bring_to(world, Window.FINALIZATION)
    heard = told(world, order_id, VALIDATORS[0])
    held = world.order(order_id).seats[0].count(VALIDATORS[0].address)
    assert f"it held {held} of 63 seats, drawn by stake  [protocol.md, Seats and scores]" in heard
    assert heard.count("which stands") == 2 and "commit_scores at" in heard and "open_scores at" in heard
    assert "of the reward goes to the seats whose scores stand" in heard and "waits for the next settlement" in heard


def test_a_validator_that_opened_another_score_hears_which_one_stands() -> None:
    world = new_world()
    order_id = bring_to(world, Window.RELEASE)
    world.release(order_id)
    seats = world.order(order_id).seats[0]
    least = min(VALIDATORS, key=lambda each: seats.count(each.address))
    for act in (world.commit_scores, world.open_scores):
        for validator in VALIDATORS:
            off = validator is least
            assert act(order_id, validator, {name: total - off for name, total in SCORES.items()}).accepted
    world.wait_for(order_id, Window.FINALIZATION)
    heard = told(world, order_id, least)
    assert "it opened 94 of 100" in heard and "and 95 of 100 stands, or another transcript" in heard
    assert "paid nothing for this order" in heard


def test_silence_and_lost_stake_are_told() -> None:
    world = new_world()
    order_id = bring_to(world, Window.OPEN_SCORES)  # the first validator has not opened
    world.wait_for(order_id, Window.FINALIZATION)
    heard = told(world, order_id, VALIDATORS[0])
    assert "it has not opened its score" in heard
    assert "lost 1.25 POT of stake: score not opened  [protocol.md, Seats and scores]" in heard


def test_claims_that_were_dropped_are_told() -> None:
    world = new_world()
    order_id = bring_to(world, Window.REVEAL)  # the first provider has not revealed
    world.wait_for(order_id, Window.RELEASE)
    heard = told(world, order_id, PROVIDERS[0])
    assert "its claim was dropped: model not revealed  [protocol.md, The task cycle]" in heard
    assert "lost 1 POT of stake: model not revealed" in heard
    other = world.start(nonce=50)[0]
    for provider in PROVIDERS:
        world.claim(other, provider, MODELS[0])
    world.wait_for(other, Window.REVEAL)
    for provider in PROVIDERS:
        world.reveal(other, provider, MODELS[0])
    assert "dropped: the same model was committed earlier" in told(world, other, PROVIDERS[1])


def test_an_equal_score_hears_of_the_earlier_place_and_one_below_the_baseline_of_the_margin() -> None:
    for scores, baseline, wanted in (
        ({"model 0": 95, "model 1": 95}, 0, "has an equal one and committed earlier, in place 1"),
        ({"model 0": 80, "model 1": 70}, 75, "that does not beat the baseline, 75 of 100, by the order's margin"),
    ):
        world = new_world()
        order_id, _ = world.start(baseline_total=baseline, baseline_count=100 if baseline else 0)
        for provider, model in zip(PROVIDERS, MODELS, strict=True):
            world.claim(order_id, provider, model)
        world.wait_for(order_id, Window.REVEAL)
        for provider, model in zip(PROVIDERS, MODELS, strict=True):
            world.reveal(order_id, provider, model)
        world.release(order_id)
        for act in (world.commit_scores, world.open_scores):
            for validator in VALIDATORS:
                act(order_id, validator, scores)
        world.wait_for(order_id, Window.FINALIZATION)
        assert wanted in told(world, order_id, PROVIDERS[1])


def test_the_client_of_a_void_order_hears_why_and_what_comes_back() -> None:
    world = new_world()
    order_id = bring_to(world, Window.COMMIT, claimed=False)
    assert "the order is in its commit window, and nothing is decided yet" in told(world, order_id, world.client)
    world.must(world.client, Withdraw(order_id))
    heard = told(world, order_id, world.client)
    assert "the order ended void: the client withdrew it before anybody had claimed" in heard
    assert brought(world, order_id, world.client) == 28 * POT
    assert "paid nothing for this order" in told(world, order_id, key("passer-by"))


@pytest.mark.parametrize("window", list(Window)[:6])
def test_it_answers_in_every_window(window: Window) -> None:
    world = new_world()
    order_id = bring_to(world, window)
    for who in (world.client, *PROVIDERS, *VALIDATORS, world.aggregators[0], key("passer-by")):
        assert "nothing is decided yet" in told(world, order_id, who)


def test_an_order_that_is_forgotten_has_no_reasons() -> None:
    with pytest.raises(PotLabError, match="no such order"):
        told(new_world(), bytes(32), PROVIDERS[0])


def test_every_end_has_its_words() -> None:
    assert set(_VOID) == set(VoidReason)
    assert {"winner", "validator", "aggregator", "rounding"} <= set(_PAID)


@given(st.integers(0, 253_402_300_799_999))
@example(0)
@example(951_782_400_000)
@example(253_402_300_799_999)
def test_times_are_told_as_a_calendar_tells_them(time_ms: int) -> None:
    when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms)
    assert utc(time_ms) == f"{when:%Y-%m-%d %H:%M:%S}.{time_ms % 1000:03d} UTC"


def test_no_time_is_too_late_to_be_told() -> None:
    assert utc(2**63).startswith("292278994-08-17 ")
