"""Alerts by webhook and by mail: what a mining loop warns of, and how its orders ended, also when no Lab is open.

To a webhook each is a POST of a JSON object with `text`, which chat services show, and `event`, `level`, `time_ms` and
`host` for programs; a mail holds the same. Alerts never hinder the loop: they wait in a bounded queue for a thread of
their own, and one that cannot be delivered is logged and dropped.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import re
import smtplib
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from urllib.parse import SplitResult, unquote, urlsplit

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

    What to do: give the address that your chat service or program names, beginning with https:// or http://; for mail
    smtps://USER:PASSWORD@SERVER/you@example.org.
    """


Alert = dict[str, object]


class Alerts(logging.Handler):
    """A log handler that sends alerts.

    Args:
        url: where to: http or https for a webhook, smtp or smtps for mail.
        per_minute: how many are sent in a minute at most; the next one says how many were not.
    Raises:
        BadWebhook: it is no such address.
    """

    def __init__(self, url: str, *, per_minute: int = PER_MINUTE) -> None:
        super().__init__(logging.INFO)
        self._send, self._per_minute = _sender_of(url), per_minute
        self._sent_s: list[float] = []
        self._dropped = 0
        self._queue: queue.Queue[Alert | None] = queue.Queue(QUEUE_LIMIT)
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
            try:
                self._send(alert)
            except (OSError, ValueError, smtplib.SMTPException) as error:
                # the address may hold a secret, so it is not logged
                log.warning("event=alert_not_sent reason=%r", type(error).__name__)


@contextlib.contextmanager
def alerting(*urls: str | None) -> Iterator[None]:
    """For a `with` block, send the alerts of this process's mining loop to each of these addresses that is given.

    Raises:
        BadWebhook: one cannot be used.
    """
    source = logging.getLogger("pot_lab.jobs")
    with contextlib.ExitStack() as stack:
        for url in filter(None, urls):
            handler = Alerts(url)
            stack.callback(handler.close)
            source.addHandler(handler)
            stack.callback(source.removeHandler, handler)
        yield


def _sender_of(url: str) -> Callable[[Alert], None]:
    parts = urlsplit(url)
    if parts.scheme in ("http", "https") and parts.hostname:
        return lambda alert: _post(url, alert)
    if parts.scheme in ("smtp", "smtps") and parts.hostname and _recipient(parts):
        return lambda alert: _mail(parts, alert)
    wanted = "https://... or smtps://USER:PASSWORD@SERVER/you@example.org"
    raise BadWebhook("not an address for alerts", seen=f"{parts.scheme or 'no scheme'}://...", wanted=wanted)


def _post(url: str, alert: Alert) -> None:
    body = json.dumps(alert).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")
    urllib.request.urlopen(request, timeout=TIMEOUT_S).close()


def _recipient(parts: SplitResult) -> str:
    """The mail address in an address's path; empty where there is none that could be one."""
    address = unquote(parts.path.removeprefix("/"))
    return address if re.fullmatch(r"[^@\s,;<>]+@[^@\s,;<>]+", address) else ""


def _mail(parts: SplitResult, alert: Alert) -> None:
    """Send one mail; to another host than this one never without TLS."""
    message = EmailMessage()
    message["Subject"] = f"PoT Lab on {alert['host']}: {alert['event'] or alert['level']}"
    message["From"] = message["To"] = _recipient(parts)
    message.set_content("\n".join(f"{name}: {alert[name]}" for name in ("text", "event", "level", "time_ms", "host")))
    host, context = str(parts.hostname), ssl.create_default_context()
    if parts.scheme == "smtps":
        server: smtplib.SMTP = smtplib.SMTP_SSL(host, parts.port or 465, timeout=TIMEOUT_S, context=context)
    else:
        server = smtplib.SMTP(host, parts.port or 587, timeout=TIMEOUT_S)
    with server:
        if parts.scheme == "smtp" and host not in ("localhost", "127.0.0.1", "::1"):
            server.starttls(context=context)
        if parts.username:
            server.login(unquote(parts.username), unquote(parts.password or ""))
        server.send_message(message)
