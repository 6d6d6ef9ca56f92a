"""One identity at one node: read contracts, send transactions, wait for their receipts.

A transaction is tried first (`eth_estimateGas`), so a contract's refusal is a typed error before anything is sent.
One transaction of an account is under way at a time, also among processes, and is noted on disk before it is sent.
Once it is sent, an answer that says nothing about it (a rate limit, a lost connection) is waited through: the money may
be out already. Where no block takes it, the same transaction is offered again for more. It must not make a second
transaction by itself: only the caller knows whether it is still wanted.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from pot_lab.chain import abi
from pot_lab.chain.contract import interface, read_revert
from pot_lab.chain.errors import (
    ChainBusy,
    ChainError,
    ChainRefused,
    ChainReverted,
    ChainUnreachable,
    NotConfirmed,
    TransactionUnconfirmed,
)
from pot_lab.chain.fees import DEFAULT_CAP_WEI, Fees, quote
from pot_lab.chain.outbox import Outbox, Outgoing
from pot_lab.chain.proposal import Confirm, ContractAction, ProposedTransaction
from pot_lab.chain.rpc import JsonRpc, hex_data, hex_quantity, read_data, read_quantity
from pot_lab.chain.signer import AccountSigner, signer_for
from pot_lab.chain.transaction import ChainTransaction
from pot_lab.chain.turns import AccountTurn
from pot_lab.crypto.canonical import keccak256
from pot_lab.crypto.identity import Identity, format_address

_log = logging.getLogger(__name__)

RECEIPT_TIMEOUT_S: Final = 120.0
BUSY_TIMEOUT_S: Final = 20.0
"""How long a node that says "later" is asked again before a transaction is sent."""
REPLACE_AFTER_S: Final = 30.0
"""How long a transaction waits for a block before it offers more."""
_MAX_VERSIONS: Final = 64
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
    """One identity's transactions and reads at one node. `confirm`, where it is set, is asked before each transaction.

    Args:
        rpc: the node.
        chain_id: the chain that the node must be on; checked once, at the first transaction.
        identity: the account that signs, by its key or by who keeps it; None for a reader.
        receipt_timeout_s: how long to wait for a transaction to be mined.
        busy_timeout_s: how long a node that is busy is asked again before a transaction is sent.
        replace_after_s: how long a transaction waits for a block before it offers more.
        max_fee_wei: wei per gas that a transaction may cost at most.
    """

    def __init__(
        self,
        rpc: JsonRpc,
        chain_id: int,
        identity: Identity | AccountSigner | None,
        *,
        receipt_timeout_s: float = RECEIPT_TIMEOUT_S,
        busy_timeout_s: float = BUSY_TIMEOUT_S,
        replace_after_s: float = REPLACE_AFTER_S,
        max_fee_wei: int = DEFAULT_CAP_WEI,
    ) -> None:
        self.rpc = rpc
        self.chain_id = chain_id
        self.signer = signer_for(identity)
        self._receipt_timeout_s, self._busy_timeout_s = receipt_timeout_s, busy_timeout_s
        self._replace_after_s, self._max_fee_wei = replace_after_s, max_fee_wei
        self._chain_checked = False
        self._first_hash: bytes | None = None
        sender = bytes(20) if self.signer is None else self.signer.address
        self.confirm: Confirm | None = None
        self._turn = AccountTurn(chain_id, sender, timeout_s=2 * receipt_timeout_s)
        self._outbox = Outbox(chain_id, sender)

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
        return self.read_at("latest", contract, at, function, *arguments)

    def height(self) -> int:
        """The number of the node's newest block."""
        return read_quantity(self._ask("eth_blockNumber"))

    def read_at(self, block: int | str, contract: str, at: bytes, function: str, *arguments: Any) -> tuple[Any, ...]:
        """As `read`, of the state after a block: its number, or "latest"."""
        spec = interface(contract).functions[function]
        call = {"to": format_address(at), "data": hex_data(spec.call_data(arguments))}
        where = block if isinstance(block, str) else hex_quantity(block)
        data = read_data(self._ask("eth_call", call, where))
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
            FeeAboveCap: gas costs more than it may; nothing was sent.
            NotConfirmed: `confirm` said no; nothing was sent.
        """
        action = ContractAction(contract=contract, function=function, arguments=arguments)
        return self._send(at, interface(contract).functions[function].call_data(arguments), action)

    def create(self, contract: str, arguments: Sequence[Any]) -> Receipt:
        """Deploy a contract; `Receipt.created` is its address."""
        action = ContractAction(contract=contract, function="constructor", arguments=tuple(arguments))
        return self._send(b"", interface(contract).creation(arguments), action)

    def finish_earlier(self) -> None:
        """See the end of a transaction that an earlier process left under way, if there is one.

        Raises:
            TransactionUnconfirmed: it is not mined in time.
            ChainUnreachable, ChainRefused, AccountBusy: it cannot be told.
        """
        if self.signer is not None:
            with self.turn():
                self._check_chain()
                self._finish_earlier(self.signer)

    def _send(self, to: bytes, data: bytes, action: ContractAction) -> Receipt:
        if self.signer is None:
            raise ChainRefused("this account cannot send transactions: it has no key")
        with self.turn():
            self._check_chain()
            lost = self._finish_earlier(self.signer)
            call = self._call(self.signer, to, data)
            estimate = read_quantity(self._ask("eth_estimateGas", call))
            nonce = self._nonce(self.signer, "pending")
            fees = quote(self._ask, self._max_fee_wei)
            if lost is not None and lost.nonce == nonce:  # another node may still have it: one of the two is mined
                fees = lost.fees.replaced_by(fees, self._max_fee_wei) or fees
            outgoing = Outgoing(
                chain=self._first_block(),
                nonce=nonce,
                to=to,
                data=data,
                gas=estimate + estimate // _SPARE_GAS,
                tip=fees.tip,
                most=fees.most,
                names=(),
            )
            if self.confirm is not None:
                self._ask_before(outgoing, action, self.signer)
            receipt, succeeded = self._carry_out(outgoing, self.signer)
        if not succeeded:
            raise self._why(call | {"gas": hex_quantity(outgoing.gas)}, receipt)
        return receipt

    def _ask_before(self, outgoing: Outgoing, action: ContractAction, signer: AccountSigner) -> None:
        proposed = ProposedTransaction(
            action=action,
            account=signer.address,
            chain_id=self.chain_id,
            gas=outgoing.gas,
            fee_wei=outgoing.gas * outgoing.most,
        )
        if self.confirm is not None and not self.confirm(proposed):
            raise NotConfirmed("the transaction was not confirmed; nothing was sent", seen=action.words)

    def _carry_out(self, outgoing: Outgoing, signer: AccountSigner) -> tuple[Receipt, bool]:
        """Note it, hand it to the node, and wait: the receipt, and whether it succeeded."""
        outgoing, raw = self._version(outgoing, outgoing.fees, signer)
        self._outbox.note(outgoing)
        deadline_s = time.monotonic() + self._receipt_timeout_s
        try:
            self._submit(raw, outgoing.names, deadline_s)
        except ChainRefused:
            self._outbox.clear()
            raise
        found = self._wait(outgoing, deadline_s, signer)
        self._outbox.clear()
        return found

    def _version(self, outgoing: Outgoing, fees: Fees, signer: AccountSigner) -> tuple[Outgoing, bytes]:
        """The transaction with these fees, and its bytes."""
        transaction = ChainTransaction(
            chain_id=self.chain_id,
            nonce=outgoing.nonce,
            max_priority_fee=fees.tip,
            max_fee=fees.most,
            gas=outgoing.gas,
            to=outgoing.to,
            data=outgoing.data,
        )
        raw = signer.sign_transaction(transaction)
        names = [name for name in outgoing.names if name != keccak256(raw)]
        kept = (*names[-_MAX_VERSIONS:], keccak256(raw))
        return msgspec.structs.replace(outgoing, tip=fees.tip, most=fees.most, names=kept), raw

    def _finish_earlier(self, signer: AccountSigner) -> Outgoing | None:
        """See the end of a transaction that was noted and not seen mined: everything later waits behind it.

        It is offered again for more. One that would fail by now is replaced by a payment of nothing to oneself.

        Returns: one that the node does not have, so that nothing waits behind it; it is not sent again, since whoever
            wanted it may not want it any more.
        Raises:
            TransactionUnconfirmed: it is not mined in time; nothing else was sent.
        """
        earlier = self._outbox.load()
        if earlier is None:
            return None
        elsewhere = earlier.chain != self._first_block()
        if elsewhere or self._nonce(signer, "latest") > earlier.nonce:  # of another chain, or mined
            self._outbox.clear()
            return None
        if self._nonce(signer, "pending") <= earlier.nonce and not any(map(self._is_known, earlier.names)):
            return earlier
        _log.warning("event=earlier_transaction_finished nonce=%d hash=0x%s", earlier.nonce, earlier.names[-1].hex())
        try:
            self._ask("eth_call", self._call(signer, earlier.to, earlier.data), "latest")
        except ChainReverted:
            nothing = self._call(signer, signer.address, b"")
            gas = read_quantity(self._ask("eth_estimateGas", nothing))
            earlier = msgspec.structs.replace(earlier, to=signer.address, data=b"", gas=gas)
        fees = earlier.fees.replaced_by(quote(self._ask, self._max_fee_wei), self._max_fee_wei) or earlier.fees
        earlier, raw = self._version(earlier, fees, signer)
        self._outbox.note(earlier)
        deadline_s = time.monotonic() + self._receipt_timeout_s
        try:
            with contextlib.suppress(ChainRefused):  # one of its versions is there, or was mined in this moment
                self._submit(raw, earlier.names, deadline_s)
            self._wait(earlier, deadline_s, signer)
        except TransactionUnconfirmed:
            if self._nonce(signer, "latest") <= earlier.nonce:
                raise
        self._outbox.clear()
        return None

    def _call(self, signer: AccountSigner, to: bytes, data: bytes) -> dict[str, Any]:
        call = {"from": format_address(signer.address), "data": hex_data(data)}
        return call | ({"to": format_address(to)} if to else {})

    def _first_block(self) -> bytes:
        """Hash of the chain's first block: two chains with one id are told apart by it."""
        if self._first_hash is None:
            try:
                self._first_hash = read_data(self._ask("eth_getBlockByNumber", "0x0", False)["hash"], 32)
            except (ChainRefused, TypeError, KeyError):  # some nodes forget old blocks
                self._first_hash = b""
        return self._first_hash

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

    def _nonce(self, signer: AccountSigner, at: str) -> int:
        sender = format_address(signer.address)
        try:
            return read_quantity(self._ask("eth_getTransactionCount", sender, at))
        except ChainRefused:  # some nodes know no pending block
            return read_quantity(self._ask("eth_getTransactionCount", sender, "latest"))

    def _submit(self, raw: bytes, names: Sequence[bytes], deadline_s: float) -> None:
        """Hand the transaction to the node: the same bytes again, whenever it is unknown whether they came through."""
        name, pause_s, tries = names[-1], 0.05, 0
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

    def _wait(self, outgoing: Outgoing, deadline_s: float, signer: AccountSigner) -> tuple[Receipt, bool]:
        """The receipt of one of its versions, and whether it succeeded; no answer that says nothing of it ends the
        wait.
        """
        pause_s, replace_at_s = 0.005, time.monotonic() + self._replace_after_s
        while True:
            trouble = ""
            for name in reversed(outgoing.names):
                try:
                    receipt = self.rpc.call("eth_getTransactionReceipt", hex_data(name))
                    if isinstance(receipt, dict):
                        return _read_receipt(receipt, name)
                except (ChainRefused, ChainUnreachable) as error:
                    trouble = f" ({error})"
                    pause_s = max(pause_s, 0.1)
            if time.monotonic() > deadline_s:
                raise TransactionUnconfirmed(
                    f"a transaction was sent, and the chain did not confirm it in time{trouble}",
                    outgoing.names[-1],
                    wanted=f"a receipt within {self._receipt_timeout_s:g} s",
                )
            if time.monotonic() > replace_at_s:
                outgoing = self._offer_more(outgoing, signer)
                replace_at_s = time.monotonic() + self._replace_after_s
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _MAX_PAUSE_S)

    def _offer_more(self, outgoing: Outgoing, signer: AccountSigner) -> Outgoing:
        """Replace what no block has taken by the same for more; what hinders it is tried again later."""
        try:
            fees = outgoing.fees.replaced_by(quote(self.rpc.call, self._max_fee_wei), self._max_fee_wei)
        except ChainError:
            return outgoing
        if fees is None:
            return outgoing
        try:
            outgoing, raw = self._version(outgoing, fees, signer)
        except ChainError as error:  # who keeps the key is away, or says no: what is out stays out
            _log.info("event=transaction_not_replaced nonce=%d reason=%r", outgoing.nonce, str(error))
            return outgoing
        self._outbox.note(outgoing)
        try:
            self.rpc.call("eth_sendRawTransaction", hex_data(raw))
            _log.info("event=transaction_replaced nonce=%d most_wei=%d", outgoing.nonce, fees.most)
        except (ChainRefused, ChainUnreachable) as error:  # mined in this moment, or the answer was lost
            _log.info("event=transaction_not_replaced nonce=%d reason=%r", outgoing.nonce, str(error))
        return outgoing

    def _why(self, call: dict[str, Any], receipt: Receipt) -> ChainReverted:
        """Run a failed transaction again where it failed, for the reason that receipts do not carry."""
        try:
            self._ask("eth_call", call, hex_quantity(receipt.block))
        except ChainReverted as error:
            return ChainReverted(error.name, error.arguments, transaction=receipt.transaction)
        except (ChainRefused, ChainUnreachable):
            pass
        return read_revert(b"", receipt.transaction)


def _read_receipt(receipt: dict[str, Any], name: bytes) -> tuple[Receipt, bool]:
    created = receipt.get("contractAddress")
    read = Receipt(
        transaction=name,
        block=read_quantity(receipt.get("blockNumber")),
        gas_used=read_quantity(receipt.get("gasUsed")),
        created=read_data(created, 20) if created else None,
    )
    return read, read_quantity(receipt.get("status")) == 1
