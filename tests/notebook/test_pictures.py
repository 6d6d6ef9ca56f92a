"""Pictures and boards of an order, from a ledger that ran one."""

from __future__ import annotations

import pytest

from pot_lab.notebook.card import card_html, describe
from pot_lab.notebook.plots import Leaderboard, draw_timeline
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.queries import order_view
from pot_lab.protocol.views import OrderView
from tests.protocol.world import World, key

SCORES = {"model 0": 80, "model 1": 95}


@pytest.fixture
def view() -> OrderView:
    world = World()
    providers = [key(f"provider {i}") for i in range(2)]
    validators = [key(f"validator {i}") for i in range(3)]
    for provider in providers:
        world.stake(provider, Role.PROVIDER)
    for validator in validators:
        world.stake(validator, Role.VALIDATOR)
    order_id, _ = world.start(title="<b>digits</b>")
    for provider, model in zip(providers, SCORES, strict=True):
        world.now_ms += 1_000
        world.claim(order_id, provider, model)
    world.wait_for(order_id, Window.REVEAL)
    for provider, model in zip(providers, SCORES, strict=True):
        world.reveal(order_id, provider, model)
    world.release(order_id)
    for validator in validators:
        world.commit_scores(order_id, validator, SCORES)
    for validator in validators:
        world.open_scores(order_id, validator, SCORES)
    world.wait_for(order_id, Window.FINALIZATION)
    return order_view(order_id, world.order(order_id))


def test_the_leaderboard_is_best_first(view: OrderView) -> None:
    board = Leaderboard.of(view)
    assert list(board.index) == [1, 2]
    assert list(board["total"]) == [95, 80]
    assert list(board["score"]) == [0.95, 0.8]
    assert list(board["payout_pot"]) == [20.0, 0.0]
    assert list(board["committed_s"]) == [2.0, 1.0]


def test_pictures_show_as_png_in_any_notebook(view: OrderView, tmp_path) -> None:
    path = tmp_path / "timeline.png"
    figure = draw_timeline(view, str(path))
    assert path.read_bytes().startswith(b"\x89PNG")
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert Leaderboard.of(view).plot()._repr_png_().startswith(b"\x89PNG")


def test_an_unfinished_order_can_be_drawn_too(view: OrderView) -> None:
    import msgspec

    early = msgspec.structs.replace(view, timeline=view.timeline[:2], claims=(), validations=(), winner=b"")
    assert draw_timeline(early)._repr_png_().startswith(b"\x89PNG")
    assert len(Leaderboard.of(early)) == 0


def test_the_card_says_where_the_order_stands_and_escapes_what_clients_wrote(view: OrderView) -> None:
    card = card_html(view)
    assert "&lt;b&gt;digits&lt;/b&gt;" in card and "<b>digits</b>" not in card
    assert "<b>finalization</b>" in card
    assert "95 of 100" in card
    assert "25 POT" in describe(view)
