"""What clients' requests have shown of their senders: in which class a client's next requests wait.

A CURVE key costs nothing, and neither does a signature; an account with stake or money costs that. So clients are
served in classes: first those that speak for such accounts, then those whose requests validate, then the rest, which
shares little time. One request that does not validate puts its client among the rest for a while: an honest client
validates what it sends.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from enum import IntEnum

KEPT_S = 60.0
"""So long a client keeps the class of its last valid request."""
MUTE_S = 30.0
"""So long a client stays among the rest, after a request that does not validate."""
_REMEMBERED = 16_384


class ClientClass(IntEnum):
    """The classes, in the order in which they are served."""

    FUNDED = 0
    VALID = 1
    NEW = 2


class ClientClasses:
    """The class of each client, by its CURVE key.

    Args:
        clock: seconds, never going back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._earned: OrderedDict[str, tuple[ClientClass, float]] = OrderedDict()
        self._muted: OrderedDict[str, float] = OrderedDict()

    def of(self, key: str) -> ClientClass:
        """The class in which requests of this client are served now."""
        earned, until_s = self._earned.get(key, (ClientClass.NEW, 0.0))
        return earned if self._clock() < until_s else ClientClass.NEW

    def admitted(self, key: str, earned: ClientClass) -> None:
        """A request of this client validated; `earned` is FUNDED where its account is."""
        now_s = self._clock()
        if now_s < self._muted.get(key, 0.0):
            return
        if self.of(key) < earned:  # one key may speak for many accounts: the best of them counts for its time
            return
        self._earned[key] = earned, now_s + KEPT_S
        _keep_newest(self._earned, key)

    def refused(self, key: str) -> None:
        """A request of this client did not validate."""
        self._earned.pop(key, None)
        self._muted[key] = self._clock() + MUTE_S
        _keep_newest(self._muted, key)


def _keep_newest(noted: OrderedDict[str, tuple[ClientClass, float]] | OrderedDict[str, float], key: str) -> None:
    noted.move_to_end(key)
    if len(noted) > _REMEMBERED:
        noted.popitem(last=False)
