"""`Order`: what came of an order, from a ledger that ran it and a store that has its files."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pytest
import torch
from IPython.core.formatters import DisplayFormatter
from torch import nn

from pot_lab.cards.order_card import MIME
from pot_lab.crypto.cipher import encrypt
from pot_lab.network.errors import Unreachable
from pot_lab.notebook.errors import NoModel, ScoreDiffers
from pot_lab.notebook.lab import Lab
from pot_lab.notebook.order import WAIT_SLACK_S, Order
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.errors import NotAllowed, TooLate, UnknownOrder
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import NOBODY, ClaimScore, HeldBlob, model_id
from pot_lab.protocol.state import OrderHeader
from pot_lab.protocol.transactions import Claim
from pot_lab.protocol.views import ClaimView, OrderView, SpanView
from pot_lab.scoring import score
from pot_lab.store import WrongHash
from tests.notebook.in_process import FollowedWorld, lab_of
from tests.protocol.world import key

X, Y = torch.linspace(0, 1, 40).reshape(10, 4), torch.arange(10) % 3
replace = msgspec.structs.replace


MODEL_KEY = bytes(range(32))


class Watched(Order):
    """An order whose view a test may change; counts how often the ledger is asked."""

    change: Callable[[OrderView], OrderView] = staticmethod(lambda view: view)
    asked = 0

    def view(self) -> OrderView:
        self.asked += 1
        return self.change(super().view())


@pytest.fixture
def world() -> FollowedWorld:
    return FollowedWorld()


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(4, 3)


@pytest.fixture
def order(world: FollowedWorld, net: nn.Module, tmp_path: Path) -> Watched:
    """An order in its finalization, as views of it show: one claim, whose model is the ordered one untrained."""
    lab: Lab = lab_of(world, tmp_path)
    posted = lab.order(net, (X, Y), (X, Y), reward=5, train_for="10s", title="lines")
    found = Watched(lab.client, lab.store, posted.id, test_key=posted._test_key, now_ms=lambda: world.now_ms)
    exact = score(net, X, Y)
    record = found.view().order
    claim = ClaimView(
        provider=key("provider").address,
        commitment=bytes(32),
        place=1,
        committed_ms=world.now_ms + 2_000,
        revealed_ms=world.now_ms + 3_000,
        mid=model_id(record.model.digest, record.weights.digest),
        ciphertext=lab.store.put(encrypt(MODEL_KEY, found.fetch(record.weights))),
        key=MODEL_KEY,
        assigned=(),
        agreed=ClaimScore(total=exact.total, count=exact.count, valid=True),
        agreed_root=exact.root,
    )
    found.change = lambda view: replace(view, window=Window.FINALIZATION, claims=(claim,), winner=claim.provider)
    found.asked = 0
    return found


def changed(watched: Watched, **fields: object) -> None:
    before = watched.change
    watched.change = lambda view: replace(before(view), **fields)


def test_the_winning_model_comes_back_in_eval_mode(order: Watched, net: nn.Module) -> None:
    model = order.model()
    assert not model.training
    with torch.no_grad():
        assert torch.equal(model(X), net(X))
    assert order.asked == 1


@pytest.mark.parametrize("won", [True, False])
def test_the_model_of_a_forgotten_order_is_found_by_its_header(
    order: Watched, world: FollowedWorld, net: nn.Module, tmp_path: Path, won: bool
) -> None:
    view, book = order.view(), world.ledger.book
    (claim,), record, state = view.claims, view.order, book.state.orders.pop(order.id)
    book.untouch(order.id, state)
    assert claim.ciphertext is not None
    lab = lab_of(world, tmp_path)
    with pytest.raises(UnknownOrder):
        lab.get(order.id)
    book.state.headers[order.id] = OrderHeader(
        client=record.client,
        title=record.title,
        spec_hash=record.spec_hash,
        window=Window.SETTLED if won else Window.VOID,
        winner=claim.provider if won else NOBODY,
        winner_mid=claim.mid,
        score=claim.agreed,
        void_reason=None,
        epoch=1,
        ended_ms=1,
        graph=HeldBlob(record.model.digest, record.model.size_bytes) if won else None,
        ciphertext=HeldBlob(claim.ciphertext.digest, claim.ciphertext.size_bytes) if won else None,
        key=claim.key,
    )
    found = lab.get(order.id)
    if not won:
        with pytest.raises(NoModel):
            found.model()
        return
    with torch.no_grad():
        assert torch.equal(found.model()(X), net(X))


def test_the_score_is_computed_again_with_one_look_at_the_order(order: Watched, net: nn.Module) -> None:
    again = order.rescore(batch_size=3)
    assert (again.total, again.count, again.root) == (score(net, X, Y).total, 10, score(net, X, Y).root)
    assert order.asked == 1


@pytest.mark.parametrize(
    "wrong",
    [
        lambda claim: replace(claim, agreed=replace(claim.agreed, total=claim.agreed.total + 1)),
        lambda claim: replace(claim, agreed=replace(claim.agreed, count=9)),
        lambda claim: replace(claim, agreed=replace(claim.agreed, valid=False)),
        lambda claim: replace(claim, agreed_root=bytes(32)),
        lambda claim: replace(claim, agreed=None),
    ],
)
def test_a_score_that_is_not_the_ledgers_is_reported(order: Watched, wrong: Callable[[ClaimView], ClaimView]) -> None:
    changed(order, claims=(wrong(order.view().claims[0]),))
    with pytest.raises(ScoreDiffers, match="not the ledger's"):
        order.rescore()


def test_without_a_winner_there_is_no_model(order: Watched) -> None:
    changed(order, winner=b"")
    for asked in (order.winner, order.model, order.model_files, order.rescore):
        with pytest.raises(NoModel, match=r"not sealed yet \(seen: finalization window\)"):
            asked()
    changed(order, void_reason="no claims", window=Window.VOID)
    with pytest.raises(NoModel, match="it ended void: no claims"):
        order.model()


def test_a_claim_without_a_model_wins_nothing(order: Watched) -> None:
    changed(order, claims=(replace(order.view().claims[0], key=b""),))
    with pytest.raises(NoModel):
        order.winner()


def test_a_model_that_is_not_the_claimed_one_is_refused(order: Watched) -> None:
    changed(order, claims=(replace(order.view().claims[0], mid=bytes(32)),))
    with pytest.raises(WrongHash, match="not the one that was claimed"):
        order.model()


def test_test_data_opens_with_the_released_key(order: Watched) -> None:
    key_ = order._test_key
    order._test_key = b""
    with pytest.raises(NoModel, match=r"not released yet \(seen: finalization window, wanted: the score window"):
        order.test_data()
    changed(order, test_key=key_)
    inputs, targets = order.test_data()
    assert torch.equal(inputs, X) and torch.equal(targets, Y)


def test_test_data_that_is_not_what_was_ordered_is_refused(order: Watched) -> None:
    record = order.view().order
    changed(order, order=replace(record, test=replace(record.test, plain_digest=bytes(32))))
    with pytest.raises(WrongHash, match="not what was ordered"):
        order.test_data()


def test_an_order_shows_itself_as_text_and_html(order: Watched) -> None:
    assert repr(order).startswith(
        f"Order({order.id.hex()[:12]}…)\n  window     finalization (TRAINING)\n  closes in  10 s"
    )
    assert "<b>finalization</b>" in order._repr_html_() and "lines" in order._repr_html_()


def test_the_countdown_goes_by_the_given_clock(order: Watched) -> None:
    closes_ms = order.view().closes_ms
    order._now_ms = lambda: closes_ms - 65_000
    changed(order, window=Window.COMMIT)
    assert "1 min 5 s" in repr(order) and "1 min 5 s" in order._repr_html_()


def test_leaderboard_and_pictures_come_from_the_order(order: Watched, tmp_path: Path) -> None:
    board = order.leaderboard()
    assert type(board) is pd.DataFrame and list(board["count"]) == [10]
    assert order.plot_scores()._repr_png_().startswith(b"\x89PNG")
    view = order.view()
    changed(order, timeline=(SpanView(name="commit", opened_ms=view.t0_ms, closed_ms=view.t0_ms + 10_000),))
    order.timeline(tmp_path / "cycle.png")
    assert (tmp_path / "cycle.png").read_bytes().startswith(b"\x89PNG")


# --- waiting and withdrawing: on the ledger itself -------------------------------------------------------------
@pytest.fixture
def fresh(world: FollowedWorld, net: nn.Module, tmp_path: Path) -> Order:
    """An order that was just posted."""
    return lab_of(world, tmp_path).order(net, (X, Y), (X, Y), reward=5, train_for="10s")


def test_a_withdrawn_order_ends_the_wait(fresh: Order) -> None:
    assert fresh.window is Window.COMMIT
    fresh.withdraw()
    assert fresh.wait(timeout=240).void_reason == "client withdrew"
    assert asyncio.run(_awaited(fresh)).window is Window.VOID


async def _awaited(order: Order) -> OrderView:
    return await order


def test_only_its_client_withdraws_an_order(fresh: Order, world: FollowedWorld) -> None:
    fresh._client.identity = key("somebody else")
    with pytest.raises(NotAllowed):
        fresh.withdraw()
    assert fresh.window is Window.COMMIT


def test_the_wait_is_for_the_seal_or_the_payment(fresh: Order) -> None:
    waited = []
    fresh._client.wait_for_order = lambda id_, until, *, timeout_s: waited.append((until, timeout_s)) or fresh.view()
    fresh.wait()
    fresh.wait(timeout=5, settled=True)
    (sealed, by_default), (settled, given) = waited
    assert by_default == fresh.view().order.windows.longest_ms / 1000 + WAIT_SLACK_S and given == 5
    view = fresh.view()
    ends = {window for window in Window if sealed(replace(view, window=window))}
    assert ends == {Window.FINALIZATION, Window.SETTLED, Window.VOID}
    assert {window for window in Window if settled(replace(view, window=window))} == {Window.SETTLED, Window.VOID}


def test_the_wait_listens_and_does_not_poll(fresh: Order, world: FollowedWorld) -> None:
    fresh._client.transport.asked.clear()
    waiting = threading.Thread(target=fresh.wait, kwargs={"timeout": 240})
    waiting.start()
    while not world.followers:
        waiting.join(0.001)
    fresh.withdraw()
    waiting.join(240)
    assert not waiting.is_alive() and world.followers == []
    assert fresh._client.transport.asked == ["order", "order"]


def test_the_wait_ends_in_time_with_the_window_in_its_message(fresh: Order) -> None:
    with pytest.raises(TimeoutError, match="commit window"):
        fresh.wait(timeout=0)


def test_the_wait_outlives_a_network_that_is_restarted_and_tells_of_one_that_is_not(
    fresh: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pot_lab.notebook.order.ASK_AGAIN_S", 0.01)
    wait, asked = fresh._client.wait_for_order, []

    def down_twice(*arguments: Any, **named: Any) -> OrderView:
        asked.append(named["timeout_s"])
        if len(asked) < 3:
            raise Unreachable("too few aggregators answered (0 of 4 answered)")
        return wait(*arguments, **named)

    fresh._client.wait_for_order = down_twice
    fresh.withdraw()
    assert fresh.wait(timeout=240).window is Window.VOID
    assert len(asked) == 3 and asked[0] == 240 > asked[1] > asked[2]
    monkeypatch.setattr("pot_lab.notebook.order.ANSWER_PATIENCE_S", 0.0)
    asked.clear()
    with pytest.raises(Unreachable, match=r"0 of 4 answered.*; the order is kept, and goes on once the network works"):
        fresh.wait(timeout=240)
    assert len(asked) == 1


def test_a_claimed_order_cannot_be_withdrawn(fresh: Order, world: FollowedWorld) -> None:
    provider = key("provider")
    world.stake(provider, Role.PROVIDER)
    world.must(provider, Claim(fresh.id, bytes(32)))
    with pytest.raises(TooLate):
        fresh.withdraw()


def test_a_saved_notebook_keeps_data_for_the_live_card_a_picture_and_text(net: nn.Module, tmp_path: Path) -> None:
    """The output must show the order when its kernel is gone, so it holds no model that lives in one."""
    order = lab_of(FollowedWorld(), tmp_path).order(net, (X, Y), (X, Y), reward=5, train_for="10s", title="<b>lines")
    formatter = DisplayFormatter()
    data, _ = formatter.format(order)
    assert set(data) == {MIME, "text/html", "text/plain"}
    card = data[MIME]
    assert (card["id"], card["window"], card["title"]) == (order.id.hex(), "commit", "<b>lines")
    assert json.loads(json.dumps(card)) == card
    assert "<b>lines" not in data["text/html"] and "&lt;b&gt;lines" in data["text/html"]
    assert data["text/plain"].startswith("Order(")
