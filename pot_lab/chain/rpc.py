"""JSON-RPC to a chain, through one node or several.

The way to a node is web3.py's (`nodes.py`); here is what a node's answer means. Nodes are not trusted: answers are
checked in shape, and public nodes differ in how they say "later", each of which is `ChainBusy` here. The caller decides
on retries. Where several nodes are named, one that does not answer is followed by the next.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from pot_lab.chain.contract import read_revert
from pot_lab.chain.errors import ChainBusy, ChainRefused, ChainUnreachable
from pot_lab.chain.nodes import MAX_ANSWER_BYTES, ChainNode, open_node
from pot_lab.errors import Malformed

__all__ = ["DEFAULT_TIMEOUT_S", "MAX_ANSWER_BYTES", "JsonRpc", "hex_data", "hex_quantity", "read_data", "read_quantity"]

_log = logging.getLogger(__name__)

DEFAULT_TIMEOUT_S: Final = 10.0
MAX_NODES: Final = 8
LEFT_ALONE_S: Final = 60.0
"""How long a node that did not answer is not asked to confirm what another one said."""
_BETWEEN: Final = re.compile(r"[\s,]+(?=[a-z]+://)")
_REVERT_CODES: Final = (3, -32000, -32015)
_BUSY_CODES: Final = frozenset((429, -32005, -32007, -32029, -32090, -32097))
"""Codes with which public nodes refuse for now; some mean a span of blocks as well, which `_TOO_WIDE` tells apart."""
_BUSY: Final = re.compile(
    r"rate.?limit|rate (?:is )?exceeded|limit (?:was |is )?reached|too many requests|requests? (?:per|limit)|per second"
    r"|throttl|compute units|capacity|overload|too busy|is busy|try again|retry|timed? ?out|header not found"
    r"|temporar|unavailable at the moment|quota",
    re.I,
)
_TOO_WIDE: Final = re.compile(
    r"\b(?:block )?range\b|\bblocks\b|\bresults?\b|\blogs\b|response (?:size|is too)|returned more than", re.I
)


class JsonRpc:
    """A chain's node, or several of one chain. Safe to share between threads: calls go one after the other.

    Args:
        url: http://, https://, ws://, wss:// or ipc:// address of the node; several with commas or spaces between
            them. The first that answers is asked until it does not.
        timeout_s: how long one answer may take.
    Raises:
        Malformed: one is no such address, or there are too many.
    """

    def __init__(self, url: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        urls = _BETWEEN.split(url.strip())
        if len(urls) > MAX_NODES:
            raise Malformed("too many addresses of a chain's nodes", seen=len(urls), wanted=f"at most {MAX_NODES}")
        self._nodes: list[ChainNode] = [open_node(each, timeout_s) for each in urls]
        self._lock = threading.Lock()
        self._chain: object = None
        self._known: list[ChainNode] = []
        self._silent_until_s: dict[ChainNode, float] = {}

    @property
    def name(self) -> str:
        """The node that is asked now, for messages."""
        return self._nodes[0].name

    def call(self, method: str, *parameters: Any) -> Any:
        """Call one method and return its result.

        Raises:
            ChainUnreachable: no node answers, or not in time.
            ChainBusy: the last node that was asked refuses for now, e.g. by a rate limit.
            ChainReverted: a contract refused, with its named error.
            ChainRefused: the node refused, or its answer is malformed.
        """
        with self._lock:
            for _ in self._nodes[1:]:
                try:
                    return self._ask(self._nodes[0], method, parameters)
                except ChainUnreachable as error:
                    self._nodes.append(self._nodes.pop(0))
                    _log.warning("event=next_chain_node reason=%r next=%s", str(error), self.name)
            return self._ask(self._nodes[0], method, parameters)

    def confirm(self, wanted: Any, read: Callable[[Any], Any], method: str, *parameters: Any) -> None:
        """Ask the other nodes too; one that has no answer, or none yet, says nothing against it. A node that does not
        answer is left alone for a minute, so that a dead one does not hold up every call.

        Args:
            wanted: what the first node's answer came to.
            read: what an answer comes to; None for an answer that says nothing.
        Raises:
            ChainRefused: a node answers otherwise.
        """
        with self._lock:
            for node in self._nodes[1:]:
                other = self._ask_aside(node, read, method, parameters)
                if other is not None and other != wanted:
                    raise ChainRefused(
                        f"two nodes of the chain disagree on {method}",
                        seen=f"{self.name} and {node.name}",
                        wanted="the same from both",
                    )

    def turn_if(self, better: Callable[[Any], bool], method: str, *parameters: Any) -> None:
        """Ask the next node from now on if another one has a better answer: this one may stand still.

        Args:
            better: whether an answer is better than this node's.
        """
        with self._lock:
            if any(self._ask_aside(node, better, method, parameters) for node in self._nodes[1:]):
                _log.warning("event=chain_node_stands_still node=%s", self.name)
                self._nodes.append(self._nodes.pop(0))

    def _ask_aside(self, node: ChainNode, read: Callable[[Any], Any], method: str, parameters: tuple[Any, ...]) -> Any:
        """What another node's answer comes to; None where it has none."""
        if time.monotonic() < self._silent_until_s.get(node, 0.0):
            return None
        try:
            return read(self._ask(node, method, parameters))
        except (ChainUnreachable, ChainRefused):
            self._silent_until_s[node] = time.monotonic() + LEFT_ALONE_S
            return None

    def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        with self._lock:
            for node in self._nodes:
                node.close()

    def _ask(self, node: ChainNode, method: str, parameters: tuple[Any, ...]) -> Any:
        if len(self._nodes) > 1:
            self._check_chain(node)
        return _result(method, node.exchange(method, parameters))

    def _check_chain(self, node: ChainNode) -> None:
        """Nodes that stand in for each other are of one chain; asked once of each."""
        if node in self._known:
            return
        chain = _result("eth_chainId", node.exchange("eth_chainId", ()))
        if self._known and chain != self._chain:
            raise ChainRefused(
                f"the chain's node {node.name} is on another chain than the others", seen=chain, wanted=self._chain
            )
        self._chain = chain
        self._known.append(node)


def _result(method: str, answer: object) -> Any:
    if not isinstance(answer, dict):
        raise ChainRefused("the chain's node answered out of shape", seen=type(answer).__name__)
    error = answer.get("error")
    if error is not None:
        raise _refusal(method, error)
    if "result" not in answer:
        raise ChainRefused("the chain's node answered out of shape", seen=", ".join(map(str, answer))[:80])
    return answer["result"]


def hex_quantity(value: int) -> str:
    """JSON-RPC's form of an integer."""
    return hex(value)


def hex_data(data: bytes) -> str:
    """JSON-RPC's form of bytes."""
    return "0x" + data.hex()


def read_quantity(text: Any) -> int:
    """An integer from a node.

    Raises:
        ChainRefused: it is not a hexadecimal quantity.
    """
    try:
        if text[:2] == "0x" and len(text) <= 66:
            return int(text, 16)
    except (TypeError, ValueError):
        pass
    raise ChainRefused("the chain's node gave no quantity", seen=text)


def read_data(text: Any, size: int | None = None) -> bytes:
    """Bytes from a node; with `size`, exactly so many.

    Raises:
        ChainRefused: they are not hexadecimal data, or of another length.
    """
    try:
        data = bytes.fromhex(text[2:]) if text[:2] == "0x" else None
    except (TypeError, ValueError):
        data = None
    if data is None or (size is not None and len(data) != size):
        raise ChainRefused("the chain's node gave no data", seen=text, wanted=f"{size} bytes" if size else None)
    return data


def _refusal(method: str, error: Any) -> Exception:
    """One decoder for every kind of node: revert data is `data`, or `data.data`, perhaps behind the word "Reverted"."""
    if not isinstance(error, dict):
        return ChainRefused(f"the chain's node refused {method}", seen=error)
    message, data = str(error.get("message", "")), error.get("data")
    if isinstance(data, dict):
        data = data.get("data") or data.get("result")
    reverted = error.get("code") == 3 or "revert" in message.lower()
    if isinstance(data, str) and reverted:
        text = data.removeprefix("Reverted ")
        if text.startswith("0x"):
            try:
                return read_revert(bytes.fromhex(text[2:]))
            except ValueError:
                pass
    if reverted and error.get("code") in _REVERT_CODES:
        return read_revert(b"")
    code = error.get("code")
    wide = method == "eth_getLogs" and _TOO_WIDE.search(message) and not _BUSY.search(message)
    if not reverted and not wide and (code in _BUSY_CODES or _BUSY.search(message)):
        return ChainBusy(f"the chain's node refuses {method} for now: {message}", seen=code)
    return ChainRefused(f"the chain's node refused {method}: {message}", seen=code)
