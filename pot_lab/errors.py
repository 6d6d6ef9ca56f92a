"""The one error family of the project: every refusal is a `PotLabError` that names the rule it broke.

A message says what was refused; `seen` is the offending value and `wanted` what would have passed.
Subclasses are the rules' names, so `code` travels over the wire and comes back as the same class.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

_SHOWN_CHARACTERS = 200
_NEAR = 0.6
"""How like a name another must be to be meant by it; 1 is equal."""


class PotLabError(Exception):
    """A rule was broken.

    Args:
        message: what was refused, in one readable sentence without a full stop.
        seen: the value that broke the rule.
        wanted: what would have been accepted.
    """

    def __init__(self, message: str, *, seen: Any = None, wanted: Any = None) -> None:
        self.message = message
        self.seen = seen
        self.wanted = wanted
        super().__init__(message)

    @property
    def code(self) -> str:
        """The rule's name: the class name, stable on the wire."""
        return type(self).__name__

    def shown(self, name: str) -> str:
        """`seen` or `wanted` as the message shows it, at most 200 characters."""
        return _shown(getattr(self, name))

    def __str__(self) -> str:
        return _described(self.message, self.seen, self.wanted)


def _described(message: str, seen: Any, wanted: Any) -> str:
    parts = [f"{name}: {_shown(value)}" for name, value in (("seen", seen), ("wanted", wanted)) if value is not None]
    return f"{message} ({', '.join(parts)})" if parts else message


def _shown(value: Any) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        raw = bytes(value[:32])
        text = "0x" + raw.hex() + ("…" if len(value) > len(raw) else "")
    else:
        text = str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def one_of(given: object, names: Iterable[str], near: Iterable[str] = ()) -> str:
    """What a mistyped name may have meant, and all that there are, for a message's `wanted`.

        >>> one_of("acurracy", ["accuracy", "mse"])
        "did you mean 'accuracy'? There are accuracy, mse"

    Args:
        given: the name that is none of them.
        names: those that there are.
        near: what was meant, where that is known already.
    """
    known = list(names)
    meant = list(near) or near_names(given, known)
    listed = ", ".join(known)
    return f"did you mean {' or '.join(map(repr, meant))}? There are {listed}" if meant else listed


def near_names(given: object, names: Iterable[str]) -> list[str]:
    """At most two names that a mistyped one may have meant, the nearest first: those that begin with it, then those
    that have most of its letters in their order."""
    plain = _plain(str(given)[:_SHOWN_CHARACTERS])
    by_plain = {_plain(name): name for name in reversed(list(names))}
    begin = sorted(n for n in by_plain if len(plain) > 1 and n.startswith(plain))
    alike = difflib.get_close_matches(plain, list(by_plain), 2, _NEAR)
    return [by_plain[n] for n in dict.fromkeys([*begin, *alike])][:2]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


class Malformed(PotLabError):
    """Bytes from outside do not have the shape that the rule asks for.

    What to do: use a sender of the same version; otherwise report it with the bytes.
    """


class Oversize(PotLabError):
    """Something from outside is larger than its limit; refused before it was parsed.

    What to do: send less; the message names the limit.
    """


class UnknownScoreFunction(PotLabError):
    """An order names a score function, a version or parameters of one, that this release does not have.

    What to do: choose one of the score functions that the message lists, or update the package.
    """


class PortTaken(PotLabError):
    """Another process listens on this TCP port already.

    What to do: stop the other process, or choose another port.
    """


class InvariantBroken(AssertionError):
    """An internal invariant does not hold; a bug of this package, not of whoever called it.

    Not a `PotLabError`: handlers turn those into refusals and go on, and a process whose state is wrong must not go
    on. Raised explicitly, so that `python -O` does not remove it.

    What to do: report it with the message: this is a bug of ours, and going on could lose money.

    Args:
        message, seen, wanted: as for `PotLabError`.
    """

    def __init__(self, message: str, *, seen: Any = None, wanted: Any = None) -> None:
        self.message = message
        self.seen = seen
        self.wanted = wanted
        super().__init__(message)

    def __str__(self) -> str:
        return _described(self.message, self.seen, self.wanted)
