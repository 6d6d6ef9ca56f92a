"""`/metrics` and `/healthz` of an aggregator or a miner over HTTP, for Prometheus and for whoever restarts processes.

Its loop publishes once a second; requests are answered from what was published last, on threads of their own, so no
scrape takes a turn's time. Nobody is asked for a key: it listens on the loopback unless told otherwise.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import GaugeMetricFamily, Metric, UnknownMetricFamily
from prometheus_client.registry import Collector

from pot_lab.errors import PortTaken

PUBLISH_EVERY_S = 1.0
STALLED_S = 10.0
"""An aggregator whose loop has published nothing for so long is not healthy; a miner's step may take longer."""
_MOST_REQUESTS = 16
_REQUEST_S = 5.0


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """What a process says of itself.

    Attributes:
        at_s: when, on the server's clock.
        gauges: what may go down.
        totals: everything else that was counted, by name.
        ailments: why it is not healthy; none if it is.
    """

    at_s: float
    gauges: Mapping[str, int] = {}
    totals: Mapping[str, int] = {}
    ailments: tuple[str, ...] = ("it has just been started",)


class MetricsServer:
    """The HTTP server of one aggregator or miner; use as a context.

    Args:
        host, port: where it listens.
        clock: seconds, never going back.
        stalled_s: a loop that has published nothing for so many seconds is not healthy.
    Raises:
        PortTaken: another process listens there.
    """

    def __init__(
        self, host: str, port: int, clock: Callable[[], float] = time.monotonic, *, stalled_s: float = STALLED_S
    ) -> None:
        self._clock, self._stalled_s = clock, stalled_s
        self._published = Published(at_s=clock())
        registry = CollectorRegistry()
        registry.register(_Collected(lambda: self._published))

        class Handler(_MetricsRequest):
            answers: ClassVar[Mapping[str, Callable[[], tuple[int, str, bytes]]]] = {
                "/metrics": lambda: (200, CONTENT_TYPE_LATEST, generate_latest(registry)),
                "/healthz": self._health,
            }

        try:
            self._server = _MetricsHttp((host, port), Handler)
        except OSError as error:
            raise PortTaken(f"cannot listen on {host}:{port}: {error.strerror}", seen=port) from error
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)

    @property
    def due(self) -> bool:
        """Whether it is time to publish again."""
        return self._clock() - self._published.at_s >= PUBLISH_EVERY_S

    def publish(self, gauges: Mapping[str, int], totals: Mapping[str, int], ailments: Iterable[str] = ()) -> None:
        """Answer requests with these from now on."""
        self._published = Published(
            at_s=self._clock(), gauges=dict(gauges), totals=dict(totals), ailments=tuple(ailments)
        )

    def _health(self) -> tuple[int, str, bytes]:
        published = self._published
        silent_s = self._clock() - published.at_s
        ailments = list(published.ailments)
        if silent_s > self._stalled_s:
            ailments.append(f"its loop has stood still for {silent_s:.0f} s")
        text = "; ".join(ailments) or "healthy"
        return (503 if ailments else 200), "text/plain; charset=utf-8", f"{text}\n".encode()

    def __enter__(self) -> MetricsServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Collected(Collector):
    """What was published, as Prometheus' client wants it."""

    def __init__(self, published: Callable[[], Published]) -> None:
        self._published = published

    def collect(self) -> Iterable[Metric]:
        published = self._published()
        for name, value in sorted(published.gauges.items()):
            yield GaugeMetricFamily(f"pot_lab_{name}", name.replace("_", " "), value=value)
        for name, value in sorted(published.totals.items()):
            yield UnknownMetricFamily(f"pot_lab_{name}", name.replace("_", " "), value=value)


class _MetricsHttp(ThreadingHTTPServer):
    """Answers at most `_MOST_REQUESTS` at once; whoever comes beyond that is hung up on."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._places = threading.BoundedSemaphore(_MOST_REQUESTS)
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, handler)

    def process_request(self, request: object, client_address: object) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)  # type: ignore[arg-type]
        else:
            self.shutdown_request(request)  # type: ignore[arg-type]

    def process_request_thread(self, request: object, client_address: object) -> None:
        try:
            super().process_request_thread(request, client_address)  # type: ignore[arg-type]
        finally:
            self._places.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hung up is nothing to report."""


class _MetricsRequest(BaseHTTPRequestHandler):
    """GET of two paths, and nothing else."""

    timeout = _REQUEST_S
    answers: ClassVar[Mapping[str, Callable[[], tuple[int, str, bytes]]]] = {}

    def do_GET(self) -> None:
        """Answer a path that there is."""
        answer = self.answers.get(self.path.partition("?")[0])
        status, kind, body = (404, "text/plain", b"there are /metrics and /healthz\n") if answer is None else answer()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *values: object) -> None:
        """Scrapes are not logged."""
