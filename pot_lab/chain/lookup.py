"""Find a settlement's transaction, or an order's terms, on the chain, by one event: for summaries, block explorers, and
refunds after a network is gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pot_lab.chain.contract import Contracts, interface
from pot_lab.chain.errors import ChainRefused
from pot_lab.chain.logs import MAX_BLOCKS
from pot_lab.chain.rpc import JsonRpc, hex_data, hex_quantity, read_data, read_quantity
from pot_lab.crypto.identity import format_address
from pot_lab.errors import Malformed

MAX_REQUESTS: Final = 200
"""Requests for logs in one search, so that an old event on a narrow node does not take minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EscrowTerms:
    """What the escrow contract asks for to give an order's money back."""

    client: bytes
    nonce: int
    seal_by_s: int
    spec_hash: bytes


def find_settlement(rpc_url: str, contracts: Contracts, epoch: int) -> tuple[bytes, int] | None:
    """The transaction (32-byte hash) that settled an epoch, and the gas it used; None when the chain has none, or none
    among its latest blocks, as many as `MAX_REQUESTS` requests reach.

    Raises:
        ChainUnreachable, ChainRefused: the node does not answer, or its answer is malformed.
    """
    rpc = JsonRpc(rpc_url)
    topic = interface("RewardSettlement").events["Settled"].topic
    try:
        log = _find(rpc, contracts, contracts.settlement, [topic, epoch.to_bytes(32, "big")])
        return None if log is None else _settled_by(rpc, log)
    finally:
        rpc.close()


def find_order(rpc_url: str, contracts: Contracts, order: bytes) -> EscrowTerms | None:
    """The terms of an order (its 32-byte id) as its escrow was paid; None as for `find_settlement`.

    Raises:
        ChainUnreachable, ChainRefused: the node does not answer, or its answer is malformed.
    """
    rpc = JsonRpc(rpc_url)
    event = interface("OrderEscrow").events["OrderPlaced"]
    try:
        log = _find(rpc, contracts, contracts.escrow, [event.topic, order])
        if log is None:
            return None
        told = event.read([read_data(topic, 32) for topic in log["topics"]], read_data(log["data"]))
    except (TypeError, KeyError, Malformed) as error:
        raise ChainRefused("the chain's node answered out of shape", seen=type(error).__name__) from error
    finally:
        rpc.close()
    return EscrowTerms(client=told["client"], nonce=told["nonce"], seal_by_s=told["sealBy"], spec_hash=told["specHash"])


def _find(rpc: JsonRpc, contracts: Contracts, address: bytes, topics: list[bytes]) -> Any:
    """The newest log of a contract with these topics, searched backwards in spans that the node grants."""
    wanted = {"address": format_address(address), "topics": [hex_data(topic) for topic in topics]}
    last, span = read_quantity(rpc.call("eth_blockNumber")), MAX_BLOCKS
    for _ in range(MAX_REQUESTS):
        first = max(contracts.first_block, last - span + 1)
        if last < first:
            return None
        try:
            logs = rpc.call("eth_getLogs", wanted | {"fromBlock": hex_quantity(first), "toBlock": hex_quantity(last)})
        except ChainRefused:
            if first == last:
                raise
            span = (last - first + 1) // 2
            continue
        if logs:
            try:
                return logs[-1]
            except (TypeError, KeyError) as error:
                raise ChainRefused("the chain's node answered out of shape", seen=type(error).__name__) from error
        last = first - 1
    return None


def _settled_by(rpc: JsonRpc, log: Any) -> tuple[bytes, int]:
    try:
        name = read_data(log["transactionHash"], 32)
        return name, read_quantity(rpc.call("eth_getTransactionReceipt", hex_data(name))["gasUsed"])
    except (TypeError, KeyError, IndexError) as error:
        raise ChainRefused("the chain's node answered out of shape", seen=type(error).__name__) from error
