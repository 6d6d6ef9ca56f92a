"""Chain events as the ledger counts them: final ones only, in one order, each once.

Every aggregator runs a watcher and attests what it yields; f+1 equal attestations credit the ledger (chain.md, "Ledger
and chain"). So two watchers on two honest nodes must yield the same events in the same order with the same numbers. An
event is yielded when its block has `confirmations` blocks on top: a shorter reorganisation is never seen, a longer one
stops the watcher with a typed error, because an attestation cannot be undone.

Where several nodes are named, all must agree on the last block that was read. A watcher keeps nothing on disk; its
`position` is the caller's to save.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from pot_lab.chain.contract import ContractEvent, Contracts, interface
from pot_lab.chain.errors import ChainRefused, DeepReorganisation
from pot_lab.chain.logs import LogReader
from pot_lab.chain.rpc import JsonRpc, hex_quantity, read_data, read_quantity
from pot_lab.crypto.canonical import Record, Wide
from pot_lab.crypto.identity import Address
from pot_lab.errors import Malformed
from pot_lab.protocol.records import ChainEvent

STANDS_STILL_S: Final = 60.0
"""How long a node may have no new final block before the other ones are asked whether they have."""
_NO_ROLE: Final = -1
_MOST: Final = (1 << 64) - 1
"""More than the supply, and than any uint64: no event of our contracts holds a larger integer."""


class Position(Record, frozen=True):
    """How far a watcher has come: the next block to read, the hash of the one before it (32 bytes, or empty at the very
    start), and how many events it has yielded since its first block.
    """

    next_block: int
    last_hash: bytes
    events: int


class ChainWatcher:
    """Reads one network's contracts at one node.

    Args:
        rpc_url: the node.
        contracts: whose events.
        confirmations: blocks that must stand on top of an event's block; 0 only for a chain that cannot reorganise.
        from_block: the block of the first contract's creation, or an earlier one; the same for every aggregator.
        position: where an earlier watcher stopped; overrides `from_block`.
        timeout_s: how long one answer of the node may take.
    """

    def __init__(
        self,
        rpc_url: str,
        contracts: Contracts,
        confirmations: int,
        from_block: int = 0,
        *,
        position: Position | None = None,
        timeout_s: float = 10.0,
    ) -> None:
        if confirmations < 0 or from_block < 0:
            raise Malformed("confirmations and first block are not negative", seen=(confirmations, from_block))
        self._rpc = JsonRpc(rpc_url, timeout_s=timeout_s)
        self._confirmations = confirmations
        self._position = position or Position(from_block, b"", 0)
        self._readers = _readers(contracts)
        addresses = (contracts.registry, contracts.escrow, contracts.settlement)
        self._logs = LogReader(self._rpc, addresses, [topic for _, topic in self._readers])
        self._chain_id: int | None = contracts.chain_id
        self._look_elsewhere_at_s = time.monotonic() + STANDS_STILL_S

    @property
    def position(self) -> Position:
        """Where to go on after a restart: everything before it has been yielded."""
        return self._position

    def close(self) -> None:
        """Close the connection to the node."""
        self._rpc.close()

    def poll(self) -> list[ChainEvent]:
        """Events that became final since the last call, in (block, log index) order; of as many blocks as the node
        gives at once, and at most `logs.MAX_BLOCKS`.

        A failed call changes nothing: the next one reads the same blocks again.

        Raises:
            ChainUnreachable: the node is down or slow.
            ChainRefused: the node is on another chain, or its answer is malformed.
            DeepReorganisation: a block that was yielded from has left the chain.
        """
        if self._chain_id is not None:
            seen = read_quantity(self._rpc.call("eth_chainId"))
            if seen != self._chain_id:
                raise ChainRefused("the node is on another chain", seen=seen, wanted=self._chain_id)
            self._chain_id = None
        first = self._position.next_block
        final = read_quantity(self._rpc.call("eth_blockNumber")) - self._confirmations
        if final < first:
            return self._nothing_new()
        if self._position.last_hash:
            seen_hash = self._hash(first - 1)
            if seen_hash is None:
                return (
                    self._nothing_new()
                )  # behind a load balancer the next node may lag: it cannot say what became of the block
            if seen_hash != self._position.last_hash:
                raise DeepReorganisation(
                    f"block {first - 1} is not the one that was read before",
                    seen=seen_hash,
                    wanted=self._position.last_hash,
                )
        logs, last = self._logs.read(first, final)
        last_hash = self._hash(last)
        if last_hash is None:
            return self._nothing_new()  # behind a load balancer the next node may lag: read again later
        self._rpc.confirm(last_hash, _hash_of, "eth_getBlockByNumber", hex_quantity(last), False)
        events = [self._read(log, first, last) for log in logs]
        events.sort(key=lambda event: (event.block, event.log_index))
        places = {(event.block, event.log_index) for event in events}
        if len(places) != len(events):
            raise ChainRefused("the chain's node answered one log twice")
        self._position = Position(last + 1, last_hash, self._position.events + len(events))
        self._look_elsewhere_at_s = time.monotonic() + STANDS_STILL_S
        return events

    def _nothing_new(self) -> list[ChainEvent]:
        """No events; where this node has had none for long and another one has, the next one is asked from now on."""
        if time.monotonic() >= self._look_elsewhere_at_s:
            self._look_elsewhere_at_s = time.monotonic() + STANDS_STILL_S
            wanted = self._position.next_block + self._confirmations
            self._rpc.turn_if(lambda answer: read_quantity(answer) >= wanted, "eth_blockNumber")
        return []

    def _hash(self, number: int) -> bytes | None:
        return _hash_of(self._rpc.call("eth_getBlockByNumber", hex_quantity(number), False))

    def _read(self, log: Any, first: int, last: int) -> ChainEvent:
        try:
            address, block = read_data(log["address"], 20), read_quantity(log["blockNumber"])
            index, data = read_quantity(log["logIndex"]), read_data(log["data"])
            topics = [read_data(topic, 32) for topic in log["topics"]]
            event, build = self._readers[address, topics[0]]
            values = event.read(topics, data)
        except (KeyError, TypeError, IndexError, Malformed) as error:
            raise ChainRefused(f"the chain's node answered with a log that was not requested: {error!r}") from error
        if not first <= block <= last or log.get("removed"):
            raise ChainRefused(
                "the chain's node answered a log of another block", seen=block, wanted=f"{first} .. {last}"
            )
        kind, account, role, amount, subject, detail = build(values)
        largest = max(index, amount, *detail)
        if largest > _MOST:
            raise ChainRefused("the chain's node answered an impossible number", seen=largest, wanted=f"<= {_MOST}")
        return ChainEvent(
            kind=kind,
            block=block,
            log_index=index,
            account=Address(account),
            role=role,
            amount_grains=Wide(amount),
            subject=subject,
            detail=detail,
        )


def _hash_of(block: Any) -> bytes | None:
    return read_data(block.get("hash"), 32) if isinstance(block, dict) else None


_Built = tuple[str, bytes, int, int, bytes, tuple[int, ...]]
_Builder = Callable[[Mapping[str, Any]], _Built]

_REGISTRY: dict[str, _Builder] = {
    "Staked": lambda v: ("staked", v["node"], v["role"], v["bonded"], b"", (v["amount"],)),
    "UnstakeRequested": lambda v: (
        "unstake_requested",
        v["node"],
        v["role"],
        v["amount"],
        b"",
        (v["bonded"], v["unlockAt"]),
    ),
    "Withdrawn": lambda v: ("withdrawn", v["node"], v["role"], v["amount"], b"", ()),
    "Slashed": lambda v: ("slashed", v["node"], v["role"], v["amount"], b"", (v["bonded"],)),
    "SigningKeySet": lambda v: ("signing_key_set", v["node"], _NO_ROLE, 0, v["key"], ()),
}
_ESCROW: dict[str, _Builder] = {
    "OrderPlaced": lambda v: (
        "order_placed",
        v["client"],
        _NO_ROLE,
        v["reward"],
        v["id"],
        (v["fee"], v["bond"], v["sealBy"], v["nonce"]),
    ),
    "OrderRefunded": lambda v: ("order_refunded", v["client"], _NO_ROLE, v["amount"], v["id"], ()),
}
_SETTLEMENT: dict[str, _Builder] = {
    "Settled": lambda v: (
        "settled",
        bytes(20),
        _NO_ROLE,
        v["cumulativeTotal"],
        v["root"],
        (v["epoch"], v["round"], v["signerSetId"]),
    ),
    "SignersRotated": lambda v: (
        "signers_rotated",
        bytes(20),
        _NO_ROLE,
        0,
        b"".join(v["keys"]),
        (v["setId"], v["threshold"]),
    ),
    "Funded": lambda v: ("funded", v["from"], _NO_ROLE, v["amount"], b"", ()),
}


def _readers(contracts: Contracts) -> dict[tuple[bytes, bytes], tuple[ContractEvent, _Builder]]:
    """How to read a log, by (contract, first topic)."""
    found = {}
    for name, address, builders in (
        ("StakeRegistry", contracts.registry, _REGISTRY),
        ("OrderEscrow", contracts.escrow, _ESCROW),
        ("RewardSettlement", contracts.settlement, _SETTLEMENT),
    ):
        for event_name, build in builders.items():
            event = interface(name).events[event_name]
            found[address, event.topic] = (event, build)
    return found
