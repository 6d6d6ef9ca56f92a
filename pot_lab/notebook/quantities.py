"""What people write, in exact units: durations in milliseconds, money in grains."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal, InvalidOperation

from pot_lab.errors import PotLabError
from pot_lab.protocol.parameters import GRAINS_PER_POT

_UNITS_MS = {"ms": 1, "s": 1_000, "sec": 1_000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)")


class BadQuantity(PotLabError):
    """A duration or an amount cannot be understood."""


def milliseconds(duration: str | float | timedelta) -> int:
    """Read a duration: `"10min"`, `"1h 30min"`, `"20s"`, a number of seconds, or a timedelta.

    Raises:
        BadQuantity: it is none of these, or not positive.
    """
    if isinstance(duration, timedelta):
        total = Decimal(duration.days * 86_400_000 + duration.seconds * 1_000) + Decimal(duration.microseconds) / 1_000
    elif isinstance(duration, bool) or not isinstance(duration, int | float | str):
        raise BadQuantity("this is no duration", seen=duration, wanted='e.g. "10min", "1h 30min", or seconds')
    elif isinstance(duration, str) and not _is_number(duration):
        text = duration.strip().lower()
        parts = _PART.findall(text)
        if not parts or _PART.sub("", text).strip() or any(unit not in _UNITS_MS for _, unit in parts):
            raise BadQuantity("this is no duration", seen=duration, wanted='e.g. "10min", "1h 30min", or seconds')
        total = sum((Decimal(number) * _UNITS_MS[unit] for number, unit in parts), Decimal(0))
    else:
        total = _decimal(duration, "duration") * 1_000
    if not 0 < total < 10**15:
        raise BadQuantity("a duration must be positive", seen=duration)
    return int(total)


def grains(amount: str | float | Decimal) -> int:
    """Read an amount of POT exactly: `25`, `"0.5"`, `Decimal("1.25")`; nine decimals at most.

    Raises:
        BadQuantity: it is no amount, negative, or has more than nine decimals.
    """
    if isinstance(amount, bool) or not isinstance(amount, int | float | str | Decimal):
        raise BadQuantity("this is no amount of POT", seen=amount, wanted='e.g. 25 or "0.5"')
    exact = _decimal(amount, "amount of POT") * GRAINS_PER_POT
    if exact < 0 or exact != exact.to_integral_value():
        raise BadQuantity("an amount of POT must be positive and have at most nine decimals", seen=amount)
    return int(exact)


def pot(grains_: int) -> str:
    """Write grains as POT, without needless zeros."""
    return (
        f"{Decimal(grains_) / GRAINS_PER_POT:f}".rstrip("0").rstrip(".")
        if grains_ % GRAINS_PER_POT
        else str(grains_ // GRAINS_PER_POT)
    )


def seconds_text(milliseconds_: int) -> str:
    """A countdown that people read: 7 s, 3 min 20 s, 2 h 5 min."""
    seconds = max(0, -(-milliseconds_ // 1000))
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def _is_number(text: str) -> bool:
    try:
        Decimal(text.strip())
        return True
    except InvalidOperation:
        return False


def _decimal(value: str | float | Decimal, what: str) -> Decimal:
    try:
        found = Decimal(str(value).strip())
    except InvalidOperation as error:
        raise BadQuantity(f"this is no {what}", seen=value) from error
    if not found.is_finite():
        raise BadQuantity(f"this is no {what}", seen=value)
    return found
