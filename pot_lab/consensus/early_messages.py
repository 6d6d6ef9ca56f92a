"""Messages that came too early, kept by the reason they wait for, so that none is lost and memory stays bounded.

The paper's program drops what comes early and then hangs. Here each sender has a bounded place for each reason; when it
is full, its oldest message goes, never another sender's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from pot_lab.consensus.messages import PrePrepare, Vote

Early = PrePrepare | Vote


class EarlyMessages:
    """Early messages by reason and sender.

    Args:
        limit_per_sender: the most messages kept of one sender for one reason.
    """

    def __init__(self, limit_per_sender: int) -> None:
        self._limit = limit_per_sender
        self._kept: dict[tuple[str, int], deque[Early]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._kept.values()))

    def put(self, reason: str, sender: int, message: Early) -> bool:
        """Keep a message; False when the sender's oldest one for this reason had to go for it."""
        queue = self._kept.setdefault((reason, sender), deque())
        queue.append(message)
        if len(queue) <= self._limit:
            return True
        queue.popleft()
        return False

    def take(self, reason: str, ready: Callable[[Early], bool]) -> list[tuple[int, Early]]:
        """Remove and return the messages of this reason that are ready now, with their senders, in order of arrival."""
        taken: list[tuple[int, Early]] = []
        for (why, sender), queue in list(self._kept.items()):
            if why != reason:
                continue
            taken += [(sender, message) for message in queue if ready(message)]
            left = deque(message for message in queue if not ready(message))
            if left:
                self._kept[why, sender] = left
            else:
                del self._kept[why, sender]
        return taken
