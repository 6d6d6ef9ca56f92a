"""Places that may have a copy of any blob under its hash, such as the custody of a network's aggregators.

Each blob has its own order of the places, so that the load spreads and a repeated download finds its place again. One
that did not answer comes last for a while.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence

from pot_lab.crypto.link import Link

MOST_COPIES = 16
"""How many places are asked for a blob; in a large network not all have it, but far more than one in sixteen."""
REST_S = 30.0
"""How long a place that did not answer is asked last."""


class Copies:
    """Where copies may be.

    Args:
        urls: the places' addresses now, to which a slash and a blob's hash are added.
        clock_s: seconds that only grow.
    """

    def __init__(self, urls: Callable[[], Sequence[str]], *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._urls, self._clock_s = urls, clock_s
        self._resting_until_s: dict[str, float] = {}

    @property
    def any(self) -> bool:
        """Whether there are such places now."""
        return bool(self._urls())

    def of(self, link: Link) -> list[Link]:
        """The same blob at each place, in the order in which they are to be asked."""
        now_s = self._clock_s()
        self._resting_until_s = {url: until_s for url, until_s in self._resting_until_s.items() if until_s > now_s}

        def rank(url: str) -> tuple[bool, bytes]:
            return url in self._resting_until_s, hashlib.sha256(link.digest + url.encode()).digest()

        return [
            Link(link.digest, link.size_bytes, f"{url}/{link.digest.hex()}")
            for url in sorted(set(self._urls()), key=rank)[:MOST_COPIES]
        ]

    def rest(self, copy: Link) -> None:
        """This place, one of `of`, did not answer."""
        self._resting_until_s[copy.uri.rpartition("/")[0]] = self._clock_s() + REST_S
