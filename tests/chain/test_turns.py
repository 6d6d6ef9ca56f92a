"""Transactions of one account follow each other, whichever process sends them, and money that is out is named."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any

import pytest

from pot_lab.chain.errors import AccountBusy, ChainError, TransactionUnconfirmed
from pot_lab.chain.turns import AccountTurn
from pot_lab.chain.wallet import ChainWallet
from tests.chain.world import POT, World, strict_node


def two_stakes_at_once(world: World, *, patience_s: float) -> list[ChainError]:
    """One wallet stakes; while its transaction is on the way to the node another wallet of the account stakes too.
    Returns what failed.

    Args:
        patience_s: how long the first one stands still for the second; with turns the second waits for the first.
    """
    failed: list[ChainError] = []
    second: list[threading.Thread] = []

    def stake(wallet: ChainWallet, grains: int) -> None:  # two amounts, or both might sign the same bytes
        try:
            wallet.stake(0, grains)
        except ChainError as error:
            failed.append(error)

    def meanwhile(request: dict[str, Any]) -> None:
        if request["method"] == "eth_sendRawTransaction" and not second:
            second.append(threading.Thread(target=stake, args=(world.wallet(world.client), 160 * POT)))
            second[0].start()
            second[0].join(patience_s)

    with strict_node(world.url, meanwhile) as url:
        stake(ChainWallet(url, world.contracts, world.client), 150 * POT)
        second[0].join()
    return failed


def test_two_that_send_at_once_both_come_through(world: World) -> None:
    assert two_stakes_at_once(world, patience_s=0.5) == []
    assert world.wallet().stake_of(world.client.address, 0).bonded_grains == 310 * POT


def test_without_turns_one_of_them_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AccountTurn, "taken", lambda self: contextlib.nullcontext())
    assert len(two_stakes_at_once(world, patience_s=60)) == 1


def test_a_process_that_does_not_end_is_told(world: World) -> None:
    first = AccountTurn(1, b"\1" * 20, timeout_s=0)
    second, other = AccountTurn(1, b"\1" * 20, timeout_s=0), AccountTurn(1, b"\2" * 20, timeout_s=0)
    with first.taken(), first.taken(), other.taken(), pytest.raises(AccountBusy, match="waited 0 s"), second.taken():
        pass
    with second.taken():
        pass


def test_where_no_lock_can_be_kept_transactions_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("POT_LAB_HOME", str(tmp_path / "file"))
    with AccountTurn(1, b"\1" * 20, timeout_s=0).taken():
        pass


def test_an_order_that_may_be_paid_is_named_with_its_transaction(world: World) -> None:
    def silent(request: dict[str, Any]) -> tuple[int, dict[str, Any]] | None:
        return (503, {}) if request["method"] == "eth_getTransactionReceipt" else None

    spec, seal_by_s = b"\5" * 32, world.now_s() + 10**6
    with strict_node(world.url, silent) as url:
        wallet = ChainWallet(url, world.contracts, world.client)
        wallet._account._receipt_timeout_s = 0.3
        with pytest.raises(TransactionUnconfirmed) as caught:
            wallet.place_order(50 * POT, 0, 0, seal_by_s, spec, 77)
    error = caught.value
    assert world.wallet().escrowed_grains(error.order) == 50 * POT
    assert f"0x{error.order.hex()}" in str(error) and f"0x{error.transaction.hex()}" in str(error)
    assert world.rpc.call("eth_getTransactionByHash", "0x" + error.transaction.hex()) is not None


@pytest.mark.parametrize(
    "refusal",
    [
        (429, {"code": -32005, "message": "rate"}),
        (200, {"code": -32005, "message": "request rate limited"}),
        (502, {}),
        (200, {"code": -32000, "message": "transaction indexing is in progress"}),
    ],
)
def test_a_passing_refusal_while_a_receipt_is_waited_for_is_no_failure(
    world: World, refusal: tuple[int, dict[str, Any]]
) -> None:
    said: list[int] = []

    def once(request: dict[str, Any]) -> tuple[int, dict[str, Any]] | None:
        if request["method"] != "eth_getTransactionReceipt" or said:
            return None
        said.append(1)
        return refusal

    before = world.wallet().balance_grains(world.client.address)
    with strict_node(world.url, once) as url:
        ChainWallet(url, world.contracts, world.client).transfer(world.founder.address, 5)
    assert world.wallet().balance_grains(world.client.address) == before - 5 and said
