"""An account at a node that the test writes: what a transaction offers, and what a lost answer does."""

from __future__ import annotations

from typing import Any

import pytest
from eth_account import Account
from eth_account.typed_transactions import TypedTransaction
from hexbytes import HexBytes

from pot_lab.chain.account import DEFAULT_TIP_WEI, ChainAccount
from pot_lab.chain.errors import ChainBusy, ChainError, ChainRefused, ChainUnreachable, TransactionUnconfirmed
from pot_lab.crypto.canonical import keccak256
from pot_lab.crypto.identity import Identity

CHAIN, ESTIMATE, BASE_FEE, TIP = 97, 1_000, 70, 3
TOKEN = b"\x07" * 20


class Node:
    """Answers as a real node with fees would; `known` and `refusal` are what it does with a transaction."""

    def __init__(self, *, known: bool = False, refusal: str = "") -> None:
        self.known, self.refusal = known, refusal
        self.sent: list[bytes] = []
        self.trouble: dict[str, list[ChainError | None]] = {}
        """By method: what the next calls raise, before the node does anything."""

    def call(self, method: str, *parameters: Any) -> Any:
        waiting = self.trouble.get(method)
        if waiting and (error := waiting.pop(0)) is not None:
            raise error
        return getattr(self, method)(*parameters)

    def eth_chainId(self) -> str:
        return hex(CHAIN)

    def eth_estimateGas(self, call: dict[str, str]) -> str:
        return hex(ESTIMATE)

    def eth_getTransactionCount(self, who: str, at: str) -> str:
        return hex(5 if at == "pending" else 4)

    def eth_getBlockByNumber(self, tag: str, full: bool) -> dict[str, str]:
        return {"baseFeePerGas": hex(BASE_FEE)}

    def eth_maxPriorityFeePerGas(self) -> str:
        return hex(TIP)

    def eth_gasPrice(self) -> str:
        return hex(100)

    def eth_sendRawTransaction(self, raw: str) -> str:
        self.sent.append(bytes.fromhex(raw[2:]))
        if self.refusal:
            raise ChainRefused(self.refusal)
        return "0x" + keccak256(self.sent[-1]).hex()

    def eth_getTransactionByHash(self, name: str) -> dict[str, str] | None:
        return {"hash": name} if self.known and bytes.fromhex(name[2:]) == keccak256(self.sent[-1]) else None

    def eth_getTransactionReceipt(self, name: str) -> dict[str, Any] | None:
        if self.refusal and not self.known:
            return None
        return {"status": "0x1", "blockNumber": "0x9", "gasUsed": "0x3e8", "contractAddress": None}


def transfer(node: Node) -> dict[str, Any]:
    """Send one; returns the fields of what reached the node."""
    identity = Identity(keccak256(b"sender"))
    receipt = ChainAccount(node, CHAIN, identity).send("PoTToken", TOKEN, "transfer", b"\1" * 20, 1)  # type: ignore[arg-type]
    assert receipt.transaction == keccak256(node.sent[-1]) and receipt.block == 9
    assert bytes.fromhex(Account.recover_transaction(node.sent[-1])[2:]) == identity.address
    return TypedTransaction.from_bytes(HexBytes(node.sent[-1])).as_dict()


BUSY, AWAY, ODD = ChainBusy("HTTP 429"), ChainUnreachable("connection reset"), ChainRefused("header not found")
MISSING = ChainRefused("the method does not exist")


@pytest.mark.parametrize(
    "method",
    [
        "eth_chainId",
        "eth_estimateGas",
        "eth_getTransactionCount",
        "eth_getBlockByNumber",
        "eth_maxPriorityFeePerGas",
        "eth_sendRawTransaction",
        "eth_getTransactionReceipt",
    ],
)
def test_a_rate_limit_at_any_step_is_waited_through_and_one_transaction_is_made(method: str) -> None:
    node = Node()
    node.trouble[method] = [BUSY, BUSY]
    transfer(node)
    assert len(set(node.sent)) == 1


@pytest.mark.parametrize("error", [BUSY, AWAY, ODD])
def test_no_answer_but_a_receipt_ends_the_wait_for_a_sent_transaction(error: ChainError) -> None:
    node = Node()
    node.trouble["eth_getTransactionReceipt"] = [error, error]
    transfer(node)
    assert len(node.sent) == 1


def test_a_lost_answer_to_the_sending_is_followed_by_the_same_bytes() -> None:
    node = Node(known=True)
    node.trouble["eth_sendRawTransaction"] = [AWAY]
    transfer(node)
    assert len(set(node.sent)) == 1


@pytest.mark.parametrize("method", ["eth_sendRawTransaction", "eth_getTransactionReceipt"])
def test_a_sent_transaction_that_nobody_confirms_is_named(method: str) -> None:
    node = Node()
    node.trouble[method] = [AWAY] * 10_000
    account = ChainAccount(node, CHAIN, Identity(keccak256(b"sender")), receipt_timeout_s=0.2)  # type: ignore[arg-type]
    with pytest.raises(TransactionUnconfirmed, match="connection reset") as caught:
        account.send("PoTToken", TOKEN, "transfer", b"\1" * 20, 1)
    name = caught.value.transaction
    assert f"0x{name.hex()}" in str(caught.value) and all(keccak256(raw) == name for raw in node.sent)


def test_a_refusal_after_a_lost_answer_does_not_say_that_nothing_was_sent() -> None:
    node = Node(refusal="nonce too low")
    node.trouble["eth_sendRawTransaction"] = [AWAY]
    node.trouble["eth_getTransactionReceipt"] = [MISSING]
    with pytest.raises(TransactionUnconfirmed, match="nonce too low"):
        transfer(node)


def test_a_node_that_is_down_before_anything_is_sent_is_told_at_once() -> None:
    node = Node()
    node.trouble["eth_estimateGas"] = [AWAY]
    with pytest.raises(ChainUnreachable) as caught:
        transfer(node)
    assert not isinstance(caught.value, TransactionUnconfirmed) and node.sent == []


@pytest.mark.parametrize(
    ("missing", "tip"),
    [
        (["eth_maxPriorityFeePerGas"], 100 - BASE_FEE),
        (["eth_maxPriorityFeePerGas", "eth_gasPrice"], DEFAULT_TIP_WEI),
    ],
)
def test_a_node_without_a_priority_fee_is_offered_one(missing: list[str], tip: int) -> None:
    node = Node()
    node.trouble = {method: [MISSING] for method in missing}
    sent = transfer(node)
    assert (sent["maxPriorityFeePerGas"], sent["maxFeePerGas"]) == (tip, 2 * BASE_FEE + tip)


def test_a_node_without_a_pending_block_is_asked_for_the_latest() -> None:
    node = Node()
    node.trouble["eth_getTransactionCount"] = [MISSING]
    assert transfer(node)["nonce"] == 4


def test_a_transaction_may_use_a_quarter_more_gas_than_was_estimated() -> None:
    assert transfer(Node())["gas"] == ESTIMATE * 5 // 4


def test_the_fee_cap_covers_a_doubled_base_fee_and_the_tip() -> None:
    sent = transfer(Node())
    assert (sent["maxPriorityFeePerGas"], sent["maxFeePerGas"]) == (TIP, 2 * BASE_FEE + TIP)


def test_a_transaction_comes_after_those_that_are_pending() -> None:
    assert transfer(Node())["nonce"] == 5


def test_a_transaction_that_the_node_knows_already_was_sent() -> None:
    node = Node(known=True, refusal="already known")
    transfer(node)
    assert len(node.sent) == 1


def test_a_transaction_that_the_node_refuses_was_not_sent() -> None:
    with pytest.raises(ChainRefused, match="nonce too low"):
        transfer(Node(refusal="nonce too low"))


def test_another_chain_than_the_networks_is_refused_before_anything_is_sent() -> None:
    node = Node()
    account = ChainAccount(node, CHAIN + 1, Identity(keccak256(b"sender")))  # type: ignore[arg-type]
    with pytest.raises(ChainRefused, match=r"another chain \(seen: 97, wanted: 98\)"):
        account.send("PoTToken", TOKEN, "transfer", b"\1" * 20, 1)
    assert node.sent == []
