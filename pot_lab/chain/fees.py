"""What a transaction offers for its gas, and what one offers that replaces it.

From the fee history of the last blocks where a node has one: the base fee of the next block, and the tip that half of
the gas was mined with. A cap bounds what a transaction may cost, whatever the node says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median_low
from typing import Any, Final

from pot_lab.chain.errors import ChainRefused, FeeAboveCap
from pot_lab.chain.rpc import read_quantity

DEFAULT_TIP_WEI: Final = 10**9
"""Wei per gas offered to a node that knows neither a priority fee nor a gas price."""
DEFAULT_CAP_WEI: Final = 500 * 10**9
"""Wei per gas that a transaction costs at most, unless it is told otherwise."""
_BLOCKS: Final = 10
_MIDDLE: Final = 50  # per cent of a block's gas

Ask = Callable[..., Any]
"""Calls one method of the node, with its parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fees:
    """Wei per gas: the tip for whoever mines it, and the most for base fee and tip together."""

    tip: int
    most: int

    def replaced_by(self, now: Fees, cap_wei: int) -> Fees | None:
        """What a transaction offers that replaces one with these fees: an eighth more of both, since nodes ask for a
        tenth or an eighth, and at least what is usual now. None where the cap forbids it, or gas is free.
        """
        if not self.most and not now.most:
            return None
        tip, most = self.tip + self.tip // 8 + 1, self.most + self.most // 8 + 1
        if most > cap_wei:
            return None
        most = min(max(most, now.most), cap_wei)
        return Fees(tip=min(max(tip, now.tip), most), most=most)


def quote(ask: Ask, cap_wei: int = DEFAULT_CAP_WEI) -> Fees:
    """What a transaction should offer now: it stays good while the base fee doubles, as far as the cap allows.

    Raises:
        FeeAboveCap: the next block's base fee alone is above the cap.
    """
    base, tip = _from_history(ask) or _from_latest(ask)
    if base > cap_wei:
        raise FeeAboveCap("the chain's fee is above the cap", seen=f"{_gwei(base)} gwei", wanted=f"{_gwei(cap_wei)}")
    most = min(2 * base + tip, cap_wei)
    return Fees(tip=min(tip, most), most=most)


def _from_history(ask: Ask) -> tuple[int, int] | None:
    """The next block's base fee and the usual tip; None where the node has no history, or no tip in it."""
    try:
        history = ask("eth_feeHistory", hex(_BLOCKS), "latest", [_MIDDLE])
        base = read_quantity(history["baseFeePerGas"][-1])
        tips = [read_quantity(reward[0]) for reward in history.get("reward") or ()]
    except (ChainRefused, TypeError, KeyError, IndexError, AttributeError):
        return None
    paid = [tip for tip in tips if tip]  # an empty block shows a tip of nothing
    return (base, median_low(paid)) if paid else None


def _from_latest(ask: Ask) -> tuple[int, int]:
    block = ask("eth_getBlockByNumber", "latest", False)
    base = read_quantity((block or {}).get("baseFeePerGas") or "0x0")
    try:
        return base, read_quantity(ask("eth_maxPriorityFeePerGas"))
    except ChainRefused:
        pass
    try:
        return base, max(0, read_quantity(ask("eth_gasPrice")) - base)
    except ChainRefused:
        return base, DEFAULT_TIP_WEI


def _gwei(wei: int) -> str:
    return f"{wei / 10**9:.9g}"
