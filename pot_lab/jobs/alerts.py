"""Alerts by webhook: what a mining loop warns of, and how its orders ended, also when no Lab is open.

Each is a POST of a JSON object with `text`, which chat services show, and `event`, `level`, `time_ms` and `host` for
programs. Alerts never hinder the loop: they wait in a bounded queue for a thread of their own, and one that cannot be
delivered is logged and dropped.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import re
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from urllib.parse import urlsplit

from pot_lab.errors import PotLabError

log = logging.getLogger("pot_lab.alerts")

TOLD = ("order_finished",)
"""What is told besides warnings and errors."""
QUEUE_LIMIT = 100
PER_MINUTE = 30
TIMEOUT_S = 10.0
FLUSH_S = 5.0
TEXT_LIMIT = 2_000
_EVENT = re.compile(r"event=(\w+)")


class BadWebhook(PotLabError):
    """Alerts cannot be sent to this address.

    What to do: give the address that your chat service or program names, beginning with https:// or http://.
    """


class WebhookAlerts(logging.Handler):
    """A log handler that posts alerts.

    Args:
        url: where to, http or https.
        per_minute: how many are sent in a minute at most; the next one says how many were not.
    Raises:
        BadWebhook: it is no such address.
    """

    def __init__(self, url: str, *, per_minute: int = PER_MINUTE) -> None:
        super().__init__(logging.INFO)
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadWebhook(
                "not an address for alerts", seen=f"{parts.scheme or 'no scheme'}://...", wanted="https://..."
            )
        self._url, self._per_minute = url, per_minute
        self._sent_s: list[float] = []
        self._dropped = 0
        self._queue: queue.Queue[dict[str, object] | None] = queue.Queue(QUEUE_LIMIT)
        self._thread = threading.Thread(target=self._work, name="pot-lab-alerts", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue an alert if the record is worth one."""
        text = record.getMessage()
        found = _EVENT.search(text)
        event = found.group(1) if found else ""
        if record.levelno < logging.WARNING and event not in TOLD:
            return
        now_s = time.monotonic()
        self._sent_s = [sent for sent in self._sent_s if now_s - sent < 60]
        if len(self._sent_s) >= self._per_minute:
            self._dropped += 1
            return
        more, self._dropped = (f" (and {self._dropped} more)" if self._dropped else ""), 0
        alert = {
            "text": text[:TEXT_LIMIT] + more,
            "event": event,
            "level": record.levelname.lower(),
            "time_ms": int(record.created * 1000),
            "host": socket.gethostname(),
        }
        try:
            self._queue.put_nowait(alert)
            self._sent_s.append(now_s)
        except queue.Full:
            self._dropped += 1

    def close(self) -> None:
        """Send what waits, for a few seconds at most, and end."""
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)
        self._thread.join(FLUSH_S)
        super().close()

    def _work(self) -> None:
        while (alert := self._queue.get()) is not None:
            body = json.dumps(alert).encode()
            request = urllib.request.Request(self._url, body, {"Content-Type": "application/json"}, method="POST")
            try:
                urllib.request.urlopen(request, timeout=TIMEOUT_S).close()
            except (OSError, ValueError) as error:  # the address may hold a secret, so it is not logged
                log.warning("event=alert_not_sent reason=%r", type(error).__name__)


@contextlib.contextmanager
def alerting(url: str | None) -> Iterator[None]:
    """For a `with` block, post the alerts of this process's mining loop to `url`; nothing without one.

    Raises:
        BadWebhook: it cannot be used.
    """
    if not url:
        yield
        return
    handler = WebhookAlerts(url)
    source = logging.getLogger("pot_lab.jobs")
    source.addHandler(handler)
    try:
        yield
    finally:
        source.removeHandler(handler)
        handler.close()
