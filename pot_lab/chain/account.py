"""One identity at one node: read contracts, send transactions, wait for their receipts.

A transaction is tried first (`eth_estimateGas`), so a contract's refusal is a typed error before anything is sent.
One transaction is under way at a time. It must not retry a transaction by itself: only the caller knows whether it is
still wanted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pot_lab.chain import abi
from pot_lab.chain.contract import interface, read_revert
from pot_lab.chain.errors import ChainRefused, ChainReverted, ChainUnreachable
from pot_lab.chain.rpc import JsonRpc, hex_data, hex_quantity, read_data, read_quantity
from pot_lab.chain.transaction import ChainTransaction
from pot_lab.crypto.canonical import keccak256
from pot_lab.crypto.identity import Identity, format_address

RECEIPT_TIMEOUT_S: Final = 120.0
_SPARE_GAS: Final = 4  # a limit is the estimate and a quarter: state may change between estimate and block


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """A mined and successful transaction: its hash (32 bytes), block, gas used, and the contract created, if any."""

    transaction: bytes
    block: int
    gas_used: int
    created: bytes | None


class ChainAccount:
    """One identity's transactions and reads at one node.

    Args:
        rpc: the node.
        chain_id: the chain that the node must be on; checked once, at the first transaction.
        identity: the account that signs; None for a reader.
        receipt_timeout_s: how long to wait for a transaction to be mined.
    """

    def __init__(
        self,
        rpc: JsonRpc,
        chain_id: int,
        identity: Identity | None,
        *,
        receipt_timeout_s: float = RECEIPT_TIMEOUT_S,
    ) -> None:
        self.rpc = rpc
        self.chain_id = chain_id
        self.identity = identity
        self._receipt_timeout_s = receipt_timeout_s
        self._chain_checked = False
        self._lock = threading.Lock()

    def read(self, contract: str, at: bytes, function: str, *arguments: Any) -> tuple[Any, ...]:
        """Call a view function; returns its outputs.

        Args:
            contract: name of the interface, e.g. "StakeRegistry".
            at: 20-byte address.
        Raises:
            ChainReverted, ChainUnreachable, ChainRefused: see `JsonRpc.call`. An address without code is ChainRefused.
        """
        spec = interface(contract).functions[function]
        call = {"to": format_address(at), "data": hex_data(spec.call_data(arguments))}
        data = read_data(self.rpc.call("eth_call", call, "latest"))
        if not data and spec.outputs:
            raise ChainRefused(f"there is no {contract} contract at this address", seen=format_address(at))
        return abi.decode(spec.outputs, data)

    def send(self, contract: str, at: bytes, function: str, *arguments: Any) -> Receipt:
        """Estimate gas, sign, send, and wait for the receipt.

        Raises:
            ChainReverted: the contract refused; nothing was sent unless `transaction` is set.
            ChainUnreachable: the node went away or the block did not come; `seen` is the hash of what may be under way.
            ChainRefused: the node did not accept it.
        """
        return self._send(at, interface(contract).functions[function].call_data(arguments))

    def create(self, contract: str, arguments: Sequence[Any]) -> Receipt:
        """Deploy a contract; `Receipt.created` is its address."""
        return self._send(b"", interface(contract).creation(arguments))

    def _send(self, to: bytes, data: bytes) -> Receipt:
        if self.identity is None:
            raise ChainRefused("this account cannot send transactions: it has no key")
        with self._lock:
            self._check_chain()
            sender = format_address(self.identity.address)
            call = {"from": sender, "data": hex_data(data)} | ({"to": format_address(to)} if to else {})
            estimate = read_quantity(self.rpc.call("eth_estimateGas", call))
            nonce = read_quantity(self.rpc.call("eth_getTransactionCount", sender, "pending"))
            tip, max_fee = self._fees()
            gas = estimate + estimate // _SPARE_GAS
            raw = ChainTransaction(
                chain_id=self.chain_id, nonce=nonce, max_priority_fee=tip, max_fee=max_fee, gas=gas, to=to, data=data
            ).sign(self.identity)
            name = keccak256(raw)
            self._submit(raw, name)
            receipt = self._wait(name)
        if read_quantity(receipt.get("status")) != 1:
            raise self._why(call | {"gas": hex_quantity(gas)}, receipt, name)
        created = receipt.get("contractAddress")
        return Receipt(
            transaction=name,
            block=read_quantity(receipt.get("blockNumber")),
            gas_used=read_quantity(receipt.get("gasUsed")),
            created=read_data(created, 20) if created else None,
        )

    def _check_chain(self) -> None:
        if not self._chain_checked:
            seen = read_quantity(self.rpc.call("eth_chainId"))
            if seen != self.chain_id:
                raise ChainRefused("the node is on another chain", seen=seen, wanted=self.chain_id)
            self._chain_checked = True

    def _fees(self) -> tuple[int, int]:
        block = self.rpc.call("eth_getBlockByNumber", "latest", False)
        base = read_quantity((block or {}).get("baseFeePerGas") or "0x0")
        tip = read_quantity(self.rpc.call("eth_maxPriorityFeePerGas"))
        return tip, 2 * base + tip

    def _submit(self, raw: bytes, name: bytes) -> None:
        try:
            self.rpc.call("eth_sendRawTransaction", hex_data(raw))
        except ChainRefused:
            # The node may have it already: its first answer was lost and the same bytes were sent twice.
            if self.rpc.call("eth_getTransactionByHash", hex_data(name)) is None:
                raise

    def _wait(self, name: bytes) -> dict[str, Any]:
        deadline, pause_s = time.monotonic() + self._receipt_timeout_s, 0.005
        while True:
            receipt = self.rpc.call("eth_getTransactionReceipt", hex_data(name))
            if isinstance(receipt, dict):
                return receipt
            if time.monotonic() > deadline:
                waited = f"mined within {self._receipt_timeout_s:g} s"
                raise ChainUnreachable("the chain did not mine a transaction in time", seen=name, wanted=waited)
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.5)

    def _why(self, call: dict[str, Any], receipt: dict[str, Any], name: bytes) -> ChainReverted:
        """Run a failed transaction again where it failed, for the reason that receipts do not carry."""
        try:
            self.rpc.call("eth_call", call, receipt["blockNumber"])
        except ChainReverted as error:
            return ChainReverted(error.name, error.arguments, transaction=name)
        except (ChainRefused, ChainUnreachable):
            pass
        return read_revert(b"", name)
