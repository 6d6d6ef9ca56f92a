"""One background thread for everything a client waits for, so notebooks and scripts never block on a socket.

The thread owns its sockets: others hand it work with `call` and it hands results back through futures. A plain poll
loop, not
asyncio: a notebook has its own event loop, and `Call` (client.py) can be awaited in it.
"""

from __future__ import annotations

import heapq
import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable

import zmq

_log = logging.getLogger("pot_lab.client")
_LONGEST_WAIT_MS = 1_000

Action = Callable[[], None]


class IoThread:
    """A thread with a ZeroMQ context, a poll loop and a timer queue; it starts with the first `call`.

    Args:
        name: the thread's name, shown by debuggers.
    Attributes:
        context: for sockets that live on this thread; used there only.
    """

    def __init__(self, name: str = "pot-lab-client") -> None:
        self._name = name
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._actions: deque[Action] = deque()
        self._timers: list[tuple[float, int, Action]] = []
        self._tickets = 0
        self._readers: dict[zmq.Socket[bytes], Action] = {}
        self._thread: threading.Thread | None = None
        self._closing = self._closed = False
        self._waker, self._woken = socket.socketpair()
        for end in (self._waker, self._woken):
            end.setblocking(False)
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._poller = zmq.Poller()
        self._poller.register(self._woken, zmq.POLLIN)

    @property
    def usable(self) -> bool:
        """Whether work can still be handed over: not closed, and in the process that made it."""
        return not self._closing and os.getpid() == self._process

    def call(self, action: Action) -> None:
        """Run an action on the thread, soon and in order; may be called from any thread."""
        with self._lock:
            self._actions.append(action)
            if self._thread is None and not self._closing:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
        self._wake()

    def after(self, delay_s: float, action: Action) -> None:
        """Run an action on the thread later; called on the thread."""
        self._tickets += 1
        heapq.heappush(self._timers, (time.monotonic() + delay_s, self._tickets, action))

    def read(self, source: zmq.Socket[bytes], action: Action) -> None:
        """Run an action whenever a socket can be read; called on the thread."""
        self._readers[source] = action
        self._poller.register(source, zmq.POLLIN)

    def forget(self, source: zmq.Socket[bytes]) -> None:
        """Stop reading a socket; called on the thread."""
        if self._readers.pop(source, None) is not None:
            self._poller.unregister(source)

    def close(self) -> None:
        """End the thread; what was handed over before still runs. Sockets must be closed by then."""
        if os.getpid() != self._process:
            return
        with self._lock:
            self._closing = True
            thread = self._thread
        if thread is None:
            self._release()
            return
        self._wake()
        if thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        while not self._closing or self._actions:
            timeout_ms = float(_LONGEST_WAIT_MS)
            if self._timers:
                timeout_ms = min(timeout_ms, max(0.0, (self._timers[0][0] - time.monotonic()) * 1_000))
            if self._actions:
                timeout_ms = 0.0
            ready = dict(self._poller.poll(int(timeout_ms + 1)))
            try:
                self._woken.recv(4_096)
            except BlockingIOError:
                pass  # woken by a socket or a timer
            while self._actions:
                self._do(self._actions.popleft())
            for source in ready:
                reader = self._readers.get(source)
                if reader is not None:
                    self._do(reader)
            while self._timers and self._timers[0][0] <= time.monotonic():
                self._do(heapq.heappop(self._timers)[2])
        self._release()

    def _do(self, action: Action) -> None:
        try:
            action()
        except Exception:  # one caller's fault must not end the thread for the others
            _log.exception("an action on the client's thread failed")

    def _wake(self) -> None:
        try:
            self._waker.send(b"\0")
        except (BlockingIOError, OSError):
            pass  # a full pipe wakes as well; a closed one has nobody to wake

    def _release(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._waker.close()
        self._woken.close()
        self.context.destroy(linger=0)
