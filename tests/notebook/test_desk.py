"""The process behind the panel's form: what it refuses, what it says before anything is spent, what it pays."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from pot_lab.crypto.identity import format_address
from pot_lab.notebook.desk import DeskRequest, OrderDesk, serve
from pot_lab.notebook.templates import TEMPLATES
from pot_lab.protocol.parameters import Role
from tests.notebook.in_process import FollowedWorld, lab_of
from tests.protocol.world import key

FORM = {"template": "wine", "reward": "5", "train_for": "10s"}


@pytest.fixture
def world() -> FollowedWorld:
    made = FollowedWorld()
    made.stake(key("provider"), Role.PROVIDER)
    return made


@pytest.fixture
def desk(world: FollowedWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OrderDesk:
    monkeypatch.setenv("POT_LAB_HOME", str(tmp_path / "home"))
    return OrderDesk(lambda: lab_of(world, tmp_path))


def ask(desk: OrderDesk, question: str, **what: Any) -> dict[str, Any]:
    return desk.answer(DeskRequest(id=7, ask=question, what=what))


def test_a_quote_says_what_it_costs_and_what_comes_back_and_spends_nothing(desk: OrderDesk) -> None:
    told = ask(desk, "quote", **FORM)["answer"]
    cost, fee = int(told["cost_grains"]), int(told["fee_grains"])
    assert int(told["reward_grains"]) == 5 * 10**9
    assert cost == 5 * 10**9 + fee + int(told["bond_grains"])
    assert int(told["refund_grains"]) == cost - fee - int(told["reward_grains"]) // 5
    assert int(told["after_grains"]) == int(told["balance_grains"]) - cost
    assert told["can_order"] and told["longest_ms"] > 10_000
    assert int(ask(desk, "wallet")["answer"]["balance_grains"]) == int(told["balance_grains"])


@pytest.mark.parametrize(
    ("field", "text", "said"),
    [
        ("reward", "five", "not an amount of POT"),
        ("reward", "0", "below the network's minimum"),
        ("reward", "5000000000000000000", "POT, not grains"),
        ("train_for", "soon", "not a duration"),
        ("train_for", "3 years", "not a duration"),
        ("train_for", "1ms", "outside the network's bounds"),
        ("baseline", "90", "a share: 0.9 for 90 %"),
        ("baseline", "1", "no model can win"),
        ("baseline", "good", "not a finite number"),
        ("baseline", "-0.5", "negative"),
        ("title", "two\nlines", "printable"),
        ("title", "x" * 121, "at most 120"),
        ("template", "cats", "no such template"),
    ],
)
def test_each_field_is_refused_in_the_users_words_before_anything_is_sent(
    desk: OrderDesk, world: FollowedWorld, field: str, text: str, said: str
) -> None:
    for question in ("quote", "order"):
        told = ask(desk, question, **{**FORM, field: text})
        assert told["field"] == field and said in told["error"], told
    assert not world.ledger.state.orders


def test_more_than_the_account_has_can_be_seen_and_not_ordered(desk: OrderDesk) -> None:
    told = ask(desk, "quote", **{**FORM, "reward": "99"})["answer"]
    assert not told["can_order"] and int(told["after_grains"]) < 0
    assert any("less than the order costs" in note for note in told["notes"])
    assert "more than the account has" in ask(desk, "order", **{**FORM, "reward": "99"})["error"]


def test_without_a_provider_the_quote_warns_and_the_order_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POT_LAB_HOME", str(tmp_path / "home"))
    desk = OrderDesk(lambda: lab_of(FollowedWorld(miners=False), tmp_path))
    told = ask(desk, "quote", **FORM)["answer"]
    assert not told["can_order"] and "no provider" in " ".join(told["notes"])
    assert "no provider" in ask(desk, "order", **FORM)["error"]


def test_an_order_is_posted_paid_and_named(desk: OrderDesk, world: FollowedWorld) -> None:
    told = ask(desk, "order", **{**FORM, "title": "From a form", "baseline": "0.9"})["answer"]
    order = world.order(bytes.fromhex(told["order"])).order
    assert (order.title, order.reward_grains, order.baseline_total, order.baseline_count) == (
        "From a form",
        5 * 10**9,
        9,
        10,
    )
    assert order.windows.train_ms == 10_000
    money = ask(desk, "wallet")["answer"]
    assert money["address"] == format_address(world.client.address)
    assert int(money["balance_grains"]) == 100 * 10**9 - order.reward_grains - order.fee_grains - order.bond_grains
    assert money["on_its_way_grains"] == "0"
    assert ask(desk, "collect")["answer"]["collected_grains"] == "0"


def test_questions_nobody_has_and_fields_nobody_knows_are_refused(desk: OrderDesk) -> None:
    assert "no such question" in ask(desk, "transfer", to="0x00")["error"]
    assert "unknown field" in ask(desk, "order", **FORM, to="0x00")["error"]


def test_a_connection_that_failed_is_opened_anew(world: FollowedWorld, tmp_path: Path) -> None:
    opened: list[int] = []

    def connect() -> Any:
        opened.append(1)
        if len(opened) == 1:
            raise OSError("no route")
        return lab_of(world, tmp_path)

    desk = OrderDesk(connect)
    assert ask(desk, "wallet")["error"] == "no route"
    assert "answer" in ask(desk, "wallet")


def test_lines_are_answered_one_by_one_and_what_is_no_request_is_passed_over(desk: OrderDesk) -> None:
    source = io.StringIO('no json\n{"id": 1, "ask": "templates"}\n[]\n{"id": 2, "ask": "nothing"}\n')
    target = io.StringIO()
    serve(desk, source, target)
    first, second = map(json.loads, target.getvalue().splitlines())
    assert [one["name"] for one in first["answer"]["templates"]] == list(TEMPLATES) and first["id"] == 1
    assert second["id"] == 2 and "error" in second


@pytest.mark.parametrize("name", list(TEMPLATES))
def test_every_template_can_be_ordered_as_it_stands(name: str) -> None:
    from pot_lab.notebook.check import check

    template = TEMPLATES[name]
    module, train, test = template.parts()
    report = check(module, train, test, template.score)
    assert report is not None
    again, _, same = template.parts()
    assert all(a.equal(b) for a, b in zip(module.state_dict().values(), again.state_dict().values(), strict=True))
    assert test[0].equal(same[0])
