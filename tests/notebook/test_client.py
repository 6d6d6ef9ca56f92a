"""What a researcher asks besides ordering: quotes, lists, comparisons, how network and wallet stand, ordering again."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import nn

from pot_lab.crypto.canonical import sha256
from pot_lab.crypto.cipher import encrypt
from pot_lab.network.client.calls import AggregatorStatus
from pot_lab.network.errors import Unreachable
from pot_lab.notebook.again import order_again
from pot_lab.notebook.errors import BadArgument, NoModel
from pot_lab.notebook.lab import Lab
from pot_lab.notebook.order import Order
from pot_lab.notebook.order_list import compare
from pot_lab.notebook.quoting import past_orders
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.records import model_id
from pot_lab.protocol.views import OrderView
from pot_lab.scoring import ModelArtifact, export_model, load_graph
from tests.notebook.finished import finished_order
from tests.notebook.in_process import WALLET_GRAINS, FollowedWorld, lab_of

POT = 10**9
X, Y = torch.linspace(0, 1, 40).reshape(10, 4), torch.arange(10) % 3
replace = msgspec.structs.replace


@pytest.fixture
def world() -> FollowedWorld:
    return FollowedWorld()


@pytest.fixture
def lab(world: FollowedWorld, tmp_path: Path) -> Iterator[Lab]:
    with lab_of(world, tmp_path) as lab:
        yield lab


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(4, 3)


def place(lab: Lab, net: nn.Module, **more: Any) -> Order:
    given: dict[str, Any] = {"reward": 5, "train_for": "10s", "title": "lines", **more}
    return lab.order(net, (X, Y), (X, Y), **given)


# --- quotes --------------------------------------------------------------------------------------------------------
def test_a_quote_of_terms_alone_says_cost_refund_miners_and_wait(lab: Lab, world: FollowedWorld) -> None:
    quote = lab.quote(reward=25, train_for="10min", fee="0.5")
    assert (quote.cost, quote.escrow, quote.refund) == (Decimal("25.5"), Decimal("27.5"), Decimal(22))
    assert (quote.miners.providers, quote.miners.validators, quote.miners.starts) == (1, 4, True)
    assert quote.upload_bytes is None and quote.begins_with == ""
    assert quote.expected_wait_ms > 600_000
    said = repr(quote)
    assert "27.5 POT into escrow (balance 100 POT)" in said and "1 provider registered, 4 validators" in said
    assert "<caption" in quote._repr_html_() and "none yet" in quote._repr_html_()
    assert lab.chain_wallet.grains == WALLET_GRAINS and lab.orders(everybody=True) == []
    assert not list(Path(lab.config.store_url).glob("?" * 64))


def test_a_quote_with_model_and_data_says_upload_and_what_is_to_beat(lab: Lab, net: nn.Module) -> None:
    quote = lab.quote(net, (X, Y), (X, Y), reward=5, train_for="10s")
    order = place(lab, net)
    record = order.view().order
    assert quote.begins_with == f"{record.baseline_total} of {record.baseline_count}"
    sizes = (record.model, record.weights, record.train)
    assert quote.upload_bytes == sum(link.size_bytes for link in sizes) + record.test.plain_bytes
    assert quote.escrow == Decimal(record.reward_grains + record.fee_grains + record.bond_grains) / POT
    assert "upload" in repr(quote)


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ({"reward": 5}, "`train_for` is missing"),
        ({"train_for": "10s"}, "`reward` is missing"),
        ({"reward": 5, "train_for": "10s", "baseline": 90}, "a share: 0.9"),
        ({"reward": 5, "train_for": "10s", "rewards": 5}, "no such argument .*rewards"),
        ({"reward": 5, "train_for": "10s", "model": nn.Linear(4, 3)}, "needs model, train and test"),
        ({"reward": "5 grains", "train_for": "10s"}, "not an amount of POT"),
    ],
)
def test_a_quote_refuses_what_an_order_refuses(lab: Lab, terms: dict[str, Any], said: str) -> None:
    with pytest.raises(Exception, match=said) as refused:
        lab.quote(**terms)
    assert type(refused.value).__module__.startswith("pot_lab.")


def test_a_quote_says_that_the_money_does_not_suffice(lab: Lab) -> None:
    assert "(balance 100 POT: too little)" in repr(lab.quote(reward=100, train_for="10s"))


def test_past_orders_tell_how_long_an_order_takes(lab: Lab, net: nn.Module) -> None:
    place(lab, net)
    (summary,) = lab.client.orders()
    ended = [
        replace(summary, window=Window.SETTLED, ended_ms=summary.t0_ms + summary.train_ms + rest) for rest in (1, 7, 9)
    ]
    void = replace(summary, window=Window.VOID, ended_ms=summary.t0_ms + 99)
    past = past_orders([*ended, void, summary])
    assert (past.ended, past.won, past.rest_ms) == (4, 3, 7)
    assert past_orders([summary]).rest_ms is None


# --- lists and comparisons ---------------------------------------------------------------------------------------
def test_orders_show_themselves_as_a_table(lab: Lab, net: nn.Module, world: FollowedWorld) -> None:
    assert repr(lab.orders()) == lab.orders()._repr_html_() == "no orders"
    first = place(lab, net, title="<b>one</b>")
    first.withdraw()
    world.now_ms += 1_000
    second = place(lab, net, title="two", reward=7)
    world.now_ms += 2_000
    orders = lab.orders()
    assert [order.id for order in orders] == [second.id, first.id] and orders[0].view().order.title == "two"
    table = orders.table()
    assert list(table.index) == [second.id.hex()[:12], first.id.hex()[:12]]
    row = table.loc[second.id.hex()[:12]]
    assert (row["title"], row["mine"], row["window"], row["reward_pot"], row["age_s"]) == ("two", True, "commit", 7, 2)
    assert table.loc[first.id.hex()[:12]]["void"]
    assert "&lt;b&gt;one" in orders._repr_html_() and "<b>" not in orders._repr_html_()
    assert len(repr(orders).splitlines()) == 2


def test_orders_are_compared_with_what_they_were_to_beat(lab: Lab, net: nn.Module) -> None:
    one, two = place(lab, net), place(lab, net, title="other", reward=7)
    table = lab.compare([one, two.id.hex()])
    assert list(table["title"]) == ["lines", "other"] and list(table["reward_pot"]) == [5, 7]
    view = finished_order()
    won = compare([view]).iloc[0]
    assert won["best"] == 0.95 and won["claims"] == 2 and won["winner"].startswith("0x") and not won["void"]
    based = replace(view, order=replace(view.order, baseline_total=1, baseline_count=2))
    assert compare([based]).iloc[0]["gain"] == pytest.approx(0.45)
    with pytest.raises(BadArgument):
        lab.compare(["not an id"])


# --- how network and wallet stand --------------------------------------------------------------------------------
class Statuses:
    """What the aggregators answer."""

    def __init__(self, up: int) -> None:
        self.statuses = [AggregatorStatus(index=index, reachable=index < up) for index in range(4)]

    def result(self, timeout_s: float) -> list[AggregatorStatus]:
        return self.statuses


@pytest.mark.parametrize(
    ("up", "words"),
    [
        (4, "Live: all 4 answer"),
        (3, "Live: 3 of 4 aggregators answer, 3 are needed"),
        (2, "Stopped: 2 of 4 aggregators answer, 3 are needed"),
    ],
)
def test_a_network_says_whether_it_goes_on(lab: Lab, up: int, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    transport: Any = lab.client.transport
    transport.status = lambda: Statuses(up)
    standing = lab.network()
    assert standing.words == words and standing.is_live is (up >= 3)
    assert "1 provider, 4 validators registered" in repr(standing) and "as of" in standing._repr_html_()
    assert ("pot-lab testnet up" in repr(standing)) is (up < 3)
    transport.problem = Unreachable("no aggregator answers")
    assert "miners" not in repr(lab.network())


def test_a_wallet_shows_what_is_on_its_way(lab: Lab, net: nn.Module) -> None:
    order = place(lab, net)
    paid = lab.wallet().balance
    assert order.cancel() == 100 - paid  # all of it comes home
    wallet = lab.wallet()
    assert wallet.on_its_way == 100 - paid and wallet.stakes == {} and wallet.address == lab.address
    assert "paid with the next settlement" in repr(wallet) and "on its way" in wallet._repr_html_()
    assert wallet.payout_address == lab.address and "payouts" not in repr(wallet)


def test_a_wallet_says_where_payouts_go_if_not_to_itself(lab: Lab) -> None:
    chain: Any = lab.chain_wallet
    chain.payouts[lab.identity.address] = b"\7" * 20
    assert lab.wallet().payout_address == "0x" + "07" * 20
    assert "go to 0x" + "07" * 20 in repr(lab.wallet())


# --- the winner's model, and ordering again ------------------------------------------------------------------------
MODEL_KEY = bytes(range(32))


class Won(Order):
    """An order that a claim has won whose model are these weights."""

    def __init__(self, order: Order, weights: bytes, *, released: bool) -> None:
        super().__init__(order._client, order._store, order.id, test_key=order._test_key)
        self.weights, self.released = weights, released
        self.link = order._store.put(encrypt(MODEL_KEY, weights))

    def view(self) -> OrderView:
        view = super().view()
        mid = model_id(view.order.model.digest, sha256(self.weights))
        claim = replace(finished_order().claims[0], mid=mid, ciphertext=self.link, key=MODEL_KEY)
        key = self._test_key if self.released else b""
        return replace(view, claims=(claim,), winner=claim.provider, test_key=key, window=Window.FINALIZATION)


@pytest.fixture
def better() -> nn.Module:
    torch.manual_seed(1)
    return nn.Linear(4, 3)


@pytest.fixture
def won(lab: Lab, net: nn.Module, better: nn.Module) -> Won:
    return Won(place(lab, net), export_model(better, X[:2]).weights, released=True)


def test_the_winners_weights_go_into_the_ordered_module(won: Won, net: nn.Module, better: nn.Module) -> None:
    net.train()
    assert won.model(into=net) is net and net.training
    assert torch.equal(net.weight, better.weight) and torch.equal(net.bias, better.bias)


@pytest.mark.parametrize("other", [nn.Linear(4, 2), nn.Linear(4, 3, bias=False), nn.Sequential(nn.Linear(4, 3))])
def test_weights_go_into_no_other_architecture(won: Won, other: nn.Module) -> None:
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(BadArgument, match="another architecture"):
        won.model(into=other)
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.state_dict().items())


def test_a_saved_model_can_be_ordered_again(won: Won, lab: Lab, tmp_path: Path) -> None:
    folder = won.save(tmp_path / "new" / "best")
    artifact = ModelArtifact(
        graph=(folder / "graph.json").read_bytes(), weights=(folder / "weights.safetensors").read_bytes()
    )
    assert load_graph(artifact.graph) and artifact.weights == won.model_files()[1]
    assert lab.order(artifact, (X, Y), (X, Y), reward=5, train_for="10s").window is Window.COMMIT


def test_an_order_is_placed_again_from_the_winner_with_new_test_data(won: Won, lab: Lab) -> None:
    with pytest.raises(BadArgument, match="are public, so a provider could train on them"):
        lab.again(won)
    again = lab.again(won, test=(X + 0.5, Y), reward=6)
    before, record = won.view().order, again.view().order
    assert (
        record.weights.digest == sha256(won.weights) and record.model == before.model and record.train == before.train
    )
    assert (record.title, record.reward_grains, record.windows) == ("lines", 6 * POT, before.windows)
    first = lab.again(won, test=(X + 0.5, Y), from_winner=False, title="first weights")
    assert first.view().order.weights == before.weights


def test_secret_test_data_serve_again_only_where_their_key_is_known(lab: Lab, net: nn.Module) -> None:
    order = place(lab, net)
    order.withdraw()
    again = lab.again(order)
    assert torch.equal(again.test_data()[0], X)
    with pytest.raises(BadArgument, match="has not the key"):
        lab.again(order.id)
    with pytest.raises(BadArgument, match="has not the key") as refused:
        order_again(lab.order, lab.get(order.id), None, from_winner=True, changes={})
    assert isinstance(refused.value.__cause__, NoModel)
