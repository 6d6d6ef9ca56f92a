"""The extension in a real Jupyter Server: who may look, what is seen, and what a follower gets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tornado.httpclient
from jupyter_server.auth import Authorizer

from pot_lab.errors import PotLabError
from pot_lab.protocol.errors import UnknownOrder
from pot_lab.server.deltas import Listener
from pot_lab.server.feed import NetworkFeed
from pot_lab.server.handlers import FEED
from pot_lab.server.source import find_source

PATIENCE_S = 240


class Unreachable(PotLabError):
    """As the network's client raises it."""


class ScriptedSource:
    """A source whose ledger the test writes: the feed's counterpart, so that its every turn can be had at will."""

    def __init__(self) -> None:
        self.name = "scripted"
        self.height, self.up = 1, 4
        self.cards: dict[str, dict[str, Any]] = {}
        self.order_list: list[dict[str, Any]] = []
        self.failure: Exception | None = None
        self.wake: Callable[[], None] = lambda: None
        self.closed = 0

    def network(self) -> dict[str, Any]:
        if self.failure is not None:
            raise self.failure
        up = [{"index": index, "reachable": index < self.up} for index in range(4)]
        return {"name": self.name, "aggregators": up, "needed": 3, "height": self.height, "time_ms": 0}

    def orders(self) -> list[dict[str, Any]]:
        return self.order_list

    def order(self, order_id: str) -> dict[str, Any]:
        if order_id not in self.cards:
            raise UnknownOrder("the ledger has no such order", seen=order_id)
        return dict(self.cards[order_id])

    def on_change(self, wake: Callable[[], None]) -> None:
        self.wake = wake

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def jp_server_config(jp_server_config: dict[str, Any]) -> dict[str, Any]:
    return {"ServerApp": {"jpserver_extensions": {"pot_lab.server": True}, "allow_unauthenticated_access": False}}


@pytest.fixture
def source() -> ScriptedSource:
    return ScriptedSource()


@pytest.fixture
def feed(jp_serverapp, source: ScriptedSource, tmp_path: Path) -> Iterator[NetworkFeed]:
    made = NetworkFeed(lambda: source, home_folder=tmp_path, interval_s=3600)  # it moves only when the source says so
    jp_serverapp.web_app.settings[FEED] = made
    yield made
    made.stop()


async def read(ws) -> dict[str, Any]:
    """The next message: the whole state, or what changed."""
    message = await asyncio.wait_for(ws.read_message(), PATIENCE_S)
    assert message is not None, "the server closed the stream"
    told = json.loads(message)
    assert told["time_ms"] > 0
    return told.get("whole") or told["changes"]


async def read_cards(ws) -> dict[str, Any]:
    """The next cards; what else changed before is passed over."""
    while "cards" not in (told := await read(ws)):
        pass
    return told["cards"]


async def test_the_installed_extension_is_enabled_by_its_own_config(jp_serverapp) -> None:
    import pot_lab.server

    assert "pot_lab.server" in jp_serverapp.extension_manager.extensions
    assert pot_lab.server._jupyter_server_extension_points()[0]["app"].name == "pot_lab"


async def test_one_look_shows_the_network(feed, source, jp_fetch) -> None:
    source.order_list = [{"id": "aa", "phase": "TRAINING"}]
    snapshot = json.loads((await jp_fetch("pot-lab", "snapshot")).body)
    assert snapshot["network"]["name"] == "scripted"
    assert snapshot["orders"] == source.order_list
    assert snapshot["problem"] == ""
    assert snapshot["jobs"] == []


async def test_nobody_looks_without_the_token(feed, http_server_client, jp_base_url) -> None:
    with pytest.raises(tornado.httpclient.HTTPClientError) as refused:
        await http_server_client.fetch(f"{jp_base_url}pot-lab/snapshot")
    assert refused.value.code == 403


async def test_nobody_follows_without_the_token(feed, http_server_client, jp_base_url, jp_http_port) -> None:
    import tornado.websocket

    url = f"ws://localhost:{jp_http_port}{jp_base_url}pot-lab/stream"
    with pytest.raises(tornado.httpclient.HTTPClientError) as refused:
        await tornado.websocket.websocket_connect(url)
    assert refused.value.code == 403


class DenyingAuthorizer(Authorizer):
    """Lets everybody do everything but look at this extension."""

    def is_authorized(self, handler: Any, user: Any, action: str, resource: str) -> bool:
        return resource != "pot_lab"


@pytest.mark.parametrize("path", ["snapshot", "stream"])
async def test_a_user_whom_the_authorizer_denies_it_sees_nothing_on_any_route(
    path: str, feed, jp_serverapp, jp_fetch, jp_ws_fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(jp_serverapp.web_app.settings, "authorizer", DenyingAuthorizer(parent=jp_serverapp))
    with pytest.raises(tornado.httpclient.HTTPClientError) as refused:
        await (jp_fetch if path == "snapshot" else jp_ws_fetch)("pot-lab", path)
    assert refused.value.code == 403


async def test_every_route_asks_the_authorizer(jp_serverapp) -> None:
    from pot_lab.server import handlers

    shown = [one for one in vars(handlers).values() if isinstance(one, type) and hasattr(one, "auth_resource")]
    own = [one for one in shown if one.__module__ == handlers.__name__]
    assert {one.auth_resource for one in own} == {"pot_lab"} and len(own) == 2


async def test_a_follower_gets_the_snapshot_and_then_every_change(feed, source, jp_ws_fetch) -> None:
    ws = await jp_ws_fetch("pot-lab", "stream")
    assert (await read(ws))["network"]["height"] == 1
    source.height = 2
    source.wake()
    assert (await read(ws))["network"]["height"] == 2
    late = await jp_ws_fetch("pot-lab", "stream")
    assert (await read(late))["network"]["height"] == 2
    ws.close()
    late.close()


async def test_when_the_network_is_gone_the_last_view_stays_and_says_so(feed, source, jp_ws_fetch) -> None:
    ws = await jp_ws_fetch("pot-lab", "stream")
    await read(ws)
    source.failure = Unreachable("too few aggregators answered", seen=0, wanted=2)
    source.wake()
    stale = await read(ws)
    assert stale["problem"] == "too few aggregators answered (seen: 0, wanted: 2)"
    assert "network" not in stale  # the last view stays
    assert source.closed == 1
    source.failure, source.height = None, 7
    feed._wake.set()
    assert (await read(ws))["network"]["height"] == 7
    ws.close()


async def test_a_failure_nobody_foresaw_is_logged_and_survived(feed, source, jp_ws_fetch) -> None:
    ws = await jp_ws_fetch("pot-lab", "stream")
    await read(ws)
    source.failure = KeyError("a secret detail")
    source.wake()
    problem = (await read(ws))["problem"]
    assert "log" in problem
    assert "secret" not in problem
    source.failure = None
    feed._wake.set()
    assert (await read(ws))["problem"] == ""
    ws.close()


async def test_a_slow_follower_gets_the_newest_in_one_difference() -> None:
    listener = Listener(asyncio.get_running_loop())
    listener.offer({"number": 0, "orders": [], "cards": {}})
    assert (await listener.next())["whole"]["number"] == 0
    for number in range(1, 100):
        listener.offer({"number": number, "orders": [{"id": "a", "claims": number}], "cards": {}})
    told = await listener.next()
    assert told["changes"] == {"number": 99, "orders": {"ids": ["a"], "changed": [{"id": "a", "claims": 99}]}}


async def test_only_what_changed_is_sent(feed, source, jp_ws_fetch) -> None:
    source.order_list = [{"id": f"{number}", "claims": 0} for number in range(50)]
    ws = await jp_ws_fetch("pot-lab", "stream")
    assert len((await read(ws))["orders"]) == 50
    source.order_list = [{"id": "50", "claims": 0}, {"id": "0", "claims": 7}, *source.order_list[1:49]]
    source.wake()
    changes = await read(ws)
    assert set(changes) == {"orders", "read_ms", "orders_ms"}
    assert changes["orders"]["changed"] == source.order_list[:2]
    assert changes["orders"]["ids"] == [one["id"] for one in source.order_list]
    ws.close()


async def test_a_follower_gets_the_cards_that_it_asked_for_and_no_others(feed, source, jp_ws_fetch) -> None:
    mine, others = "ab" * 32, "cd" * 32
    source.cards = {
        mine: {"id": mine, "phase": "TRAINING", "claims": 0, "read_ms": 1},
        others: {"id": others, "phase": "TRAINING", "claims": 0, "read_ms": 1},
    }
    first, second = await jp_ws_fetch("pot-lab", "stream"), await jp_ws_fetch("pot-lab", "stream")
    assert (await read(first))["cards"] == {}
    await read(second)
    await first.write_message(json.dumps({"follow": [mine, "ee" * 32]}))
    assert await read_cards(first) == {mine: source.cards[mine]}
    await second.write_message(json.dumps({"follow": [others]}))
    assert await read_cards(second) == {others: source.cards[others]}
    source.cards[mine] = {**source.cards[mine], "claims": 5, "read_ms": 2}
    source.wake()
    assert (await read_cards(first))[mine]["claims"] == 5
    await first.write_message(json.dumps({"follow": []}))
    first.close()
    second.close()


async def test_a_card_that_was_only_read_again_is_not_sent_again(source, tmp_path) -> None:
    feed, order_id = NetworkFeed(lambda: source, home_folder=tmp_path), "ab" * 32
    listener = Listener(asyncio.get_running_loop())
    listener.follow([order_id])
    feed._listeners.add(listener)
    source.cards[order_id] = {"id": order_id, "phase": "TRAINING", "read_ms": 1}
    feed._look(source)
    assert (await listener.next())["whole"]["cards"][order_id]["read_ms"] == 1
    source.cards[order_id] = {"id": order_id, "phase": "TRAINING", "read_ms": 9}
    source.height = 2
    feed._look(source)
    assert "cards" not in (await listener.next())["changes"]


async def test_the_card_of_an_order_that_ended_is_read_once(source, tmp_path) -> None:
    feed, order_id = NetworkFeed(lambda: source, home_folder=tmp_path), "ab" * 32
    listener = Listener(asyncio.get_running_loop())
    listener.follow([order_id])
    feed._listeners.add(listener)
    source.cards[order_id] = {"id": order_id, "phase": "ENDED", "read_ms": 1}
    feed._look(source)
    source.cards.clear()
    feed._look(source)
    assert order_id in feed._state["cards"]


@pytest.mark.parametrize(
    "message",
    [
        "no json",
        "[]",
        '{"follow": "ab"}',
        '{"follow": ["AB"]}',
        '{"follow": [7]}',
        '{"follow": [], "sign": true}',
        json.dumps({"follow": ["ab" * 32] * 65}),
        '{"follow": []' + " " * 9_000 + "}",
        b"\xff\xfe",
    ],
)
async def test_anything_else_that_a_follower_sends_ends_its_stream(feed, jp_ws_fetch, message) -> None:
    ws = await jp_ws_fetch("pot-lab", "stream")
    await read(ws)
    await ws.write_message(message, binary=isinstance(message, bytes))
    assert await asyncio.wait_for(ws.read_message(), PATIENCE_S) is None
    assert ws.close_code == 1008


async def test_a_state_says_when_it_was_read_and_since_when_the_network_is_stopped(source, tmp_path) -> None:
    feed = NetworkFeed(lambda: source, home_folder=tmp_path)
    feed._look(source)
    first = feed._state
    assert first["read_ms"] > 0 and first["network"]["stopped_ms"] == 0
    source.up = 2
    feed._look(source)
    stopped_ms = feed._state["network"]["stopped_ms"]
    assert stopped_ms >= first["read_ms"]
    source.height = 2
    feed._look(source)
    assert feed._state["network"]["stopped_ms"] == stopped_ms
    read_ms = feed._state["read_ms"]
    source.failure = Unreachable("too few aggregators answered")
    feed._look(source)
    assert feed._state["read_ms"] == read_ms  # what was not read is not stamped
    source.failure, source.up = None, 3
    feed._look(source)
    assert feed._state["network"]["stopped_ms"] == 0


def test_the_own_account_is_found_by_its_keystore_without_opening_it(tmp_path, monkeypatch) -> None:
    from pot_lab.crypto.identity import Identity, format_address
    from pot_lab.crypto.keystore import TESTNET_WORK_FACTOR, save_keystore
    from pot_lab.server.source import own_address

    monkeypatch.setenv("POT_LAB_HOME", str(tmp_path))
    monkeypatch.delenv("POT_LAB_ACCOUNT", raising=False)
    assert own_address("local") == ""
    identity, folder = Identity.generate(), tmp_path / "networks" / "local" / "accounts" / "client"
    folder.mkdir(parents=True)
    save_keystore(folder / "account.json", identity, "nobody types this", work_factor=TESTNET_WORK_FACTOR)
    assert own_address("local") == format_address(identity.address)
    assert own_address("another") == ""
    monkeypatch.setenv("POT_LAB_ACCOUNT", str(folder / "account.json"))
    assert own_address("another") == format_address(identity.address)
    (folder / "account.json").write_text('{"address": 7}')
    assert own_address("local") == ""


async def test_stopping_the_server_ends_the_stream(feed, jp_ws_fetch) -> None:
    ws = await jp_ws_fetch("pot-lab", "stream")
    await read(ws)
    feed.stop()
    assert await asyncio.wait_for(ws.read_message(), PATIENCE_S) is None


async def test_without_a_network_the_hint_says_how_to_start_one(jp_serverapp, jp_fetch, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("POT_LAB_HOME", str(tmp_path))
    jp_serverapp.web_app.settings[FEED] = feed = NetworkFeed(find_source)
    snapshot = json.loads((await jp_fetch("pot-lab", "snapshot")).body)
    feed.stop()
    assert snapshot["network"] is None
    assert "pot-lab testnet up" in snapshot["problem"]


async def test_jobs_of_this_host_are_listed_with_their_progress(jp_serverapp, jp_fetch, tmp_path) -> None:
    from pot_lab.jobs.registry import JobEventLog, write_json

    folder = tmp_path / "jobs" / "mine"
    folder.mkdir(parents=True)
    write_json(folder / "job.json", {"kind": "provider", "parameters": {}, "created_ms": 5})
    write_json(folder / "state.json", {"state": "running"})
    JobEventLog(folder / "events.jsonl").emit("progress", cell=1, data={"step": 3, "total": 9})
    jp_serverapp.web_app.settings[FEED] = feed = NetworkFeed(lambda: None, home_folder=tmp_path)
    (job,) = json.loads((await jp_fetch("pot-lab", "snapshot")).body)["jobs"]
    feed.stop()
    assert job == {
        "id": "mine",
        "kind": "provider",
        "order": "",
        "state": "lost",  # no process holds its lock
        "created_ms": 5,
        "ended_ms": 0,
        "cell": None,
        "progress": {"step": 3, "total": 9},
        "error": None,
    }
