"""One background thread for everything a client waits for, so notebooks and scripts never block on a socket.

The thread owns its sockets: other threads pass it actions with `call`, and it passes results back through futures. A
plain poll loop, not asyncio: a notebook has its own event loop, and `Call` (calls.py) can be awaited in it.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from pot_lab.network.wake_up import WakeUp

_log = logging.getLogger("pot_lab.client")
_LONGEST_WAIT_S = 1.0

Action = Callable[[], None]


class Readable(Protocol):
    """What can be polled for input: a socket, or an epoll object."""

    def fileno(self) -> int:
        """Its descriptor."""
        ...


class Timers:
    """Actions to run at a time, earliest first and in the order of `after` where times are equal.

    Args:
        clock: seconds, never going back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._queue: list[tuple[float, int, Action]] = []
        self._tickets = itertools.count()

    def after(self, delay_s: float, action: Action) -> None:
        """Add an action that is due `delay_s` from now."""
        heapq.heappush(self._queue, (self.clock() + delay_s, next(self._tickets), action))

    def wait_s(self, longest_s: float) -> float:
        """How long until the next action is due, from 0 to `longest_s`."""
        if not self._queue:
            return longest_s
        return min(longest_s, max(0.0, self._queue[0][0] - self.clock()))

    def pop_due(self) -> Action | None:
        """Remove and return the next action that is due, or None."""
        if not self._queue or self._queue[0][0] > self.clock():
            return None
        return heapq.heappop(self._queue)[2]


class IoThread:
    """A thread with a poll loop and a timer queue; it starts with the first `call`.

    Args:
        name: the thread's name, shown by debuggers.
        clock: seconds, never going back; times the actions of `after`.
    """

    def __init__(self, name: str = "pot-lab-client", clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._actions: deque[Action] = deque()
        self._timers = Timers(clock)
        self._readers: dict[int, Action] = {}
        self._thread: threading.Thread | None = None
        self._closing = self._closed = False
        self._wake_up = WakeUp()
        self._poller = select.poll()
        self._poller.register(self._wake_up.source, select.POLLIN)

    @property
    def usable(self) -> bool:
        """Whether `call` still runs what it is given: not closed, and in the process that made it."""
        return not self._closing and os.getpid() == self._process

    def call(self, action: Action) -> None:
        """Run an action on the thread, soon and in order; may be called from any thread."""
        with self._lock:
            self._actions.append(action)
            if self._thread is None and not self._closing:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
        self._wake_up.wake()

    def now_s(self) -> float:
        """The clock's time in seconds."""
        return self._timers.clock()

    def after(self, delay_s: float, action: Action) -> None:
        """Run an action on the thread `delay_s` from now; called on the thread."""
        self._timers.after(delay_s, action)

    def read(self, source: Readable, action: Action) -> None:
        """Run an action whenever a source can be read; called on the thread."""
        self._readers[source.fileno()] = action
        self._poller.register(source, select.POLLIN)

    def forget(self, source: Readable) -> None:
        """Stop reading a source, before it is closed; called on the thread."""
        if self._readers.pop(source.fileno(), None) is not None:
            self._poller.unregister(source)

    def close(self) -> None:
        """End the thread; actions passed before still run. The owners of sockets close them before."""
        if os.getpid() != self._process:
            return
        with self._lock:
            self._closing = True
            thread = self._thread
        if thread is None:
            self._release()
            return
        self._wake_up.wake()
        if thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        while not self._closing or self._actions:
            wait_s = 0.0 if self._actions else self._timers.wait_s(_LONGEST_WAIT_S)
            ready = self._poller.poll(int(wait_s * 1_000 + 1))
            self._wake_up.drain()
            while self._actions:
                self._do(self._actions.popleft())
            for descriptor, _ in ready:
                reader = self._readers.get(descriptor)
                if reader is not None:
                    self._do(reader)
            while (due := self._timers.pop_due()) is not None:
                self._do(due)
        self._release()

    def _do(self, action: Action) -> None:
        try:
            action()
        except Exception:  # one caller's fault must not end the thread for the others
            _log.exception("an action on the client's thread failed")

    def _release(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._wake_up.close()
