"""What the panel may do through the server: typed, authorised, once, and said in the user's words."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tornado.httpclient

from pot_lab.jobs.registry import JobEventLog, write_json
from pot_lab.notebook.templates import TEMPLATES
from pot_lab.server import desk as desk_module
from pot_lab.server.desk import DeskProcess, DeskRefusal
from pot_lab.server.feed import NetworkFeed
from pot_lab.server.handlers import FEED, StreamHandler
from pot_lab.server.job_reader import JobReader
from pot_lab.server.money_handlers import ATTEMPTS, BODY_LIMIT_BYTES, DESK
from pot_lab.server.routes import ROUTES, openapi
from tests.server.test_extension import DenyingAuthorizer

ORDER = {"template": "wine", "reward": "5", "train_for": "10s"}
SAMPLES = {"name": "tour", "action": "stop", "id": "a-job", "role": "provider"}


@pytest.fixture
def jp_server_config(jp_server_config: dict[str, Any]) -> dict[str, Any]:
    return {"ServerApp": {"jpserver_extensions": {"pot_lab.server": True}, "allow_unauthenticated_access": False}}


class RecordingDesk:
    """Stands for the desk's process: keeps what it was asked, answers what the test wants."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.refusal: DeskRefusal | None = None

    async def ask(self, question: str, what: dict[str, Any]) -> dict[str, Any]:
        self.asked.append((question, what))
        await asyncio.sleep(0)
        if self.refusal is not None:
            raise self.refusal
        return {"order": f"{len(self.asked)}"}

    def stop(self) -> None:
        pass


@pytest.fixture
def desk(jp_serverapp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordingDesk]:
    monkeypatch.setenv("POT_LAB_HOME", str(tmp_path))
    made, feed = RecordingDesk(), NetworkFeed(lambda: None, home_folder=tmp_path)
    jp_serverapp.web_app.settings.update({DESK: made, ATTEMPTS: {}, FEED: feed})
    yield made
    feed.stop()


async def post(jp_fetch, *path: str, body: Any = None) -> tornado.httpclient.HTTPResponse:
    text = body if isinstance(body, str) else json.dumps(body or {})
    return await jp_fetch("pot-lab", *path, method="POST", body=text)


def addresses() -> list[tuple[str, str]]:
    """Each route's method and an address of it."""
    paths = openapi()["paths"]
    return [(method, path.format(**SAMPLES)) for path, methods in paths.items() for method in methods]


async def refused(awaitable: Any) -> tuple[int, dict[str, Any]]:
    with pytest.raises(tornado.httpclient.HTTPClientError) as caught:
        await awaitable
    said = caught.value.response.body
    return caught.value.code, json.loads(said) if said.startswith(b"{") else {}


@pytest.mark.parametrize(("method", "path"), addresses())
async def test_nobody_without_the_token_and_nobody_whom_the_authorizer_denies_it_uses_a_route(
    method: str, path: str, desk, http_server_client, jp_base_url, jp_fetch, jp_serverapp, monkeypatch
) -> None:
    body = {"body": "{}"} if method == "post" else {}
    with pytest.raises(tornado.httpclient.HTTPClientError) as caught:
        await http_server_client.fetch(f"{jp_base_url}{path.lstrip('/')}", method=method.upper(), **body)
    assert caught.value.code == 403
    monkeypatch.setitem(jp_serverapp.web_app.settings, "authorizer", DenyingAuthorizer(parent=jp_serverapp))
    with pytest.raises(tornado.httpclient.HTTPClientError) as caught:
        await jp_fetch(*path.strip("/").split("/"), method=method.upper(), **body)
    assert caught.value.code == 403
    assert desk.asked == []


async def test_a_cookie_without_the_xsrf_token_orders_nothing(desk, http_server_client, jp_base_url, jp_fetch) -> None:
    """Another page in the browser has the cookie sent along, and not the token."""
    login = await jp_fetch("pot-lab", "snapshot")
    cookies = "; ".join(one.split(";")[0] for one in login.headers.get_list("Set-Cookie"))
    with pytest.raises(tornado.httpclient.HTTPClientError) as caught:
        await http_server_client.fetch(
            f"{jp_base_url}pot-lab/orders", method="POST", body=json.dumps(ORDER), headers={"Cookie": cookies}
        )
    assert caught.value.code == 403
    assert desk.asked == []


async def test_a_quote_goes_to_the_desk_as_it_was_typed(desk, jp_fetch) -> None:
    assert json.loads((await post(jp_fetch, "quote", body=ORDER)).body) == {"order": "1"}
    assert desk.asked == [("quote", {**ORDER, "title": "", "baseline": ""})]


async def test_a_refusal_names_the_field(desk, jp_fetch) -> None:
    desk.refusal = DeskRefusal(
        "`reward` is below the network's minimum (seen: 0 POT, wanted: at least 1 POT)", "reward"
    )
    code, told = await refused(post(jp_fetch, "quote", body=ORDER))
    assert (code, told["field"]) == (422, "reward") and "at least 1 POT" in told["message"]


async def test_a_form_that_is_sent_twice_is_ordered_once(desk, jp_fetch) -> None:
    form = {"attempt": "ab" * 16, "order": ORDER}
    first, second = await asyncio.gather(post(jp_fetch, "orders", body=form), post(jp_fetch, "orders", body=form))
    assert first.body == second.body
    assert (await post(jp_fetch, "orders", body=form)).body == first.body
    assert len(desk.asked) == 1
    await post(jp_fetch, "orders", body={**form, "attempt": "cd" * 16})
    assert len(desk.asked) == 2


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("quote", "no json"),
        ("quote", "[]"),
        ("quote", {**ORDER, "reward": 5}),
        ("quote", {**ORDER, "to": "0x00"}),
        ("quote", {**ORDER, "title": "x" * 201}),
        ("quote", {"template": "wine"}),
        ("orders", {"attempt": "short", "order": ORDER}),
        ("orders", ORDER),
        ("miners", {"role": "aggregator"}),
        ("miners", {"role": "provider", "parameters": {"seed": [1]}}),
        ("wallet/collect", {"to": "0x00"}),
        ("jobs/a-job/stop", {"now": True}),
        ("quote", '"\\ud800"'),
        ("quote", '{"template": "Ω\n'),
    ],
)
async def test_a_body_of_another_type_is_refused_before_anything_is_done(path: str, body: Any, desk, jp_fetch) -> None:
    code, told = await refused(post(jp_fetch, *path.split("/"), body=body))
    assert code == 400 and told["message"]
    assert desk.asked == []


async def test_a_large_body_is_refused(desk, jp_fetch) -> None:
    code, _ = await refused(post(jp_fetch, "quote", body="{" + " " * BODY_LIMIT_BYTES + "}"))
    assert code == 413


def make_job(home: Path, state: str) -> Path:
    folder = home / "jobs" / "a-job"
    folder.mkdir(parents=True)
    write_json(folder / "job.json", {"kind": "provider", "parameters": {}, "created_ms": 5, "env": {}})
    write_json(folder / "state.json", {"state": state})
    (folder / "log.txt").write_text("x" * 50_000 + "the end")
    (folder / "output.ipynb").write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": []}))
    return folder


async def test_a_jobs_log_and_notebook_are_shown_by_its_id(desk, jp_fetch, tmp_path) -> None:
    make_job(tmp_path, "done")
    text = json.loads((await jp_fetch("pot-lab", "jobs", "a-job", "log")).body)["text"]
    assert text.endswith("the end") and len(text) < 40_000
    assert json.loads((await jp_fetch("pot-lab", "jobs", "a-job", "notebook")).body)["nbformat"] == 4
    (tmp_path / "jobs" / "a-job" / "output.ipynb").rename(tmp_path / "jobs" / "a-job" / "input.ipynb")
    assert json.loads((await jp_fetch("pot-lab", "jobs", "a-job", "notebook")).body)["nbformat"] == 4


@pytest.mark.parametrize("name", ["..", "%2e%2e", "a%2fb", ".hidden", "no-such-job", "..%2f..%2fetc"])
async def test_no_file_of_anything_else_is_shown(name: str, desk, jp_fetch, tmp_path) -> None:
    make_job(tmp_path, "done")
    code, _ = await refused(jp_fetch("pot-lab", "jobs", name, "log"))
    assert code in (400, 404, 422)


async def test_what_is_done_cannot_be_resumed_and_what_is_unknown_not_stopped(desk, jp_fetch, tmp_path) -> None:
    make_job(tmp_path, "done")
    code, told = await refused(post(jp_fetch, "jobs", "a-job", "resume"))
    assert code == 422 and "done" in told["message"]
    code, told = await refused(post(jp_fetch, "jobs", "another", "stop"))
    assert code == 422 and "no such job" in told["message"]
    assert json.loads((await post(jp_fetch, "jobs", "a-job", "stop")).body) == {"id": "a-job"}  # it has ended already


async def test_a_job_that_was_asked_to_stop_says_that_it_is_stopping(tmp_path) -> None:
    from pot_lab.files import acquire_lock

    folder, reader = make_job(tmp_path, "running"), JobReader(tmp_path)
    lock = acquire_lock(folder / "lock")  # its process lives
    assert reader.jobs()[0]["state"] == "running"
    JobEventLog(folder / "events.jsonl").emit("stop_requested")
    assert reader.jobs()[0]["state"] == "stopping"
    write_json(folder / "state.json", {"state": "running", "started_ms": 2**52})  # it was resumed since
    assert reader.jobs()[0]["state"] == "running"
    os.close(lock)


async def test_the_parameters_of_the_stock_notebook_make_the_form(desk, jp_fetch) -> None:
    told = json.loads((await jp_fetch("pot-lab", "recipes", "provider")).body)["parameters"]
    rate = next(one for one in told if one["name"] == "learning_rate")
    assert (rate["type"], rate["default"]) == ("float", 0.0) and "peak" in rate["about"]
    assert "workspace" not in {one["name"] for one in told}


async def test_a_network_that_cannot_be_stopped_says_why(desk, jp_fetch) -> None:
    code, told = await refused(post(jp_fetch, "networks", "nowhere", "stop"))
    assert code == 422 and "nowhere" in told["message"]


async def test_a_parameter_that_the_notebook_has_not_starts_no_miner(desk, jp_fetch, tmp_path) -> None:
    form = {"role": "provider", "parameters": {"leraning_rate": 0.1}}
    code, told = await refused(post(jp_fetch, "miners", body=form))
    assert code == 422 and "learning_rate" in told["message"]
    assert not (tmp_path / "miners").exists()


# ------------------------------------------------------------------------------------------------- the desk's process

ECHO = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    if asked["ask"] == "die":
        sys.exit(1)
    told = {"error": "no", "field": "reward"} if asked["ask"] == "refuse" else {"answer": asked["with"]}
    print(json.dumps({"id": asked["id"], **told}), flush=True)
"""


async def test_answers_find_their_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk_module, "_COMMAND", ("-c", ECHO))
    desk = DeskProcess()
    told = await asyncio.gather(*(desk.ask("echo", {"number": number}) for number in range(20)))
    assert [one["number"] for one in told] == list(range(20))
    with pytest.raises(DeskRefusal) as refusal:
        await desk.ask("refuse", {})
    assert (str(refusal.value), refusal.value.field) == ("no", "reward")
    with pytest.raises(DeskRefusal, match="whether an order was placed"):
        await desk.ask("die", {})
    assert desk._process is None, "the next question must not go to a process that has ended"
    assert await desk.ask("echo", {"after": 1}) == {"after": 1}  # started anew
    process = desk._process
    desk.stop()
    assert process is not None and await process.wait() == 0


async def test_the_real_desk_starts_and_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("POT_LAB_HOME", str(tmp_path))
    monkeypatch.delenv("POT_LAB_NETWORK", raising=False)
    desk = DeskProcess()
    assert len((await desk.ask("templates", {}))["templates"]) == len(TEMPLATES)
    with pytest.raises(DeskRefusal, match="pot-lab testnet up"):
        await desk.ask("wallet", {})
    desk.stop()


# ------------------------------------------------------------------------------------------------------ the description


def test_every_route_is_described_and_asks_the_authorizer() -> None:
    described = openapi()
    assert len(described["paths"]) == len(ROUTES) - 1  # the stream is a websocket
    assert {getattr(route.handler, "auth_resource", None) for route in ROUTES} == {"pot_lab"}
    assert json.loads(json.dumps(described)) == described
    assert StreamHandler in {route.handler for route in ROUTES}
    names = set(described["components"]["schemas"])
    assert {"OrderForm", "PlacedForm", "MinerForm", "Nothing"} <= names


async def test_the_description_is_published(desk, jp_fetch) -> None:
    assert json.loads((await jp_fetch("pot-lab", "openapi.json")).body)["openapi"] == "3.1.0"


# ------------------------------------------------------------------------------------------------------- made-up input

WORDS = [
    "template",
    "reward",
    "train_for",
    "title",
    "baseline",
    "attempt",
    "order",
    "role",
    "parameters",
    "account",
    "x",
]


def made_up(chance: random.Random, depth: int = 3) -> Any:
    """Some JSON value, often with names and values that the routes know."""
    texts = [
        "wine",
        "provider",
        "5",
        "10s",
        "",
        "ab" * 16,
        "\ud800".encode("utf-8", "replace").decode(),
        "Ω" * 300,
        "../..",
    ]
    plain = [None, True, -1, 2**70, 1.5, *texts]
    if depth == 0 or chance.random() < 0.3:
        return chance.choice(plain)
    if chance.random() < 0.2:
        return [made_up(chance, depth - 1) for _ in range(chance.randrange(4))]
    return {chance.choice(WORDS): made_up(chance, depth - 1) for _ in range(chance.randrange(6))}


@pytest.mark.parametrize("path", ["quote", "orders", "wallet/collect", "jobs/a-job/resume", "miners/no-such/stop"])
async def test_no_made_up_body_is_a_failure_of_the_server(path: str, desk, jp_fetch) -> None:
    chance = random.Random(path)
    for _ in range(60):
        try:
            code = (await post(jp_fetch, *path.split("/"), body=json.dumps(made_up(chance)))).code
        except tornado.httpclient.HTTPClientError as error:
            code = error.code
        assert code in (200, 400, 413, 422)
