"""A settlement while its node is killed, and two senders of one epoch: it is carried out once, and pays once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pot_lab.chain.errors import ChainError, ChainReverted, ChainUnreachable
from pot_lab.chain.wallet import ChainWallet
from pot_lab.chain.watcher import ChainWatcher
from pot_lab.crypto.identity import Identity
from pot_lab.protocol.settlement import PayoutTree, Settlement, reward_leaf
from tests.chain.world import POT, World, identity, start_chain, stop, strict_node

PAYEE = identity("payee").address
TREE = PayoutTree([reward_leaf(PAYEE, 100 * POT)])


class MortalChain:
    """A chain process with a journal, which can be killed and started again at its address."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._journal = ("--journal", str(folder / "journal"), "--control")
        self._process, self.url = start_chain(folder, *self._journal)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stderr:
            self._process.stderr.close()

    def start(self) -> None:
        self._process, _ = start_chain(self._folder, *self._journal, "--port", self.url.rsplit(":", 1)[1])

    def stop(self) -> None:
        stop(self._process)


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[MortalChain]:
    made = MortalChain(tmp_path)
    yield made
    made.stop()


def due(world: World) -> tuple[Settlement, list[bytes], dict[bytes, bytes]]:
    """An order's settlement that pays it to the payee, with its signatures."""
    order = world.order(reward=100 * POT)
    settlement = world.settlement(TREE, 100 * POT, [order.oid])
    return settlement, [order.oid], world.signatures(settlement)


def check_paid_once(world: World) -> None:
    wallet = world.wallet(world.relayer)
    assert wallet.epoch() == 1
    wallet.claim(PAYEE, 100 * POT, TREE.proof(reward_leaf(PAYEE, 100 * POT)))
    with pytest.raises(ChainReverted, match="NothingToClaim"):
        wallet.claim(PAYEE, 100 * POT, TREE.proof(reward_leaf(PAYEE, 100 * POT)))
    assert wallet.balance_grains(PAYEE) == 100 * POT
    assert wallet.balance_grains(world.contracts.settlement) == wallet.balance_grains(world.contracts.escrow) == 0


STEPS = ["eth_estimateGas", "eth_sendRawTransaction", "eth_getTransactionReceipt"]


@pytest.mark.parametrize("step", STEPS)
def test_a_node_that_is_killed_and_comes_back_settles_once(chain: MortalChain, step: str) -> None:
    world = World(chain.url, aggregators=4)
    settlement = due(world)
    killed: list[str] = []

    def kill_once(request: dict[str, Any]) -> tuple[int, dict[str, Any]] | None:
        if request["method"] != step or killed:
            return None
        killed.append(step)
        chain.kill()
        chain.start()
        return 502, {"code": 1, "message": "bad gateway"}

    with strict_node(chain.url, kill_once) as url:
        # It answers once the chain is up again, however slow this host is.
        ChainWallet(url, world.contracts, identity("sender"), timeout_s=240).settle(*settlement)
    assert killed
    check_paid_once(world)


@pytest.mark.parametrize("step", STEPS)
def test_what_a_node_that_stays_down_leaves_open_the_next_sender_finishes(chain: MortalChain, step: str) -> None:
    world = World(chain.url, aggregators=4)
    settlement = due(world)

    def kill(request: dict[str, Any]) -> tuple[int, dict[str, Any]] | None:
        if request["method"] == step:
            chain.kill()
            raise ConnectionResetError
        return None

    with strict_node(chain.url, kill) as url, pytest.raises(ChainError):
        first = ChainWallet(url, world.contracts, identity("sender"))
        first._account._receipt_timeout_s = 0.5
        first.settle(*settlement)
    chain.start()
    mined = world.wallet().epoch() == 1
    assert mined == (step == "eth_getTransactionReceipt")
    next_in_line = ChainWallet(chain.url, world.contracts, identity("next sender"))
    if mined:
        with pytest.raises(ChainReverted, match="WrongEpoch"):
            next_in_line.settle(*settlement)
    else:
        next_in_line.settle(*settlement)
    check_paid_once(world)
    # And the first one, when its process is there again, is not hindered by what it left behind.
    ChainWallet(chain.url, world.contracts, world.client).transfer(identity("sender").address, POT)
    ChainWallet(chain.url, world.contracts, identity("sender")).transfer(PAYEE, POT)


def test_a_chain_that_was_down_for_an_hour_goes_on_where_it_was(chain: MortalChain) -> None:
    """Its watchers fail until then, lose nothing and tell nothing twice; the epoch that waited is settled once."""
    world = World(chain.url, aggregators=4)
    watcher = ChainWatcher(chain.url, world.contracts, 0, world.contracts.first_block, timeout_s=240)
    settlement = due(world)
    told = watcher.poll()
    chain.kill()
    for _ in range(3):
        with pytest.raises(ChainUnreachable):
            watcher.poll()
    sender = ChainWallet(chain.url, world.contracts, identity("sender"), timeout_s=240)
    sender._account._busy_timeout_s = 0.5
    with pytest.raises(ChainUnreachable):
        sender.settle(*settlement)
    chain.start()
    assert watcher.poll() == [] and world.wallet().epoch() == 0, "nothing was sent"
    world.warp(3_600)
    sender.settle(*settlement)
    check_paid_once(world)
    told += watcher.poll()
    places = [(event.block, event.log_index) for event in told]
    assert places == sorted(set(places))
    assert [event.kind for event in told[-2:]] == ["order_placed", "settled"]


def test_of_two_senders_at_once_one_settles(world: World) -> None:
    settlement = due(world)
    wanted = threading.Barrier(2)
    told: list[str] = []

    def send(who: Identity) -> None:
        wallet = world.wallet(who)
        rpc, call = wallet._account.rpc, wallet._account.rpc.call

        def together(method: str, *parameters: Any) -> Any:
            if method == "eth_sendRawTransaction":  # both have been rehearsed by then
                with contextlib.suppress(threading.BrokenBarrierError):
                    wanted.wait(240)
            return call(method, *parameters)

        rpc.call = together  # type: ignore[method-assign]
        try:
            wallet.settle(*settlement)
            told.append("settled")
        except ChainReverted as error:
            told.append(error.name)

    threads = [threading.Thread(target=send, args=(identity(name),)) for name in ("sender", "next sender")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == ["WrongEpoch", "settled"]
    check_paid_once(world)


def test_an_epoch_that_the_contract_refuses_is_never_sent(world: World) -> None:
    settlement, orders, _ = due(world)
    phantom = [*orders, b"\7" * 32]
    wrong = world.settlement(TREE, 100 * POT, phantom)
    sent: list[str] = []

    def count(request: dict[str, Any]) -> None:
        sent.append(request["method"])

    hook: Callable[[dict[str, Any]], None] = count
    with strict_node(world.url, hook) as url, pytest.raises(ChainReverted) as caught:
        ChainWallet(url, world.contracts, identity("sender")).settle(wrong, phantom, world.signatures(wrong))
    assert (caught.value.name, caught.value.arguments) == ("UnknownOrder", (b"\7" * 32,))
    assert caught.value.transaction is None and "eth_sendRawTransaction" not in sent
    assert world.wallet().missing_escrows(phantom) == [b"\7" * 32]
    held = {each: world.wallet().escrowed_grains(each) for each in orders}
    assert all(held.values())
    lacking = world.wallet().lacking_escrows
    assert lacking({**held, b"\7" * 32: 1}, 0) == lacking({**held, b"\7" * 32: 1}, 1) == [b"\7" * 32]
    assert lacking({each: grains + 1 for each, grains in held.items()}, 1) == orders, "less than is due"
    world.wallet(world.relayer).settle(settlement, orders, world.signatures(settlement))
    check_paid_once(world)
    assert lacking(held, 0) == [], "what is sealed was there"
    late = world.order().oid
    assert lacking({late: 1}, 1) == [], "too new to be told from one that is lacking"
