"""`/metrics` and `/healthz`: what was published last, on threads of their own, and never for ever."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pot_lab.errors import PortTaken
from pot_lab.network import metrics_server as module
from pot_lab.network.metrics_server import MetricsServer
from tests.clock import Clock

PATIENCE_S = 240


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(clock: Clock) -> Iterator[MetricsServer]:
    with MetricsServer("127.0.0.1", 0, clock) as server:
        yield server


def get(server: MetricsServer, path: str) -> tuple[int, str]:
    try:
        with urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=PATIENCE_S) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


def test_prometheus_reads_what_was_published(server: MetricsServer) -> None:
    server.publish({"view": 3}, {"queries": 7, "uptime_ms": 10})
    status, text = get(server, "/metrics?name=x")
    assert status == 200
    families = {each.name: each for each in text_string_to_metric_families(text)}
    assert {name: each.samples[0].value for name, each in families.items()} == {
        "pot_lab_view": 3, "pot_lab_queries": 7, "pot_lab_uptime_ms": 10,
    }  # fmt: skip
    assert families["pot_lab_view"].type == "gauge"
    server.publish({"view": 4}, {})
    assert "pot_lab_view 4.0" in get(server, "/metrics")[1]


def test_health_is_that_of_the_last_word_and_of_the_loop(server: MetricsServer, clock: Clock) -> None:
    assert get(server, "/healthz") == (503, "it has just been started\n")
    server.publish({}, {})
    assert get(server, "/healthz") == (200, "healthy\n")
    server.publish({}, {}, ["it hears nobody"])
    assert get(server, "/healthz") == (503, "it hears nobody\n")
    server.publish({}, {})
    clock.now_s += module.STALLED_S + 1
    assert get(server, "/healthz") == (503, "its loop has stood still for 11 s\n")


def test_it_is_due_once_a_second(server: MetricsServer, clock: Clock) -> None:
    assert not server.due
    clock.now_s += module.PUBLISH_EVERY_S
    assert server.due
    server.publish({}, {})
    assert not server.due


def test_other_paths_and_methods_are_refused(server: MetricsServer) -> None:
    assert get(server, "/")[0] == get(server, "/../etc/passwd")[0] == 404
    with socket.create_connection(("127.0.0.1", server.port)) as plain:
        plain.sendall(b"POST /metrics HTTP/1.1\r\n\r\n")
        assert b" 501 " in plain.recv(1_000)


def test_who_says_nothing_holds_a_place_for_a_while_only(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module._MetricsRequest, "timeout", 0.2)
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3 * module._MOST_REQUESTS)]
    server.publish({}, {})
    until_s = time.monotonic() + PATIENCE_S
    while True:
        assert time.monotonic() < until_s
        try:
            assert get(server, "/healthz")[0] == 200
            break
        except OSError:
            time.sleep(0.05)
    for each in silent:
        each.close()


def test_a_taken_port_is_named(server: MetricsServer) -> None:
    with pytest.raises(PortTaken, match=str(server.port)):
        MetricsServer("127.0.0.1", server.port)
