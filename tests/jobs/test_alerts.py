"""Alerts by webhook reach a real HTTP server, and never hinder the loop."""

from __future__ import annotations

import http.server
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pot_lab.jobs.alerts import BadWebhook, WebhookAlerts, alerting
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
    assert len(received) == 2 and not any(isinstance(each, WebhookAlerts) for each in SOURCE.parent.handlers)  # type: ignore[union-attr]


def test_a_flood_is_counted_and_not_sent(received: Received) -> None:
    alerts = WebhookAlerts(received.url, per_minute=3)
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


@pytest.mark.parametrize("url", ["ftp://host/", "hooks.example/secret", "https://", "file:///etc/passwd"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(BadWebhook) as refused:
        WebhookAlerts(url)
    assert "secret" not in str(refused.value)


def test_without_an_address_nothing_is_sent_and_notebooks_never_see_one() -> None:
    with alerting(None):
        SOURCE.warning("event=job_failed")
    assert without_secrets({"POT_LAB_ALERT_WEBHOOK": "https://hook", "LANG": "C"}) == {"LANG": "C"}
