"""Alerts reach a real HTTP server and a real mail server, and never hinder the loop."""

from __future__ import annotations

import asyncio
import contextlib
import email.policy
import http.server
import json
import logging
import threading
from collections.abc import Iterator
from email.message import EmailMessage
from typing import Any

import pytest
from aiosmtpd.controller import UnthreadedController
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from pot_lab.jobs.alerts import Alerts, BadWebhook, alerting
from pot_lab.jobs.runner import without_secrets

SOURCE = logging.getLogger("pot_lab.jobs.loop")


class Received(list[dict[str, Any]]):
    """What was posted, and a way to wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.news = threading.Condition()
        self.url = ""

    def await_count(self, count: int) -> None:
        with self.news:
            assert self.news.wait_for(lambda: len(self) >= count, timeout=120)


@pytest.fixture
def received() -> Iterator[Received]:
    found = Received()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with found.news:
                found.append(json.loads(body))
                found.news.notify_all()
            self.send_response(204)  # last: the next alert comes after it, on another thread
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}/hook?key=secret"
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def info_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pot_lab")


def test_warnings_and_ended_orders_are_told_and_the_rest_is_not(received: Received) -> None:
    with alerting(received.url):
        SOURCE.info("event=committed order=%s", "aa")
        SOURCE.warning("event=job_failed role=provider reason=%r", "no memory")
        SOURCE.info("event=order_finished role=provider order=aa outcome='won'")
    received.await_count(2)
    assert [alert["event"] for alert in received] == ["job_failed", "order_finished"]
    assert received[0]["text"] == "event=job_failed role=provider reason='no memory'"
    assert received[0]["level"] == "warning" and received[0]["time_ms"] > 10**12 and received[0]["host"]
    SOURCE.warning("event=after_the_end")
    assert len(received) == 2 and not any(isinstance(each, Alerts) for each in SOURCE.parent.handlers)  # type: ignore[union-attr]


def test_a_flood_is_counted_and_not_sent(received: Received) -> None:
    alerts = Alerts(received.url, per_minute=3)
    record = logging.LogRecord("pot_lab.jobs", logging.WARNING, "", 0, "event=x %s", ("y" * 9_000,), None)
    for _ in range(50):
        alerts.emit(record)
    alerts._sent_s.clear()  # a minute later
    alerts.emit(record)
    alerts.close()
    received.await_count(4)
    assert len(received) == 4
    assert len(received[0]["text"]) == 2_000 and received[3]["text"].endswith("(and 47 more)")


def test_an_address_that_does_not_answer_is_no_trouble(caplog: pytest.LogCaptureFixture) -> None:
    with alerting("http://127.0.0.1:1/secret"):
        SOURCE.warning("event=job_failed")
    assert "event=alert_not_sent" in caplog.text and "secret" not in caplog.text


class Mailbox:
    """What an SMTP server of this host received, each with the account that sent it."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, EmailMessage]] = []
        self.news = threading.Condition()

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        message = email.message_from_bytes(envelope.content or b"", policy=email.policy.default)
        with self.news:
            self.messages.append((session.auth_data or "", message))  # type: ignore[arg-type]
            self.news.notify_all()
        return "250 OK"

    def login(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: LoginPassword
    ) -> AuthResult:
        good = (data.login, data.password) == (b"miner", b"pass/word@")
        return AuthResult(success=good, handled=False, auth_data=data.login.decode())


@contextlib.contextmanager
def serving(box: Mailbox) -> Iterator[int]:
    """A mail server without TLS on this host; its port."""
    loop = asyncio.new_event_loop()
    options = {"authenticator": box.login, "auth_require_tls": False}
    server = UnthreadedController(box, hostname="127.0.0.1", port=0, loop=loop, **options)
    server.begin()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.end()
        loop.close()


def test_alerts_are_mailed_to_who_is_named(caplog: pytest.LogCaptureFixture) -> None:
    box = Mailbox()
    with serving(box) as port:
        url = f"smtp://miner:pass%2Fword%40@127.0.0.1:{port}/me@example.org"
        with alerting(None, url):
            SOURCE.info("event=committed order=%s", "aa")
            SOURCE.warning("event=job_failed reason=%r", "no memory\r\nBcc: all@example.org")
        with box.news:
            assert box.news.wait_for(lambda: box.messages, timeout=120)
        with alerting(url.replace("pass%2F", "wrong")):
            SOURCE.warning("event=job_failed")
    ((sender, message),) = box.messages
    assert sender == "miner" and message["To"] == "me@example.org" and message["Bcc"] is None
    assert message["Subject"].endswith(": job_failed") and "no memory" in message.get_content()
    assert "event=alert_not_sent" in caplog.text and "word@" not in caplog.text


def test_a_mail_never_leaves_this_host_in_the_clear(caplog: pytest.LogCaptureFixture) -> None:
    """An address of this host that its name does not say: without TLS there, nothing is sent."""
    box = Mailbox()
    with serving(box) as port, alerting(f"smtp://miner:pass%2Fword%40@127.1:{port}/me@example.org"):
        SOURCE.warning("event=job_failed")
    assert "event=alert_not_sent" in caplog.text and not box.messages


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/", "hooks.example/secret", "https://", "file:///etc/passwd", "smtps://secret@host/", "smtp:///a@b",
        "smtps://host/a@b,secret@d", "smtps://host/a%0Asecret@b",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(BadWebhook) as refused:
        Alerts(url)
    assert "secret" not in str(refused.value)


def test_without_an_address_nothing_is_sent_and_notebooks_never_see_one() -> None:
    with alerting(None):
        SOURCE.warning("event=job_failed")
    assert without_secrets({"POT_LAB_ALERT_WEBHOOK": "https://hook", "LANG": "C"}) == {"LANG": "C"}
