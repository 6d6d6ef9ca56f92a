"""The ways to a node: HTTP, WebSocket and IPC, several nodes for one chain, and what a hostile one may not do."""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.server import ServerConnection, serve

from pot_lab.chain.errors import ChainBusy, ChainRefused, ChainUnreachable
from pot_lab.chain.nodes import MAX_ANSWER_BYTES
from pot_lab.chain.rpc import MAX_NODES, JsonRpc
from pot_lab.chain.watcher import ChainWatcher
from pot_lab.errors import Malformed
from tests.chain.test_rpc import answers, node
from tests.chain.world import POT, World, strict_node

Talk = Callable[[dict[str, Any]], Any]
"""What a node answers to a request: the result."""


@contextlib.contextmanager
def talking_node(talk: Talk) -> Iterator[str]:
    """A node over HTTP that says what `talk` says."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            body = json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": talk(request)}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    with _serving(server):
        yield f"http://127.0.0.1:{server.server_address[1]}"


@contextlib.contextmanager
def _serving(server: Any) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


def pass_on(world: World) -> Talk:
    rpc = JsonRpc(world.url)
    return lambda request: rpc.call(request["method"], *request["params"])


@contextlib.contextmanager
def websocket_node(talk: Talk, *, before: Callable[[ServerConnection], None] = lambda _: None) -> Iterator[str]:
    def handle(connection: ServerConnection) -> None:
        for text in connection:
            request = json.loads(text)
            before(connection)
            connection.send(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": talk(request)}))

    with serve(handle, "127.0.0.1", 0) as server, _serving(server):
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"


@contextlib.contextmanager
def ipc_node(path: Path, talk: Talk) -> Iterator[str]:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            for line in self.rfile:
                request = json.loads(line)
                self.wfile.write(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": talk(request)}).encode())

    class Server(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True

    with Server(str(path), Handler) as server, _serving(server):
        yield f"ipc://{path}"


@pytest.fixture(params=["http", "websocket", "ipc"])
def any_way(request: pytest.FixtureRequest, tmp_path: Path, world: World) -> Iterator[str]:
    ways = {"http": talking_node, "websocket": websocket_node, "ipc": lambda talk: ipc_node(tmp_path / "node", talk)}
    with ways[request.param](pass_on(world)) as url:
        yield url


def test_wallet_and_watcher_work_over_every_way(world: World, any_way: str) -> None:
    wallet = type(world.wallet())(any_way, world.contracts, world.client)
    wallet.stake(0, 150 * POT)
    assert wallet.stake_of(world.client.address, 0).bonded_grains == 150 * POT
    wallet.close()
    assert wallet.balance_grains() == 10**5 * POT - 150 * POT, "a closed connection is opened again"
    first = world.contracts.first_block
    assert [e.kind for e in ChainWatcher(any_way, world.contracts, 0, first).poll()] == [
        *["staked"] * 5,
        "signers_rotated",
        "staked",
    ]


@pytest.mark.parametrize("scheme", ["http", "ws"])
def test_a_node_that_is_down_is_followed_by_the_next_and_not_asked_again(world: World, scheme: str) -> None:
    asked: list[str] = []

    def count(request: dict[str, Any]) -> tuple[int, dict[str, Any]] | None:
        asked.append(request["method"])
        return None

    with strict_node(world.url, count) as url:
        rpc = JsonRpc(f"{scheme}://127.0.0.1:9/v3/secret , {url}")
        assert rpc.call("eth_blockNumber") == world.rpc.call("eth_blockNumber")
        assert asked == ["eth_chainId", "eth_blockNumber"]
        rpc.call("eth_blockNumber")
        assert rpc.name == url.removeprefix("http://") and asked.count("eth_chainId") == 1


def test_a_rate_limit_of_one_node_is_met_at_the_next(world: World) -> None:
    limit = {"code": -32005, "message": "project ID request rate exceeded"}
    with strict_node(world.url, lambda _: (429, limit)) as busy:
        wallet = type(world.wallet())(f"{busy},{world.url}", world.contracts, world.client)
        wallet.transfer(world.relayer.address, POT)
        with pytest.raises(ChainBusy):
            JsonRpc(f"{busy},{busy}").call("eth_chainId")
    assert world.wallet().balance_grains(world.relayer.address) == POT


def test_when_no_node_answers_that_is_told() -> None:
    with pytest.raises(ChainUnreachable) as caught:
        JsonRpc("http://127.0.0.1:9/key http://127.0.0.1:11/key").call("eth_chainId")
    assert "key" not in str(caught.value)


def test_nodes_of_two_chains_do_not_stand_in_for_each_other(world: World) -> None:
    up = [True]

    def first(request: dict[str, Any]) -> tuple[int, dict[str, Any]] | None:
        return None if up[0] else (503, {})

    with strict_node(world.url, first) as ours, talking_node(lambda _: "0x38") as other:
        rpc = JsonRpc(f"{ours},{other}")
        rpc.call("eth_blockNumber")
        up[0] = False
        with pytest.raises(ChainRefused, match=r"another chain than the others \(seen: 0x38, wanted: 0x7a69\)"):
            rpc.call("eth_blockNumber")


def test_a_watcher_stops_where_two_nodes_disagree_and_goes_on_when_they_agree(world: World) -> None:
    lie = [True]
    honest = pass_on(world)

    def talk(request: dict[str, Any]) -> Any:
        answer = honest(request)
        forged = lie[0] and request["method"] == "eth_getBlockByNumber"
        return answer | {"hash": "0x" + "66" * 32} if forged else answer

    with talking_node(talk) as forger:
        watcher = ChainWatcher(f"{world.url},{forger}", world.contracts, 0, world.contracts.first_block)
        start = watcher.position
        with pytest.raises(ChainRefused, match="two nodes of the chain disagree"):
            watcher.poll()
        assert watcher.position == start
        lie[0] = False
        assert len(watcher.poll()) == 6


def test_a_second_node_that_lags_or_is_down_does_not_stop_a_watcher(world: World) -> None:
    honest = pass_on(world)
    lagging: Talk = lambda r: None if r["method"] == "eth_getBlockByNumber" else honest(r)  # noqa: E731
    with talking_node(lagging) as behind:
        urls = f"{world.url},{behind},http://127.0.0.1:9"
        assert len(ChainWatcher(urls, world.contracts, 0, world.contracts.first_block).poll()) == 6


def test_a_second_node_that_is_down_is_not_asked_at_every_poll(world: World) -> None:
    asked: list[str] = []

    def down(request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        asked.append(request["method"])
        return 503, {}

    with strict_node(world.url, down) as url:
        watcher = ChainWatcher(f"{world.url},{url}", world.contracts, 0, world.contracts.first_block)
        for _ in range(4):
            watcher.poll()
            world.rpc.call("evm_mine")
    assert asked == ["eth_chainId"]


@pytest.mark.parametrize("lie", ["stands still", "claims too much"])
def test_a_node_without_new_blocks_is_left_for_one_that_has_some(
    world: World, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    honest, ill = pass_on(world), [False]
    stood_at = world.rpc.call("eth_blockNumber")

    def talk(request: dict[str, Any]) -> Any:
        if not ill[0] or request["method"] == "eth_chainId":
            return honest(request)
        if request["method"] == "eth_blockNumber":
            return stood_at if lie == "stands still" else "0xffffff"
        return None

    with talking_node(talk) as url:
        patient = ChainWatcher(f"{url},{world.url}", world.contracts, 0, world.contracts.first_block)
        alone = ChainWatcher(url, world.contracts, 0, world.contracts.first_block)
        for watcher in (patient, alone):
            watcher.poll()
        ill[0] = True
        world.order()
        for watcher in (patient, alone):
            assert watcher.poll() == [], "it may just be late"
            assert watcher._rpc.name == url.removeprefix("http://")
        monkeypatch.setattr("pot_lab.chain.watcher.STANDS_STILL_S", 0.0)
        patient._look_elsewhere_at_s = alone._look_elsewhere_at_s = 0.0
        assert patient.poll() == alone.poll() == []
        assert [event.kind for event in patient.poll()] == ["order_placed"]
        assert alone.poll() == []


def test_a_quiet_chain_makes_nobody_change_nodes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pot_lab.chain.watcher.STANDS_STILL_S", 0.0)
    with talking_node(pass_on(world)) as url:
        watcher = ChainWatcher(f"{world.url},{url}", world.contracts, 0, world.contracts.first_block)
        for _ in range(5):
            watcher.poll()
        assert watcher._rpc.name == world.url.removeprefix("http://")


def test_a_node_that_lost_the_last_block_is_no_reorganisation(world: World) -> None:
    """A load balancer's next node may lag; only another block in its place is a reorganisation."""
    honest, behind = pass_on(world), [False]

    def talk(request: dict[str, Any]) -> Any:
        lost = behind[0] and request["method"] == "eth_getBlockByNumber"
        return None if lost else honest(request)

    with talking_node(talk) as url:
        watcher = ChainWatcher(url, world.contracts, 0, world.contracts.first_block)
        watcher.poll()
        world.order()
        behind[0] = True
        assert watcher.poll() == []
        behind[0] = False
        assert [event.kind for event in watcher.poll()] == ["order_placed"]


def test_blocks_of_chains_with_proof_of_authority_are_read(world: World) -> None:
    """Their extra data are longer than Ethereum's 32 bytes, which web3 refuses without a middleware of its own."""
    honest = pass_on(world)

    def talk(request: dict[str, Any]) -> Any:
        answer = honest(request)
        return answer | {"extraData": "0x" + "ab" * 280} if request["method"] == "eth_getBlockByNumber" else answer

    with talking_node(talk) as url:
        wallet = type(world.wallet())(url, world.contracts, world.client)
        wallet.stake(0, 150 * POT)
        assert len(ChainWatcher(url, world.contracts, 0, world.contracts.first_block).poll()) == 7


def test_a_redirection_is_not_followed() -> None:
    followed: list[bool] = []
    body = b'{"jsonrpc":"2.0","id":1,"result":"0x1"}'

    def elsewhere(connection: socket.socket) -> None:
        followed.append(True)

    for status in ("301 Moved", "307 Temporary Redirect", "308 Permanent Redirect"):
        for content in (b"", body):
            with node(elsewhere) as target:
                head = f"{status}\r\nLocation: {target}"
                with node(answers(content, head)) as url, contextlib.suppress(ChainRefused):
                    JsonRpc(url, timeout_s=120).call("eth_chainId")
    assert followed == []


def test_an_answer_that_never_comes_to_its_end_is_given_up() -> None:
    ended = threading.Event()

    def drip(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        with contextlib.suppress(OSError):
            while not ended.wait(0.02):
                connection.sendall(b" ")

    with node(drip) as url:
        with pytest.raises(ChainUnreachable, match="timed out"):
            JsonRpc(url, timeout_s=0.3).call("eth_chainId")
        ended.set()


def test_a_compressed_answer_is_not_asked_for() -> None:
    heard: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        heard.append(connection.recv(65_536))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n" + b'{"result":"0x1"}')

    with node(behave) as url:
        assert JsonRpc(url, timeout_s=120).call("eth_chainId") == "0x1"
    assert b"Accept-Encoding: identity\r\n" in heard[0]


def test_too_long_an_answer_over_a_websocket_is_not_read() -> None:
    with websocket_node(lambda _: "x" * MAX_ANSWER_BYTES) as url, pytest.raises(ChainUnreachable):
        JsonRpc(url, timeout_s=120).call("eth_chainId")


def test_what_is_no_answer_on_a_websocket_is_skipped() -> None:
    def chatter(connection: ServerConnection) -> None:
        connection.send('{"jsonrpc":"2.0","method":"eth_subscription","params":{}}')
        connection.send('{"jsonrpc":"2.0","id":999,"result":"0x2"}')

    with websocket_node(lambda _: "0x1", before=chatter) as url:
        rpc = JsonRpc(url, timeout_s=120)
        assert [rpc.call("eth_chainId") for _ in range(3)] == ["0x1"] * 3


def test_a_websocket_that_was_closed_is_opened_again_and_a_silent_one_given_up() -> None:
    with websocket_node(lambda _: "0x1") as url:
        rpc = JsonRpc(url, timeout_s=120)
        rpc.call("eth_chainId")
        rpc._nodes[0]._connection.close()  # type: ignore[attr-defined]
        assert rpc.call("eth_chainId") == "0x1"
    release = threading.Event()
    with websocket_node(lambda _: release.wait(240) and "0x1") as url:
        with pytest.raises(ChainUnreachable, match="timed out"):
            JsonRpc(url, timeout_s=0.3).call("eth_chainId")
        release.set()


def test_too_many_nodes_are_refused() -> None:
    with pytest.raises(Malformed, match=f"at most {MAX_NODES}"):
        JsonRpc(",".join(f"http://127.0.0.1:{port}" for port in range(1, MAX_NODES + 2)))


@pytest.mark.parametrize("way", [talking_node, websocket_node])
def test_no_log_holds_an_addresss_key(way: Callable[[Talk], Any], caplog: pytest.LogCaptureFixture) -> None:
    """The libraries log each request's whole address, where somebody asks for their debug messages."""
    caplog.set_level("DEBUG")
    for name in ("web3.providers", "urllib3.connectionpool", "websockets.client"):
        caplog.set_level("DEBUG", name)
    with way(lambda _: "0x1") as url:
        assert JsonRpc(url + "/v3/geheim?token=geheim", timeout_s=120).call("eth_chainId") == "0x1"
    told = [record.getMessage() for record in caplog.records if record.name != "websockets.server"]
    assert not [text for text in told if "geheim" in text]
