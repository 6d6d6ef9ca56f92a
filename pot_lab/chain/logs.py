"""Logs of some contracts from one node, however narrow that node's limits are.

Nodes limit what one `eth_getLogs` may ask for: a number of blocks, of results, of bytes, or of seconds. Nobody
announces the limits, so a span of blocks is halved whenever the node refuses it, and grows again slowly. A single block
that is refused is read from the receipts of its transactions, each of which is small: no block can be filled so that it
cannot be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pot_lab.chain.errors import ChainRefused, ChainUnreachable
from pot_lab.chain.rpc import JsonRpc, hex_data, hex_quantity, read_data
from pot_lab.crypto.identity import format_address

MAX_BLOCKS: Final = 2_000
"""Blocks in one request; common limit of hosted nodes."""
MAX_EVENTS: Final = 10_000
"""Logs in one answer; common limit of hosted nodes. One block alone may have more."""
_GROWTH: Final = 4  # a span that was granted grows by a quarter: about one request of four finds the limit again


class LogReader:
    """Reads the logs of some contracts at one node, in spans that the node grants.

    Args:
        rpc: the node.
        addresses: the contracts (20 bytes each).
        topics: the first topics wanted (32 bytes each).
    """

    def __init__(self, rpc: JsonRpc, addresses: Sequence[bytes], topics: Sequence[bytes]) -> None:
        self._rpc = rpc
        self._addresses = [format_address(each) for each in addresses]
        self._topics = [hex_data(each) for each in topics]
        self._span = MAX_BLOCKS

    def read(self, first: int, last: int) -> tuple[list[Any], int]:
        """Logs as the node gave them, of the blocks from `first` on, and the last block that was read: `last`, or an
        earlier one where the node does not give so much at once.

        Raises:
            ChainUnreachable: the node is down, slow or busy; the next call asks for half as many blocks.
            ChainRefused: the node gives not even one block, neither its logs nor its receipts.
        """
        while True:
            self._span = max(1, min(self._span, MAX_BLOCKS))
            end = min(last, first + self._span - 1)
            try:
                logs = self._ask(first, end)
            except ChainUnreachable:
                self._span = (end - first + 1) // 2
                raise
            except ChainRefused:
                if end == first:
                    return self._from_receipts(first), first
                self._span = (end - first + 1) // 2
                continue
            if end - first + 1 == self._span:
                self._span += self._span // _GROWTH + 1
            return logs, end

    def _ask(self, first: int, last: int) -> list[Any]:
        span = {"fromBlock": hex_quantity(first), "toBlock": hex_quantity(last)}
        logs = self._rpc.call("eth_getLogs", {"address": self._addresses, "topics": [self._topics]} | span)
        if not isinstance(logs, list) or (len(logs) > MAX_EVENTS and first != last):
            raise ChainRefused(
                "the chain's node did not answer with a list of logs, or with too long a one",
                wanted=f"at most {MAX_EVENTS}",
            )
        return logs

    def _from_receipts(self, number: int) -> list[Any]:
        block = self._rpc.call("eth_getBlockByNumber", hex_quantity(number), False)
        if not isinstance(block, dict) or not isinstance(block.get("transactions"), list):
            raise ChainRefused("the chain's node gives neither the logs nor the transactions of a block", seen=number)
        found: list[Any] = []
        for name in block["transactions"]:
            receipt = self._rpc.call("eth_getTransactionReceipt", hex_data(read_data(name, 32)))
            logs = receipt.get("logs") if isinstance(receipt, dict) else None
            if not isinstance(logs, list) or receipt.get("blockHash") != block.get("hash"):
                raise ChainRefused("the chain's node gives no receipt of a block's transaction", seen=name)
            found += [log for log in logs if self._is_wanted(log)]
        return found

    def _is_wanted(self, log: Any) -> bool:
        try:
            address, topic = str(log["address"]).lower(), str(log["topics"][0]).lower()
        except (KeyError, TypeError, IndexError):
            return False
        return topic in self._topics and any(address == each.lower() for each in self._addresses)
