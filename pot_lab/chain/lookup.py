"""Find a settlement's transaction on the chain: for summaries and block explorers, not for decisions."""

from __future__ import annotations

from pot_lab.chain.contract import Contracts, interface
from pot_lab.chain.rpc import JsonRpc, hex_data, read_data, read_quantity
from pot_lab.crypto.identity import format_address


def find_settlement(rpc_url: str, contracts: Contracts, epoch: int) -> tuple[bytes, int] | None:
    """The transaction (32-byte hash) that settled an epoch, and the gas it used; None when the chain has none.

    Raises:
        ChainUnreachable, ChainRefused: the node does not answer, or its answer is malformed.
    """
    rpc = JsonRpc(rpc_url)
    try:
        wanted = {
            "address": format_address(contracts.settlement),
            "fromBlock": hex(contracts.first_block),
            "toBlock": "latest",
            "topics": [
                hex_data(interface("RewardSettlement").events["Settled"].topic),
                hex_data(epoch.to_bytes(32, "big")),
            ],
        }
        logs = rpc.call("eth_getLogs", wanted)
        if not logs:
            return None
        name = read_data(logs[-1]["transactionHash"], 32)
        receipt = rpc.call("eth_getTransactionReceipt", hex_data(name))
        return name, read_quantity(receipt["gasUsed"])
    finally:
        rpc.close()
