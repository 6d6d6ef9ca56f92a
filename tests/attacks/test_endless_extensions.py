"""Seats and aggregators that are silent again and again, so that an order is extended until its client may take the
escrow back, having seen the models.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pot_lab.protocol.cycle import TABLE, Phase, Window
from pot_lab.protocol.orders import windows
from tests.protocol.scenes import bring_to, new_world, speech
from tests.protocol.world import World

PATIENCE = 20


def deadlines(world: World, order_id: bytes) -> int:
    """How many deadlines pass until the order has ended, if nobody acts any more; at most `PATIENCE`."""
    for count in range(PATIENCE):
        if TABLE[world.order(order_id).window].phase in (Phase.ENDED, Phase.FINALIZATION):
            return count
        world.now_ms = world.order(order_id).closes_ms
        world.batch()
    return PATIENCE


def silent_seats(world: World) -> int:
    order_id = bring_to(world, Window.RELEASE)
    world.release(order_id)
    world.must(*speech(world, order_id, "commit_scores"))
    return deadlines(world, order_id)


def silent_judges(world: World) -> int:
    return deadlines(world, bring_to(world, Window.JUDGE))


def again(window: Window, flag: str) -> Callable[..., Any]:
    """The closing of a window that forgets that it was extended before."""
    close = windows._CLOSE[window]

    def forgetful(book: Any, order_id: Any, order: Any) -> Any:
        setattr(order, flag, False)
        return close(book, order_id, order)

    return forgetful


def test_the_score_window_opens_twice_at_most(world: World) -> None:
    assert silent_seats(world) < 6


def test_the_judge_window_opens_twice_at_most(world: World) -> None:
    assert silent_judges(world) < 4


@pytest.mark.parametrize(
    ("window", "flag", "attack"),
    [(Window.SCORE, "extended", silent_seats), (Window.JUDGE, "judged_twice", silent_judges)],
    ids=["seats", "judges"],
)
def test_could_they_open_again_and_again_no_order_would_end(
    window: Window, flag: str, attack: Callable[[World], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(windows._CLOSE, window, again(window, flag))
    assert attack(new_world()) == PATIENCE
