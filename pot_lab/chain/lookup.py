"""Find a settlement's transaction on the chain: for summaries and block explorers, not for decisions."""

from __future__ import annotations

from typing import Final

from pot_lab.chain.contract import Contracts, interface
from pot_lab.chain.errors import ChainRefused
from pot_lab.chain.logs import MAX_BLOCKS
from pot_lab.chain.rpc import JsonRpc, hex_data, hex_quantity, read_data, read_quantity
from pot_lab.crypto.identity import format_address

MAX_REQUESTS: Final = 200
"""Requests for logs in one search, so that an old epoch on a narrow node does not take minutes."""


def find_settlement(rpc_url: str, contracts: Contracts, epoch: int) -> tuple[bytes, int] | None:
    """The transaction (32-byte hash) that settled an epoch, and the gas it used; None when the chain has none, or none
    among its latest blocks, as many as `MAX_REQUESTS` requests reach.

    Raises:
        ChainUnreachable, ChainRefused: the node does not answer, or its answer is malformed.
    """
    rpc = JsonRpc(rpc_url)
    wanted = {
        "address": format_address(contracts.settlement),
        "topics": [
            hex_data(interface("RewardSettlement").events["Settled"].topic),
            hex_data(epoch.to_bytes(32, "big")),
        ],
    }
    try:
        last, span = read_quantity(rpc.call("eth_blockNumber")), MAX_BLOCKS
        for _ in range(MAX_REQUESTS):
            first = max(contracts.first_block, last - span + 1)
            if last < first:
                return None
            try:
                logs = rpc.call(
                    "eth_getLogs", wanted | {"fromBlock": hex_quantity(first), "toBlock": hex_quantity(last)}
                )
            except ChainRefused:
                if first == last:
                    raise
                span = (last - first + 1) // 2
                continue
            if logs:
                return _settled_by(rpc, logs)
            last = first - 1
        return None
    finally:
        rpc.close()


def _settled_by(rpc: JsonRpc, logs: object) -> tuple[bytes, int]:
    try:
        name = read_data(logs[-1]["transactionHash"], 32)  # type: ignore[index]
        return name, read_quantity(rpc.call("eth_getTransactionReceipt", hex_data(name))["gasUsed"])
    except (TypeError, KeyError, IndexError) as error:
        raise ChainRefused("the chain's node answered out of shape", seen=type(error).__name__) from error
