"""An order's card and text: where it stands, how long still, what came of it."""

from __future__ import annotations

import msgspec
import pytest

from pot_lab.cards.scores import score_text
from pot_lab.notebook.card import card_html, describe, why_void
from pot_lab.protocol.cycle import Phase, VoidReason, Window
from pot_lab.protocol.records import ScoreSpec
from pot_lab.protocol.views import OrderView, PayoutView
from tests.notebook.finished import finished_order

replace = msgspec.structs.replace


@pytest.fixture
def view() -> OrderView:
    return finished_order()


def test_the_card_shows_where_the_order_stands_and_escapes_what_clients_wrote(view: OrderView) -> None:
    card = card_html(view, 0)
    assert "&lt;b&gt;digits&lt;/b&gt;" in card and "<b>digits</b>" not in card
    assert "<b>finalization</b>" in card
    assert "<span style='opacity:1'>open scores</span>" in card
    assert "<span style='opacity:0.4'>settled</span>" in card
    assert f"<code>{view.id.hex()[:12]}</code>" in card


def test_an_order_without_a_title_is_called_order(view: OrderView) -> None:
    assert ">Order <code>" in card_html(replace(view, order=replace(view.order, title="")), 0)


def test_the_text_counts_claims_scores_and_money(view: OrderView) -> None:
    lines = [line.split(maxsplit=1) for line in describe(view, 0).splitlines()]
    facts = dict(lines)
    assert facts["window"] == "finalization (FINALIZATION)"
    assert facts["reward"] == "25 POT (escrowed with fee and bond: 28 POT)"
    assert facts["claims"] == "2, 2 revealed"
    assert facts["scores"] == "8 of 8 opened"
    assert facts["winner"].endswith(": 95 of 100")
    assert "void" not in facts


def test_scores_that_are_not_opened_are_not_counted_as_opened(view: OrderView) -> None:
    sealed = [replace(v, score=None) for v in view.validations[:2]]
    partly = replace(view, validations=(*sealed, *view.validations[2:]))
    assert "6 of 8 opened" in describe(partly, 0)
    assert "opened" not in describe(replace(view, validations=()), 0)


def test_claims_that_are_not_revealed_are_not_counted_as_revealed(view: OrderView) -> None:
    hidden = replace(view.claims[0], mid=b"")
    assert "2, 1 revealed" in describe(replace(view, claims=(hidden, view.claims[1])), 0)


def test_the_countdown_is_to_the_windows_end(view: OrderView) -> None:
    waiting = replace(view, window=Window.COMMIT, closes_ms=100_000)
    assert "closes in  1 min 30 s" in describe(waiting, 10_000)
    assert "closes in" not in describe(replace(waiting, closes_ms=0), 10_000)
    ended = replace(waiting, window=Window.SETTLED, phase=Phase.ENDED)
    assert "closes in" not in describe(ended, 10_000)


def test_other_scores_than_accuracy_show_total_and_count(view: OrderView) -> None:
    loss = replace(view, order=replace(view.order, score=ScoreSpec("cross_entropy", 1)))
    assert "total 95, count 100" in describe(loss, 0)


def test_a_void_order_shows_why(view: OrderView) -> None:
    void = replace(view, window=Window.VOID, winner=b"", void_reason="no claims")
    assert dict(line.split(maxsplit=1) for line in describe(void, 0).splitlines())["void"].startswith("no claims;")
    assert "no claims" in card_html(void, 0)


def test_a_void_order_shows_figures_next_step_and_what_comes_back(view: OrderView) -> None:
    baseline = replace(view.order, baseline_total=97, baseline_count=100)
    payouts = (PayoutView(view.order.client, 3 * 10**9, "refund"), PayoutView(b"\1" * 20, 10**9, "fee"))
    void = replace(view, order=baseline, winner=b"", void_reason=VoidReason.NO_IMPROVEMENT, payouts=payouts)
    assert why_void(void) == (
        "no improvement (best: 95 of 100, to beat: 97 of 100); order again with a longer train_for or a lower "
        "baseline; 3 POT come back with the settlement"
    )
    assert "97 of 100" in card_html(void, 0)


@pytest.mark.parametrize(
    ("reason", "step"),
    [
        (VoidReason.NO_CLAIMS, "pot-lab mine provider"),
        (VoidReason.NOTHING_REVEALED, "pot-lab mine provider"),
        (VoidReason.NO_QUORUM, "pot-lab mine validator"),
        (VoidReason.NOT_RELEASED, "order again"),
    ],
)
def test_each_reason_names_the_next_step(view: OrderView, reason: VoidReason, step: str) -> None:
    assert step in why_void(replace(view, void_reason=reason, payouts=()))
    assert "come back" not in why_void(replace(view, void_reason=reason, payouts=()))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("accuracy", "95 of 100"),
        ("macro_f1[classes=3]", "9.5e-05 % (total 95, count 100)"),
        ("cross_entropy", "9.5e-07 nats (total 95, count 100)"),
        ("perplexity", "perplexity 1 (total 95, count 100)"),
        ("mse[decimals=1,slices=2]", "0.095 (total 95, count 100)"),
        ("unknown", "total 95, count 100"),
    ],
)
def test_scores_are_shown_in_their_unit(name: str, text: str) -> None:
    assert score_text(ScoreSpec(name, 1), 95, 100) == text
