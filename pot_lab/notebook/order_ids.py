"""Which order is meant: by its whole id, or by the first digits of it, which is what lists show."""

from __future__ import annotations

from collections.abc import Callable, Collection

from pot_lab.crypto.canonical import HASH_BYTES
from pot_lab.notebook.errors import AmbiguousOrder, BadArgument, NoSuchOrder

SEARCHED_ORDERS = 500
"""An id's first digits are looked for among so many orders, the newest first."""
_SHOWN_CANDIDATES = 8
_ID_DIGITS = 2 * HASH_BYTES


def match_order_id(text: object, list_ids: Callable[[], Collection[bytes]]) -> bytes:
    """An order's id from its first hexadecimal digits, with or without 0x.

    Args:
        text: what the user gave: 32 bytes are an id, and so are 64 digits.
        list_ids: fetches the ids among which fewer digits have to be unique; not called for a whole id.
    Raises:
        NoSuchOrder: no known id begins so.
        BadArgument: it is neither bytes nor hexadecimal digits.
        AmbiguousOrder: more than one begins so.

    >>> match_order_id("0xAB", lambda: [bytes.fromhex("ab12"), bytes.fromhex("cd34")]).hex()
    'ab12'
    """
    if isinstance(text, bytes) and len(text) == HASH_BYTES:
        return text
    digits = text.removeprefix("0x").lower() if isinstance(text, str) else ""
    if not digits or len(digits) > _ID_DIGITS or not set(digits) <= set("0123456789abcdef"):
        raise BadArgument(
            "not an order's id, or the first digits of one",
            seen=text if isinstance(text, str) else type(text).__name__,
            wanted=f"up to {_ID_DIGITS} hexadecimal digits, or {HASH_BYTES} bytes",
        )
    if len(digits) == _ID_DIGITS:
        return bytes.fromhex(digits)
    known = list_ids()
    found = [each for each in known if each.hex().startswith(digits)]
    if not found:
        raise NoSuchOrder("no order's id begins with these digits", seen=text, wanted=_candidates(known))
    if len(found) > 1:
        raise AmbiguousOrder("the ids of several orders begin with these digits", seen=text, wanted=_candidates(found))
    return found[0]


def _candidates(ids: Collection[bytes]) -> str:
    if not ids:
        return "an order of this network, which has none yet"
    shown = [each.hex()[:12] for each in list(ids)[:_SHOWN_CANDIDATES]]
    more = f" or {len(ids) - len(shown)} more" if len(ids) > len(shown) else ""
    return f"one of {', '.join(shown)}{more}"
