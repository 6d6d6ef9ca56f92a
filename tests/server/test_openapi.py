"""Every route against its published description, with made-up requests (schemathesis).

What a route would do to this host is taken away: nothing is started, stopped, copied or removed here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from pot_lab.server import host_handlers, miner_handlers
from pot_lab.server.feed import NetworkFeed
from pot_lab.server.handlers import FEED
from pot_lab.server.money_handlers import ATTEMPTS, DESK
from pot_lab.server.routes import openapi
from tests.server.test_routes import RecordingDesk

EXAMPLES = 12
PATIENCE_S = 120
CHECKS = [not_a_server_error, status_code_conformance, response_schema_conformance]


@pytest.fixture
def jp_server_config(jp_server_config: dict[str, Any]) -> dict[str, Any]:
    return {"ServerApp": {"jpserver_extensions": {"pot_lab.server": True}, "allow_unauthenticated_access": False}}


class _Ended:
    """A process that has done what it was asked."""

    returncode = 0

    async def communicate(self) -> tuple[bytes, bytes]:
        return b"", b""


@pytest.fixture
def harmless(jp_serverapp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    async def nothing(*command: Any, **options: Any) -> _Ended:
        return _Ended()

    class Started:
        id = "provider-1"

    monkeypatch.setattr(host_handlers.asyncio, "create_subprocess_exec", nothing)
    monkeypatch.setattr(miner_handlers, "start_miner", lambda *given, **options: Started)
    feed = NetworkFeed(lambda: None, home_folder=tmp_path)
    jp_serverapp.web_app.settings.update({DESK: RecordingDesk(), ATTEMPTS: {}, FEED: feed})
    yield
    feed.stop()


def described() -> list[tuple[str, str]]:
    return [(method, path) for path, methods in openapi()["paths"].items() for method in methods]


@pytest.mark.parametrize(("method", "path"), described())
async def test_no_request_that_fits_the_description_is_a_failure(
    method: str,
    path: str,
    harmless,
    http_server_client,
    jp_auth_header,
    jp_http_port,
    jp_base_url,
) -> None:
    """Answers have a status and a body that the description names."""
    schema = schemathesis.openapi.from_dict(openapi())
    schema.config.update(base_url=f"http://localhost:{jp_http_port}{jp_base_url.rstrip('/')}")
    operation = schema[path][method.upper()]
    seen: set[int] = set()

    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE))
    def fitting(case: schemathesis.Case) -> None:
        answer = case.call(headers=jp_auth_header, timeout=PATIENCE_S)
        seen.add(answer.status_code)
        case.validate_response(answer, checks=CHECKS)

    await asyncio.get_running_loop().run_in_executor(None, fitting)
    assert seen and seen <= {200, 400, 404, 413, 422}
    json.dumps(openapi())
