"""An account at a node that the test writes: what a transaction offers, and what a lost answer does."""

from __future__ import annotations

from typing import Any

import pytest
from eth_account import Account
from eth_account.typed_transactions import TypedTransaction
from hexbytes import HexBytes

from pot_lab.chain.account import ChainAccount
from pot_lab.chain.errors import ChainRefused
from pot_lab.crypto.canonical import keccak256
from pot_lab.crypto.identity import Identity

CHAIN, ESTIMATE, BASE_FEE, TIP = 97, 1_000, 70, 3
TOKEN = b"\x07" * 20


class Node:
    """Answers as a real node with fees would; `known` and `refusal` are what it does with a transaction."""

    def __init__(self, *, known: bool = False, refusal: str = "") -> None:
        self.known, self.refusal = known, refusal
        self.sent: list[bytes] = []

    def call(self, method: str, *parameters: Any) -> Any:
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

    def eth_sendRawTransaction(self, raw: str) -> str:
        self.sent.append(bytes.fromhex(raw[2:]))
        if self.refusal:
            raise ChainRefused(self.refusal)
        return "0x" + keccak256(self.sent[-1]).hex()

    def eth_getTransactionByHash(self, name: str) -> dict[str, str] | None:
        return {"hash": name} if self.known and bytes.fromhex(name[2:]) == keccak256(self.sent[-1]) else None

    def eth_getTransactionReceipt(self, name: str) -> dict[str, Any]:
        return {"status": "0x1", "blockNumber": "0x9", "gasUsed": "0x3e8", "contractAddress": None}


def transfer(node: Node) -> dict[str, Any]:
    """Send one; returns the fields of what reached the node."""
    identity = Identity(keccak256(b"sender"))
    receipt = ChainAccount(node, CHAIN, identity).send("PoTToken", TOKEN, "transfer", b"\1" * 20, 1)  # type: ignore[arg-type]
    assert receipt.transaction == keccak256(node.sent[-1]) and receipt.block == 9
    assert bytes.fromhex(Account.recover_transaction(node.sent[-1])[2:]) == identity.address
    return TypedTransaction.from_bytes(HexBytes(node.sent[-1])).as_dict()


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
