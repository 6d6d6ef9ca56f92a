"""The embedded chain's engine: py-evm behind the few calls that a JSON-RPC node needs.

One process holds the whole chain in memory, mines one block per transaction, and keeps block time on the host's clock,
so that the contracts' time checks mean wall time. Gas is free on it (the base fee is zero and stays zero), so an
account needs no ether. With a journal it survives a restart: blocks are replayed from the raw transactions.

py-evm is archived; nothing outside this module may import it. `EmbeddedChain` is the interface to keep if another
engine replaces it. It must not know HTTP or JSON.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from eth.chains.base import MiningChain
from eth.constants import BLANK_ROOT_HASH
from eth.db.atomic import AtomicDB
from eth.exceptions import VMError
from eth.vm.forks.cancun import CancunVM
from eth.vm.spoof import SpoofTransaction

from pot_lab.chain.errors import DamagedJournal, EvmRefused, EvmReverted
from pot_lab.errors import PotLabError
from pot_lab.files import replace_durably

_log = logging.getLogger(__name__)

BLOCK_GAS = 60_000_000
TRANSACTION_GAS = 16_777_216
"""Most gas of one transaction (EIP-7825, as BSC has it).

Under half of a block, so the base fee never rises from zero.
"""
MAX_TRANSACTION_BYTES = 131_072
MAX_CODE_CALL_BYTES = 131_072
GENESIS_WEI = 10**24
_ZERO = bytes(20)
_JOURNAL_FORMAT = "pot-lab embedded chain 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """One event: topics are 32-byte words; `index` counts within the block."""

    address: bytes
    topics: tuple[bytes, ...]
    data: bytes
    block: int
    index: int
    transaction: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class EvmTransaction:
    """A signed transaction's fields; sender and outcome are in its receipt."""

    type: int
    nonce: int
    gas: int
    max_fee: int
    max_priority_fee: int
    value: int
    data: bytes
    y_parity: int
    r: int
    s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionReceipt:
    """What became of a transaction."""

    transaction: bytes
    block: int
    sender: bytes
    to: bytes | None
    created: bytes | None
    succeeded: bool
    gas_used: int
    logs: tuple[Log, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One mined block; `header` is the engine's own."""

    number: int
    hash: bytes
    parent: bytes
    timestamp: int
    gas_used: int
    transactions: tuple[bytes, ...]
    logs: tuple[Log, ...]
    header: Any = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractCall:
    """A read, or a rehearsal of a transaction."""

    sender: bytes
    to: bytes | None
    data: bytes
    value: int = 0
    gas: int = TRANSACTION_GAS


class _SameSecondVM(CancunVM):
    """Cancun, but several blocks may carry one second: else a burst of blocks would run ahead of the clock."""

    @classmethod
    def validate_header(cls, header: Any, parent_header: Any) -> None:
        if parent_header is not None and header.timestamp == parent_header.timestamp:
            parent_header = parent_header.copy(timestamp=parent_header.timestamp - 1)
        super().validate_header(header, parent_header)


class EmbeddedChain:
    """A whole EVM chain in this process.

    Args:
        chain_id: EIP-155 id.
        accounts: addresses (20 bytes) that hold ether from genesis, for tools that insist on it.
        clock: seconds since the epoch; block times follow it and never go back.
        journal: file that keeps genesis and transactions, replayed when it exists already; None keeps nothing.
    Raises:
        DamagedJournal: the journal is of another chain, or broken other than at its very end.
    """

    def __init__(
        self, *, chain_id: int, accounts: Sequence[bytes], clock: Callable[[], float], journal: Path | None = None
    ) -> None:
        self._clock = clock
        self._skew_s = 0
        self._journal: BinaryIO | None = None
        genesis = {"format": _JOURNAL_FORMAT, "chain_id": chain_id, "time": int(clock())}
        genesis["accounts"] = [account.hex() for account in accounts]
        lines: list[dict[str, Any]] = []
        if journal is not None and journal.exists() and journal.stat().st_size:
            kept, lines = _read_journal(journal)
            if kept.get("format") != _JOURNAL_FORMAT or kept.get("chain_id") != chain_id:
                raise DamagedJournal(
                    "a chain journal belongs to another chain", seen=kept.get("chain_id"), wanted=chain_id
                )
            genesis = kept
        self.chain_id = chain_id
        self._start(genesis)
        for line in lines:
            try:
                if "raw" in line:
                    self._apply(bytes.fromhex(line["raw"]), line["time"])
                else:
                    self._mine(line["time"])
            except (PotLabError, KeyError, TypeError, ValueError) as error:
                raise DamagedJournal(
                    f"block {self.height + 1} of a chain journal cannot be replayed: {error}"
                ) from error
        if journal is not None:
            _write_whole_lines(journal, genesis, lines)
            self._journal = journal.open("ab", buffering=0)

    def close(self) -> None:
        """Close the journal."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    # ------------------------------------------------------------ reads

    @property
    def height(self) -> int:
        """Number of the newest block."""
        return len(self._blocks) - 1

    def block(self, number: int) -> Block | None:
        """The block at a height, or None."""
        return self._blocks[number] if 0 <= number < len(self._blocks) else None

    def block_by_hash(self, block_hash: bytes) -> Block | None:
        """The block with this hash, or None."""
        return next((block for block in reversed(self._blocks) if block.hash == block_hash), None)

    def receipt(self, transaction: bytes) -> ExecutionReceipt | None:
        """What became of a transaction, or None while it is unknown."""
        return self._receipts.get(transaction)

    def transaction(self, transaction: bytes) -> EvmTransaction | None:
        """What a mined transaction asked for, or None while it is unknown."""
        raw = self._raw.get(transaction)
        if raw is None:
            return None
        signed = self._chain.get_vm().get_transaction_builder().decode(raw)
        return EvmTransaction(
            type=signed.type_id or 0,
            nonce=signed.nonce,
            gas=signed.gas,
            max_fee=signed.max_fee_per_gas,
            max_priority_fee=signed.max_priority_fee_per_gas,
            value=signed.value,
            data=bytes(signed.data),
            y_parity=signed.y_parity,
            r=signed.r,
            s=signed.s,
        )

    def logs(
        self, first: int, last: int, addresses: frozenset[bytes] | None, topics: Sequence[frozenset[bytes] | None]
    ) -> Iterable[Log]:
        """Events of blocks `first..last` in chain order that match a filter (None matches everything at its place)."""
        for block in self._blocks[max(first, 0) : last + 1]:
            for log in block.logs:
                if addresses is not None and log.address not in addresses:
                    continue
                if len(log.topics) >= len(topics) and all(
                    wanted is None or topic in wanted for topic, wanted in zip(log.topics, topics, strict=False)
                ):
                    yield log

    def nonce(self, account: bytes, at: Block) -> int:
        """Transactions sent by an account up to and in a block."""
        return int(self._state(at).get_nonce(account))

    def balance(self, account: bytes, at: Block) -> int:
        """Wei of an account."""
        return int(self._state(at).get_balance(account))

    def code(self, account: bytes, at: Block) -> bytes:
        """Code of a contract."""
        return bytes(self._state(at).get_code(account))

    def storage(self, account: bytes, slot: int, at: Block) -> int:
        """One storage slot."""
        return int(self._state(at).get_storage(account, slot))

    def call(self, call: ContractCall, at: Block) -> bytes:
        """Run a call on top of a block and forget its effects. At the newest block it runs at the time of the next one.

        Raises:
            EvmReverted: the contract refused.
            EvmRefused: the call itself is malformed.
        """
        computation = self._rehearse(call, at)
        return bytes(computation.output)

    def estimate_gas(self, call: ContractCall, at: Block) -> int:
        """Gas limit under which a call succeeds, with little to spare.

        Raises:
            EvmReverted, EvmRefused: it succeeds under no limit.
        """
        computation = self._rehearse(call, at)
        used = call.gas - int(computation.get_gas_remaining())
        # A call hands on at most 63/64 of what it has (EIP-150): a limit of exactly `used` may starve a callee.
        limit = used + used // 32 + 2_000
        while limit < call.gas:
            try:
                self._rehearse(replace(call, gas=limit), at)
            except EvmReverted:
                limit += limit // 4
            else:
                return limit
        return call.gas

    # ------------------------------------------------------------ changes

    def send(self, raw: bytes) -> bytes:
        """Mine a block with one signed transaction; returns its hash. A transaction that reverts is mined too.

        Raises:
            EvmRefused: nothing was mined.
        """
        time = self._now()
        transaction = self._apply(raw, time)
        self._record({"time": time, "raw": raw.hex()})
        return transaction

    def mine(self) -> None:
        """Mine an empty block."""
        time = self._now()
        self._mine(time)
        self._record({"time": time})

    def advance_clock(self, seconds: int) -> int:
        """Put the chain's clock forward for good; returns the whole lead over the host's clock in seconds."""
        if seconds < 0:
            raise EvmRefused("time cannot go back", seen=seconds, wanted="0 or more seconds")
        self._skew_s += seconds
        return self._skew_s

    def rewind(self, number: int) -> None:
        """Drop every block after `number`, as a reorganisation would, and take the clock back to it. A chain with a
        journal refuses.

        Raises:
            EvmRefused: no such block, or there is a journal.
        """
        if self._journal is not None or not 0 <= number <= self.height:
            raise EvmRefused("the chain cannot be rewound to this block", seen=number, wanted=f"0 .. {self.height}")
        for block in self._blocks[number + 1 :]:
            for transaction in block.transactions:
                del self._receipts[transaction], self._raw[transaction]
        del self._blocks[number + 1 :]
        header = self._blocks[-1].header
        self._skew_s = max(0, header.timestamp - int(self._clock()))
        chaindb = self._chain.chaindb
        chaindb._set_as_canonical_chain_head(chaindb.db, header, header.parent_hash)
        self._chain.header = self._chain.create_header_from_parent(header)

    # ------------------------------------------------------------ inside

    def _start(self, genesis: dict[str, Any]) -> None:
        chain_class: Any = type(
            "_Chain", (MiningChain,), {"chain_id": genesis["chain_id"], "vm_configuration": ((0, _SameSecondVM),)}
        )
        parameters = {
            "coinbase": _ZERO,
            "difficulty": 0,
            "extra_data": b"",
            "gas_limit": BLOCK_GAS,
            "mix_hash": bytes(32),
            "nonce": bytes(8),
            "receipt_root": BLANK_ROOT_HASH,
            "transaction_root": BLANK_ROOT_HASH,
            "timestamp": genesis["time"],
            "base_fee_per_gas": 0,
        }
        account = {"balance": GENESIS_WEI, "nonce": 0, "code": b"", "storage": {}}
        state = {bytes.fromhex(address): account for address in genesis["accounts"]}
        self._chain = chain_class.from_genesis(AtomicDB(), parameters, state)
        header = self._chain.get_canonical_block_header_by_number(0)
        self._blocks = [_block(header, (), ())]
        self._receipts: dict[bytes, ExecutionReceipt] = {}
        self._raw: dict[bytes, bytes] = {}

    def _now(self) -> int:
        return max(int(self._clock()) + self._skew_s, self._blocks[-1].timestamp)

    def _next_header(self, parent: Any, time: int) -> Any:
        return self._chain.create_header_from_parent(parent, gas_limit=parent.gas_limit).copy(timestamp=time)

    def _state(self, at: Block) -> Any:
        return self._chain.get_vm(self._next_header(at.header, at.timestamp)).state

    def _rehearse(self, call: ContractCall, at: Block) -> Any:
        time = self._now() if at is self._blocks[-1] else at.timestamp
        if len(call.data) > MAX_CODE_CALL_BYTES:
            raise EvmRefused(
                "a call's data is too large", seen=len(call.data), wanted=f"at most {MAX_CODE_CALL_BYTES} bytes"
            )
        if not 0 < call.gas <= TRANSACTION_GAS:
            raise EvmRefused("a call's gas is out of range", seen=call.gas, wanted=f"1 .. {TRANSACTION_GAS}")
        vm = self._chain.get_vm(self._next_header(at.header, time))
        unsigned = vm.get_transaction_builder().create_unsigned_transaction(
            nonce=vm.state.get_nonce(call.sender),
            gas_price=0,
            gas=call.gas,
            to=call.to or b"",
            value=call.value,
            data=call.data,
        )
        try:
            computation = vm.state.costless_execute_transaction(SpoofTransaction(unsigned, from_=call.sender))
        except Exception as error:
            raise EvmRefused(f"the call cannot run: {error}") from error
        if computation.is_error:
            raise EvmReverted(bytes(computation.output), _reason(computation.error))
        return computation

    def _apply(self, raw: bytes, time: int) -> bytes:
        if len(raw) > MAX_TRANSACTION_BYTES:
            raise EvmRefused(
                "a transaction is too large", seen=len(raw), wanted=f"at most {MAX_TRANSACTION_BYTES} bytes"
            )
        parent = self._blocks[-1]
        chain = self._chain
        header = self._next_header(parent.header, time)
        try:
            transaction = chain.get_vm(header).get_transaction_builder().decode(raw)
            sender = transaction.sender
        except Exception as error:
            raise EvmRefused("the bytes are not a signed transaction", seen=raw) from error
        if transaction.gas > TRANSACTION_GAS:
            raise EvmRefused(
                "a transaction's gas limit is too high", seen=transaction.gas, wanted=f"at most {TRANSACTION_GAS}"
            )
        if transaction.chain_id != self.chain_id:  # the engine itself accepts typed transactions of any chain
            raise EvmRefused("the transaction is for another chain", seen=transaction.chain_id, wanted=self.chain_id)
        expected = self.nonce(sender, parent)
        if transaction.nonce != expected:
            side = "low" if transaction.nonce < expected else "high"
            raise EvmRefused(f"nonce too {side}", seen=transaction.nonce, wanted=expected)
        chain.header = header
        try:
            _, receipt, computation = chain.apply_transaction(transaction)
            mined = chain.mine_block()
        except Exception as error:
            chain.header = chain.create_header_from_parent(parent.header)
            raise EvmRefused(f"the chain does not accept the transaction: {error}") from error
        name = transaction.hash
        logs = tuple(
            Log(
                address=entry.address,
                topics=tuple(word.to_bytes(32, "big") for word in entry.topics),
                data=entry.data,
                block=mined.number,
                index=i,
                transaction=name,
            )
            for i, entry in enumerate(receipt.logs)
        )
        created = computation.msg.storage_address if not transaction.to else None
        self._receipts[name] = ExecutionReceipt(
            transaction=name,
            block=mined.number,
            sender=sender,
            to=transaction.to or None,
            created=created if computation.is_success else None,
            succeeded=computation.is_success,
            gas_used=mined.header.gas_used,
            logs=logs,
        )
        self._raw[name] = raw
        self._append(mined, (name,), logs)
        return bytes(name)

    def _mine(self, time: int) -> None:
        self._chain.header = self._next_header(self._blocks[-1].header, time)
        self._append(self._chain.mine_block(), (), ())

    def _append(self, mined: Any, transactions: tuple[bytes, ...], logs: tuple[Log, ...]) -> None:
        self._blocks.append(_block(mined.header, transactions, logs))

    def _record(self, line: dict[str, Any]) -> None:
        if self._journal is not None:
            self._journal.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
            os.fsync(self._journal.fileno())  # a block that somebody was told of outlives a power cut


def _block(header: Any, transactions: tuple[bytes, ...], logs: tuple[Log, ...]) -> Block:
    return Block(
        number=header.block_number,
        hash=header.hash,
        parent=header.parent_hash,
        timestamp=header.timestamp,
        gas_used=header.gas_used,
        transactions=transactions,
        logs=logs,
        header=header,
    )


def _reason(error: VMError | None) -> str:
    """The engine's own words for failures that carry no contract data (out of gas, invalid opcode)."""
    return "" if error is None or (error.args and isinstance(error.args[0], bytes)) else str(error)


def _read_journal(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Genesis and the whole lines of a journal; a torn last line (the process was killed while writing) is dropped."""
    text = path.read_bytes()
    whole, _, torn = text.rpartition(b"\n")
    if torn:
        _log.warning("dropping a torn last line of %s (%d bytes)", path, len(torn))
    try:
        lines = [json.loads(line) for line in whole.split(b"\n")]
    except ValueError as error:
        raise DamagedJournal(f"the chain journal {path.name} is not readable: {error}") from error
    if not all(isinstance(line, dict) for line in lines):
        raise DamagedJournal(f"the chain journal {path.name} does not hold what it should")
    return lines[0], lines[1:]


def _write_whole_lines(path: Path, genesis: dict[str, Any], lines: list[dict[str, Any]]) -> None:
    """Leave the journal with whole lines only, so that the next append starts a line of its own."""
    data = b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in [genesis, *lines])
    if path.exists() and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_durably(path, data)
