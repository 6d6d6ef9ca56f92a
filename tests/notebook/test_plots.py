"""Tables and pictures of an order, from a ledger that ran one."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pandas as pd
import pytest
from matplotlib.figure import Figure

from pot_lab.notebook.plots import draw_scores, draw_timeline, leaderboard
from pot_lab.protocol.records import ScoreSpec
from pot_lab.protocol.views import OrderView
from tests.notebook.finished import finished_order

PNG = b"\x89PNG"


@pytest.fixture
def view() -> OrderView:
    return finished_order()


def test_the_leaderboard_is_a_plain_frame_best_first(view: OrderView) -> None:
    board = leaderboard(view)
    assert type(board) is pd.DataFrame
    assert list(board.columns) == ["provider", "score", "total", "count", "committed_s", "payout_pot", "model"]
    assert board.index.name == "rank" and list(board.index) == [1, 2]
    assert list(board["total"]) == [95, 80]
    assert list(board["count"]) == [100, 100]
    assert list(board["score"]) == [0.95, 0.8]
    assert list(board["payout_pot"]) == [20.0, 0.0]
    assert list(board["committed_s"]) == [2.0, 1.0]
    assert list(board["model"]) == [view.claims[1].mid.hex(), view.claims[0].mid.hex()]


def test_where_less_is_better_the_lowest_score_comes_first(view: OrderView) -> None:
    loss = msgspec.structs.replace(view, order=msgspec.structs.replace(view.order, score=ScoreSpec("mse", 1)))
    assert list(leaderboard(loss)["total"]) == [80, 95]


def test_models_without_a_valid_score_come_last_in_the_order_of_their_commitments(view: OrderView) -> None:
    first, second = view.claims
    invalid = msgspec.structs.replace(second, agreed=msgspec.structs.replace(second.agreed, valid=False))
    board = leaderboard(msgspec.structs.replace(view, claims=(first, invalid)))
    assert list(board["total"].isna()) == [False, True] and board["total"].iloc[0] == 80
    unscored = [msgspec.structs.replace(claim, agreed=None) for claim in (second, first)]
    board = leaderboard(msgspec.structs.replace(view, claims=tuple(unscored)))
    assert list(board["committed_s"]) == [1.0, 2.0]


def test_pictures_show_as_png_in_any_notebook(view: OrderView, tmp_path: Path) -> None:
    path = tmp_path / "timeline.png"
    figure = draw_timeline(view, path)
    assert path.read_bytes().startswith(PNG)
    assert figure._repr_png_().startswith(PNG)
    assert draw_scores(view)._repr_png_().startswith(PNG)


def test_scores_are_drawn_on_the_axes_that_are_given(view: OrderView) -> None:
    axes = Figure().subplots()
    assert draw_scores(view, axes) is axes
    assert axes.collections[0].get_offsets().tolist() == [[2.0, 0.95], [1.0, 0.8]]


def test_an_unfinished_order_can_be_drawn_too(view: OrderView) -> None:
    early = msgspec.structs.replace(view, timeline=view.timeline[:2], claims=(), validations=(), winner=b"")
    assert draw_timeline(early)._repr_png_().startswith(PNG)
    assert len(leaderboard(early)) == 0
    assert draw_scores(early)._repr_png_().startswith(PNG)
