"""Splitting an amount by weights, in integers."""

from __future__ import annotations

from collections.abc import Mapping

from pot_lab.crypto.identity import Address


def share_out(amount: int, weights: Mapping[Address, int]) -> dict[Address, int]:
    """Split `amount` by weight, rounding down; the remainder is left to the caller. Zero weights get nothing."""
    total = sum(weights.values())
    return (
        {address: amount * weight // total for address, weight in sorted(weights.items()) if weight > 0}
        if total
        else {}
    )
