"""`Lab`: an order is checked, uploaded, posted and paid, each once; and found again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import torch
from torch import nn

from pot_lab.chain.errors import InsufficientBalance
from pot_lab.errors import PotLabError
from pot_lab.notebook import paying
from pot_lab.notebook.errors import BadArgument
from pot_lab.notebook.lab import Lab
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.errors import PoolFull, UnknownOrder
from pot_lab.protocol.orders.transactions import MAX_UNFUNDED_ORDERS
from pot_lab.protocol.transactions import Put
from pot_lab.scoring import pack_dataset
from tests.notebook.in_process import WALLET_GRAINS, FollowedWorld, lab_of
from tests.protocol.world import key

X, Y = torch.linspace(0, 1, 40).reshape(10, 4), torch.arange(10) % 3
POT = 10**9


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


def test_an_order_is_posted_and_paid_with_one_look_at_network_and_balance(
    lab: Lab, world: FollowedWorld, net: nn.Module
) -> None:
    order = lab.order(net, (X, Y), (X[:6], Y[:6]), reward=5, train_for="10s", fee=1, bond=2, title="small")
    assert lab.client.transport.asked == ["network"]
    assert lab.chain_wallet.balances_read == 1
    assert lab.chain_wallet.grains == WALLET_GRAINS - 8 * POT
    state = world.order(order.id)
    assert state.window is Window.COMMIT
    assert state.order.nonce == world.now_ms
    assert (state.order.client, state.order.title) == (world.client.address, "small")
    assert lab.store.fetch(state.order.train, limit_bytes=1 << 20, timeout_s=10.0) == pack_dataset(X, Y)


def test_the_client_can_read_its_test_data_at_once_and_others_cannot(lab: Lab, net: nn.Module) -> None:
    order = lab.order(net, (X, Y), (X[:6], Y[:6]), reward=5, train_for="10s")
    inputs, targets = order.test_data()
    assert torch.equal(inputs, X[:6]) and torch.equal(targets, Y[:6])
    with pytest.raises(PotLabError, match="not released yet"):
        lab.get(order.id).test_data()


def test_what_costs_more_than_the_account_has_is_refused_before_anything_is_sent(lab: Lab, net: nn.Module) -> None:
    lab.chain_wallet.grains = 8 * POT
    with pytest.raises(InsufficientBalance, match=r"seen: 8 POT, wanted: at least 8\.000000001 POT"):
        lab.order(net, (X, Y), (X, Y), reward="5.000000001", train_for="10s", fee=1, bond=2)
    assert lab.orders(everybody=True) == []
    assert not list(Path(lab.config.store_url).glob("?" * 64))
    assert lab.order(net, (X, Y), (X, Y), reward=5, train_for="10s", fee=1, bond=2).window is Window.COMMIT


def test_an_order_that_would_be_refused_leaves_no_file_behind(lab: Lab, net: nn.Module) -> None:
    with pytest.raises(PotLabError, match="title or tags"):
        lab.order(net, (X, Y), (X, Y), reward=5, train_for="10s", title="x" * 121)
    assert not list(Path(lab.config.store_url).glob("?" * 64))
    assert lab.chain_wallet.grains == WALLET_GRAINS


def fill_the_pool(world: FollowedWorld) -> None:
    """As many orders that nobody pays for as the ledger keeps."""
    per_account = world.parameters.max_live_orders_per_account
    like = world.new_order()
    for number in range(MAX_UNFUNDED_ORDERS):
        stranger = key(f"stranger {number // per_account}")
        world.must(stranger, Put(msgspec.structs.replace(like, client=stranger.address, nonce=number + 1)))


def test_an_order_gets_into_a_pool_full_of_unpaid_ones_once_it_is_paid(
    lab: Lab, world: FollowedWorld, net: nn.Module
) -> None:
    fill_the_pool(world)
    with pytest.raises(PoolFull):
        lab.client.submit(Put(world.new_order(nonce=9_999)))
    order = lab.order(net, (X, Y), (X, Y), reward=5, train_for="10s")
    assert world.order(order.id).window is Window.COMMIT


def test_an_escrow_that_is_never_seen_ends_the_wait(
    lab: Lab, world: FollowedWorld, net: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_the_pool(world)
    monkeypatch.setattr(paying, "ESCROW_SEEN_S", 0.05)
    monkeypatch.setattr(paying, "ESCROW_RETRY_S", 0.01)
    monkeypatch.setattr(world, "chain", lambda *events: None)
    with pytest.raises(PoolFull):
        lab.order(net, (X, Y), (X, Y), reward=5, train_for="10s")
    assert lab.chain_wallet.grains < WALLET_GRAINS


def test_orders_are_found_again_by_id_and_in_lists(lab: Lab, world: FollowedWorld) -> None:
    mine, _ = world.start()
    theirs = world.new_order(client=key("somebody").address)
    world.must(key("somebody"), Put(theirs))
    assert [order.id for order in lab.orders()] == [mine]
    assert {order.id for order in lab.orders(everybody=True)} == {mine, theirs.id}
    for given in (mine, mine.hex(), "0x" + mine.hex(), mine.hex()[:12]):
        assert lab.get(given).id == mine
        assert lab.get(given).view().order.title == "digits"


@pytest.mark.parametrize("given", ["", "0x", "zz" * 32, "00" * 33, b"", bytes(31), bytes(33)])
def test_what_is_no_order_id_is_refused(lab: Lab, given: str | bytes) -> None:
    with pytest.raises(BadArgument, match="not an order's id"):
        lab.get(given)
    assert lab.client.transport.asked == []


def test_an_unknown_order_is_refused_at_once(lab: Lab) -> None:
    with pytest.raises(UnknownOrder):
        lab.get("00" * 32)


def test_a_lab_shows_network_account_and_balance(lab: Lab) -> None:
    assert lab.balance() == 100
    assert repr(lab) == f"Lab(network='test', account={lab.address}, aggregators=4)"
    assert ">balance</th><td style='text-align:left'>100 POT</td>" in lab._repr_html_()


def test_a_lab_whose_chain_is_away_still_shows_itself(world: FollowedWorld, tmp_path: Path) -> None:
    with lab_of(world, tmp_path) as lab:
        lab._wallet = None  # the real one, whose node does not run
        assert "unknown: the chain&#x27;s node does not answer" in lab._repr_html_()


def test_windows_and_terms_reach_the_ledger(lab: Lab, world: FollowedWorld, net: nn.Module) -> None:
    order = lab.order(
        net,
        (X, Y),
        (X, Y),
        reward=60,
        train_for="20s",
        windows={"score": "30s"},
        baseline=0.5,
        margin=0.25,
        claim_bond=3,
    )
    record = world.order(order.id).order
    assert (record.windows.train_ms, record.windows.score_ms) == (20_000, 30_000)
    assert (record.baseline_total, record.baseline_count, record.margin_micro) == (1, 2, 250_000)
    assert record.claim_bond_grains == 3 * POT
    assert msgspec.structs.asdict(record.score) == {"name": "accuracy", "version": 1}


# --- money that comes home -----------------------------------------------------------------------------------
@pytest.fixture
def refunded(lab: Lab, world: FollowedWorld, net: nn.Module) -> Lab:
    """A lab whose one order was withdrawn: 8 POT are credited, and not settled yet."""
    lab.order(net, (X, Y), (X, Y), reward=5, train_for="10s", fee=1, bond=2).withdraw()
    return lab


def settle(world: FollowedWorld) -> None:
    while world.ledger.state.pending is None:
        world.now_ms += 1_000
        world.ordered()
    world.sign_epoch()
    world.settle()


def test_a_refund_is_shown_on_its_way_and_comes_home_by_itself(refunded: Lab, world: FollowedWorld) -> None:
    assert refunded.balance() == 92 and refunded.on_its_way() == 8
    assert "8 POT, paid with the next settlement" in refunded._repr_html_()
    settle(world)
    assert refunded.chain_wallet.grains == WALLET_GRAINS - 8 * POT  # nobody used the lab yet
    assert refunded.balance() == 100 and refunded.on_its_way() == 0
    assert "on its way" not in refunded._repr_html_()
    assert refunded.collect() == 0


@pytest.mark.parametrize("use", [lambda lab: lab.orders(), lambda lab: lab._repr_html_(), lambda lab: lab.collect()])
def test_every_look_at_the_money_brings_it_home(
    refunded: Lab, world: FollowedWorld, use: Callable[[Lab], object]
) -> None:
    settle(world)
    use(refunded)
    assert refunded.chain_wallet.grains == WALLET_GRAINS


def test_an_order_is_paid_from_what_is_on_its_way_home(refunded: Lab, world: FollowedWorld, net: nn.Module) -> None:
    settle(world)
    refunded.order(net, (X, Y), (X, Y), reward=90, train_for="10s", fee=1, bond=9)
    assert refunded.chain_wallet.grains == 0


def test_a_chain_that_is_away_hinders_no_look_at_orders(refunded: Lab, world: FollowedWorld) -> None:
    settle(world)
    refunded._wallet = None  # the real one, whose node does not run
    assert [order.window for order in refunded.orders()] == [Window.VOID]
