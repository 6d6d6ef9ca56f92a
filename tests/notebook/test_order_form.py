"""The form: nothing is paid that was not previewed as it stands, and refusals are said where one looks."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pot_lab.notebook.errors import BadArgument
from pot_lab.notebook.lab import Lab
from pot_lab.notebook.order_form import OrderFormWidget, refusal_html
from tests.notebook.in_process import FollowedWorld, lab_of

X, Y = torch.linspace(0, 1, 40).reshape(10, 4), torch.arange(10) % 3


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return lab_of(FollowedWorld(), tmp_path)


def form_of(lab: Lab, **terms: Any) -> OrderFormWidget:
    return lab.order_form(nn.Linear(4, 3), (X, Y), (X, Y), **terms)


def test_an_order_is_previewed_posted_and_followed(lab: Lab) -> None:
    form = form_of(lab, reward=5, train_for="10s", tags=["forms"])
    form.fields["title"].value = " By the form "
    assert form.order_button.disabled and lab.orders() == []
    form.preview_button.click()
    assert not form.order_button.disabled and lab.orders() == []
    cost = lab.quote(reward=5, train_for="10s").escrow
    assert form.order_button.description == f"Order for {cost} POT" and "Quote" in form.told.value
    form.order_button.click()
    (order,) = form.posted
    view = order.view()
    assert (view.order.title, view.order.tags) == ("By the form", ("forms",))
    assert Decimal(view.order.reward_grains) == 5 * 10**9
    card = form.widget.children[-1].children[1]
    assert card.card["id"] == order.id.hex()


def test_what_was_changed_after_the_preview_cannot_be_ordered(lab: Lab) -> None:
    form = form_of(lab, reward=5, train_for="10s")
    form.preview_button.click()
    form.fields["reward"].value = "500"
    assert form.order_button.disabled and form.order_button.description == "Order"
    form.order_button.disabled = False  # as a front end that lags behind might
    form.fields["reward"].value = "50"
    assert form.order_button.disabled
    form.order_button.click()  # which the front end sent before
    assert form.posted == [] and lab.orders() == []


def test_a_second_click_orders_nothing_more(lab: Lab) -> None:
    form = form_of(lab, reward=5, train_for="10s")
    form.preview_button.click()
    form.order_button.click()
    assert form.order_button.disabled
    form.order_button.click()
    assert len(form.posted) == len(lab.orders()) == 1
    assert "Posted" in form.told.value


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("baseline", "90", "0.9 for 90 %"),
        ("baseline", "high", "baseline"),
        ("reward", "", "reward"),
        ("train_for", "soon", "soon"),
        ("score", "<b>", "&lt;b&gt;"),
    ],
)
def test_a_refusal_is_said_in_the_form(lab: Lab, field: str, value: str, told: str) -> None:
    form = form_of(lab, reward=5, train_for="10s")
    form.fields[field].value = value
    form.preview_button.click()
    assert told in form.told.value and "role='alert'" in form.told.value and "<b>" not in form.told.value
    assert form.order_button.disabled and not form.preview_button.disabled


def test_what_a_refusal_saw_is_escaped() -> None:
    shown = refusal_html(BadArgument("a <rule>", seen="<script>", wanted="&"))
    assert "<script>" not in shown and "<rule>" not in shown and "&amp;" in shown
