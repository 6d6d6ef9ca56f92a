"""What people write, in exact units: durations in milliseconds, money in grains, scores as fractions."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from fractions import Fraction

from pot_lab.notebook.errors import BadQuantity
from pot_lab.protocol.parameters import GRAINS_PER_POT

_UNITS_MS = {"ms": 1, "s": 1_000, "sec": 1_000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_MAX_MS = 10**15
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)")
_DURATION = 'e.g. "10min", "1h 30min" (units: ms, s, min, h, d), or seconds'


def milliseconds(duration: str | float | timedelta) -> int:
    """Read a duration in whole milliseconds.

    Args:
        duration: text such as `"10min"`, `"1h 30min"` or `"20s"` (units ms, s, sec, m, min, h, d), a number of seconds,
            or a timedelta.
    Raises:
        BadQuantity: it is none of these, shorter than 1 ms, or longer than 30,000 years.

    Example:
        >>> milliseconds("1h 30min")
        5400000
    """
    if isinstance(duration, timedelta):
        total = Decimal(duration.days * 86_400_000 + duration.seconds * 1_000) + Decimal(duration.microseconds) / 1_000
    elif isinstance(duration, bool) or not isinstance(duration, int | float | str):
        raise BadQuantity("not a duration", seen=duration, wanted=_DURATION)
    elif isinstance(duration, str) and not _is_number(duration):
        text = duration.strip().lower()
        parts = _PART.findall(text)
        if not parts or _PART.sub("", text).strip() or any(unit not in _UNITS_MS for _, unit in parts):
            raise BadQuantity("not a duration", seen=duration, wanted=_DURATION)
        total = sum((Decimal(number) * _UNITS_MS[unit] for number, unit in parts), Decimal(0))
    else:
        total = _decimal(duration, "a duration") * 1_000
    if not 1 <= total < _MAX_MS:
        raise BadQuantity("a duration is out of bounds", seen=duration, wanted=f"1 ms .. {_MAX_MS - 1} ms")
    return int(total)


def grains(amount: str | float | Decimal) -> int:
    """Read an amount of POT exactly, in grains (10^-9 POT).

    Args:
        amount: `25`, `"0.5"`, `Decimal("1.25")`; nine decimals at most.
    Raises:
        BadQuantity: it is not an amount, negative, or has more than nine decimals.

    Example:
        >>> grains("0.5")
        500000000
    """
    if isinstance(amount, bool) or not isinstance(amount, int | float | str | Decimal):
        raise BadQuantity("not an amount of POT", seen=amount, wanted='e.g. 25 or "0.5"')
    exact = _decimal(amount, "an amount of POT") * GRAINS_PER_POT
    if exact < 0 or exact != exact.to_integral_value():
        raise BadQuantity("an amount of POT must be positive and have at most nine decimals", seen=amount)
    return int(exact)


def exact_fraction(value: str | float | Decimal | Fraction, what: str) -> Fraction:
    """Read a score, exactly as written: `0.9`, `"0.95"`, `Fraction(1, 3)`.

    Args:
        value: the number.
        what: which argument it is, for the error message.
    Raises:
        BadQuantity: it is not a finite number.
    """
    if not isinstance(value, bool) and isinstance(value, int | float | str | Decimal | Fraction):
        try:
            return Fraction(value)
        except (ValueError, OverflowError, ZeroDivisionError):
            pass
    raise BadQuantity(f"the {what} is not a finite number", seen=value, wanted="e.g. 0.9 or Fraction(1, 3)")


def pot(grains_: int) -> str:
    """Write grains as POT, without needless zeros."""
    return (
        f"{Decimal(grains_) / GRAINS_PER_POT:f}".rstrip("0").rstrip(".")
        if grains_ % GRAINS_PER_POT
        else str(grains_ // GRAINS_PER_POT)
    )


def how_many(count: int, noun: str) -> str:
    """A number of things.

    >>> how_many(1, "provider"), how_many(3, "provider")
    ('1 provider', '3 providers')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


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


def size_text(size_bytes: int) -> str:
    """A size that people read: 812 B, 2.4 MB, 1.2 GB.

    >>> size_text(2_400_000)
    '2.4 MB'
    """
    size = float(size_bytes)
    for unit in ("B", "kB", "MB"):
        if size < 1_000:
            return f"{size:.3g} {unit}"
        size /= 1_000
    return f"{size:.3g} GB"


def _is_number(text: str) -> bool:
    try:
        Decimal(text.strip())
        return True
    except InvalidOperation:
        return False


_WANTED = {
    "an amount of POT": 'a number without a unit, e.g. 25 or "0.5"',
    "a duration": _DURATION,
}


def _decimal(value: str | float | Decimal, what: str) -> Decimal:
    try:
        found = Decimal(str(value).strip())
    except InvalidOperation as error:
        raise BadQuantity(f"not {what}", seen=value, wanted=_WANTED.get(what)) from error
    if not found.is_finite():
        raise BadQuantity(f"not {what}", seen=value, wanted=_WANTED.get(what))
    return found
