"""One identity at one node: read contracts, send transactions, wait for their receipts.

A transaction is tried first (`eth_estimateGas`), so a contract's refusal is a typed error before anything is sent.
One transaction of an account is under way at a time, also among processes. Once it is sent, an answer that says nothing
about it (a rate limit, a lost connection) is waited through: the money may be out already. It must not make a second
transaction by itself: only the caller knows whether it is still wanted.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pot_lab.chain import abi
from pot_lab.chain.contract import interface, read_revert
from pot_lab.chain.errors import ChainBusy, ChainRefused, ChainReverted, ChainUnreachable, TransactionUnconfirmed
from pot_lab.chain.rpc import JsonRpc, hex_data, hex_quantity, read_data, read_quantity
from pot_lab.chain.transaction import ChainTransaction
from pot_lab.chain.turns import AccountTurn
from pot_lab.crypto.canonical import keccak256
from pot_lab.crypto.identity import Identity, format_address

RECEIPT_TIMEOUT_S: Final = 120.0
BUSY_TIMEOUT_S: Final = 20.0
"""How long a node that says "later" is asked again before a transaction is sent."""
DEFAULT_TIP_WEI: Final = 10**9
"""Wei per gas offered to a node that knows neither a priority fee nor a gas price."""
_MAX_PAUSE_S: Final = 0.5
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
        busy_timeout_s: how long a node that is busy is asked again before a transaction is sent.
    """

    def __init__(
        self,
        rpc: JsonRpc,
        chain_id: int,
        identity: Identity | None,
        *,
        receipt_timeout_s: float = RECEIPT_TIMEOUT_S,
        busy_timeout_s: float = BUSY_TIMEOUT_S,
    ) -> None:
        self.rpc = rpc
        self.chain_id = chain_id
        self.identity = identity
        self._receipt_timeout_s, self._busy_timeout_s = receipt_timeout_s, busy_timeout_s
        self._chain_checked = False
        sender = bytes(20) if identity is None else identity.address
        self._turn = AccountTurn(chain_id, sender, timeout_s=2 * receipt_timeout_s)

    def turn(self) -> contextlib.AbstractContextManager[None]:
        """Send nothing else of this account for a `with` block, from any process of this host: for what is read, signed
        and sent in one.

        Raises:
            AccountBusy: another process does not end.
        """
        return self._turn.taken()

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
        data = read_data(self._ask("eth_call", call, "latest"))
        if not data and spec.outputs:
            raise ChainRefused(f"there is no {contract} contract at this address", seen=format_address(at))
        return abi.decode(spec.outputs, data)

    def send(self, contract: str, at: bytes, function: str, *arguments: Any) -> Receipt:
        """Estimate gas, sign, send, and wait for the receipt.

        Raises:
            ChainReverted: the contract refused; nothing was sent unless `transaction` is set.
            TransactionUnconfirmed: it was sent, and the node went away or the block did not come; it names the hash.
            ChainUnreachable: the node is down; nothing was sent.
            ChainRefused: the node did not accept it; nothing was sent.
            AccountBusy: another process sends one of this account's; nothing was sent.
        """
        return self._send(at, interface(contract).functions[function].call_data(arguments))

    def create(self, contract: str, arguments: Sequence[Any]) -> Receipt:
        """Deploy a contract; `Receipt.created` is its address."""
        return self._send(b"", interface(contract).creation(arguments))

    def _send(self, to: bytes, data: bytes) -> Receipt:
        if self.identity is None:
            raise ChainRefused("this account cannot send transactions: it has no key")
        with self.turn():
            self._check_chain()
            sender = format_address(self.identity.address)
            call = {"from": sender, "data": hex_data(data)} | ({"to": format_address(to)} if to else {})
            estimate = read_quantity(self._ask("eth_estimateGas", call))
            nonce = self._nonce(sender)
            tip, max_fee = self._fees()
            gas = estimate + estimate // _SPARE_GAS
            raw = ChainTransaction(
                chain_id=self.chain_id, nonce=nonce, max_priority_fee=tip, max_fee=max_fee, gas=gas, to=to, data=data
            ).sign(self.identity)
            name = keccak256(raw)
            deadline_s = time.monotonic() + self._receipt_timeout_s
            self._submit(raw, name, deadline_s)
            receipt, succeeded = self._wait(name, deadline_s)
        if not succeeded:
            raise self._why(call | {"gas": hex_quantity(gas)}, receipt, name)
        return receipt

    def _check_chain(self) -> None:
        if not self._chain_checked:
            seen = read_quantity(self._ask("eth_chainId"))
            if seen != self.chain_id:
                raise ChainRefused("the node is on another chain", seen=seen, wanted=self.chain_id)
            self._chain_checked = True

    def _ask(self, method: str, *parameters: Any) -> Any:
        """Call what changes nothing, again while the node is busy."""
        deadline_s, pause_s = time.monotonic() + self._busy_timeout_s, 0.05
        while True:
            try:
                return self.rpc.call(method, *parameters)
            except ChainBusy:
                if time.monotonic() > deadline_s:
                    raise
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 4 * _MAX_PAUSE_S)

    def _nonce(self, sender: str) -> int:
        try:
            return read_quantity(self._ask("eth_getTransactionCount", sender, "pending"))
        except ChainRefused:  # some nodes know no pending block
            return read_quantity(self._ask("eth_getTransactionCount", sender, "latest"))

    def _fees(self) -> tuple[int, int]:
        block = self._ask("eth_getBlockByNumber", "latest", False)
        base = read_quantity((block or {}).get("baseFeePerGas") or "0x0")
        tip = self._tip(base)
        return tip, 2 * base + tip

    def _tip(self, base: int) -> int:
        """Wei per gas above the base fee: what the node asks for, by whichever of its methods it has."""
        try:
            return read_quantity(self._ask("eth_maxPriorityFeePerGas"))
        except ChainRefused:
            pass
        try:
            return max(0, read_quantity(self._ask("eth_gasPrice")) - base)
        except ChainRefused:
            return DEFAULT_TIP_WEI

    def _submit(self, raw: bytes, name: bytes, deadline_s: float) -> None:
        """Hand the transaction to the node: the same bytes again, whenever it is unknown whether they came through."""
        pause_s, tries = 0.05, 0
        while True:
            tries += 1
            try:
                self.rpc.call("eth_sendRawTransaction", hex_data(raw))
                return
            except ChainUnreachable as error:
                if time.monotonic() > deadline_s:
                    raise TransactionUnconfirmed(f"a transaction was sent without an answer ({error})", name) from error
            except ChainRefused as error:
                # The node may have it already: an answer was lost and the same bytes were sent twice.
                if self._is_known(name):
                    return
                if tries > 1:  # one of the tries may have reached a node behind the same address
                    raise TransactionUnconfirmed(f"a transaction may have been sent ({error})", name) from error
                raise
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 4 * _MAX_PAUSE_S)

    def _is_known(self, name: bytes) -> bool:
        for method in ("eth_getTransactionByHash", "eth_getTransactionReceipt"):
            with contextlib.suppress(ChainRefused, ChainUnreachable):
                if self._ask(method, hex_data(name)) is not None:
                    return True
        return False

    def _wait(self, name: bytes, deadline_s: float) -> tuple[Receipt, bool]:
        """The receipt, and whether the transaction succeeded; no answer that says nothing of it ends the wait."""
        pause_s, trouble = 0.005, ""
        while True:
            try:
                receipt = self.rpc.call("eth_getTransactionReceipt", hex_data(name))
                if isinstance(receipt, dict):
                    return _read_receipt(receipt, name)
                trouble = ""
            except (ChainRefused, ChainUnreachable) as error:
                trouble = f" ({error})"
                pause_s = max(pause_s, 0.1)
            if time.monotonic() > deadline_s:
                raise TransactionUnconfirmed(
                    f"a transaction was sent, and the chain did not confirm it in time{trouble}",
                    name,
                    wanted=f"a receipt within {self._receipt_timeout_s:g} s",
                )
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _MAX_PAUSE_S)

    def _why(self, call: dict[str, Any], receipt: Receipt, name: bytes) -> ChainReverted:
        """Run a failed transaction again where it failed, for the reason that receipts do not carry."""
        try:
            self._ask("eth_call", call, hex_quantity(receipt.block))
        except ChainReverted as error:
            return ChainReverted(error.name, error.arguments, transaction=name)
        except (ChainRefused, ChainUnreachable):
            pass
        return read_revert(b"", name)


def _read_receipt(receipt: dict[str, Any], name: bytes) -> tuple[Receipt, bool]:
    created = receipt.get("contractAddress")
    read = Receipt(
        transaction=name,
        block=read_quantity(receipt.get("blockNumber")),
        gas_used=read_quantity(receipt.get("gasUsed")),
        created=read_data(created, 20) if created else None,
    )
    return read, read_quantity(receipt.get("status")) == 1
