"""The embedded chain as a process: web3.py, a client that knows nothing of us, gets along with it."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from web3 import Web3
from web3.exceptions import ContractCustomError

from pot_lab.chain.contract import artifacts
from pot_lab.chain.embedded import MAX_BATCH, MAX_REQUEST_BYTES
from pot_lab.crypto.identity import format_address
from tests.chain.world import POT, World, identity, start_chain, stop


def post(url: str, body: bytes, **headers: str) -> tuple[int, object]:
    parts = urlsplit(url)
    assert parts.hostname
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=240)
    connection.request("POST", "/", body, {"Content-Type": "application/json"} | headers)
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    return response.status, answer


def ask(url: str, method: str, *parameters: object) -> dict[str, object]:
    _, answer = post(url, json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}).encode())
    assert isinstance(answer, dict)
    return answer


def test_web3_sees_what_we_did(world: World) -> None:
    web3 = Web3(Web3.HTTPProvider(world.url))
    assert web3.is_connected() and web3.eth.chain_id == 31_337
    order = world.order(reward=5 * POT)
    escrow = web3.eth.contract(
        address=format_address(world.contracts.escrow), abi=artifacts()["contracts"]["OrderEscrow"]["abi"]
    )
    assert escrow.functions.orders(order.oid).call() == [format_address(world.client.address), 5 * POT]
    (event,) = escrow.events.OrderPlaced().get_logs(from_block=0, argument_filters={"id": order.oid})
    assert event["args"]["reward"] == 5 * POT
    block = web3.eth.get_block("latest", full_transactions=True)
    assert block["transactions"][0]["from"] == format_address(world.client.address)
    assert web3.eth.get_block(block["hash"])["number"] == block["number"] == web3.eth.block_number
    assert web3.eth.get_transaction_receipt(event["transactionHash"])["status"] == 1
    assert web3.eth.get_code(format_address(world.contracts.escrow))
    assert web3.eth.gas_price == 0


def test_web3_can_send_and_is_told_the_contracts_own_error(world: World) -> None:
    web3 = Web3(Web3.HTTPProvider(world.url))
    client = web3.eth.account.from_key(world.client.secret)
    token = web3.eth.contract(
        address=format_address(world.contracts.token), abi=artifacts()["contracts"]["PoTToken"]["abi"]
    )
    to = format_address(world.relayer.address)
    nonce = web3.eth.get_transaction_count(client.address)
    call = token.functions.transfer(to, 3).build_transaction({"from": client.address, "nonce": nonce})
    raw = client.sign_transaction(call).raw_transaction
    name = web3.eth.send_raw_transaction(raw)
    assert web3.eth.wait_for_transaction_receipt(name, poll_latency=0.01)["status"] == 1
    assert web3.eth.send_raw_transaction(raw) == name  # sent again, answered again
    assert world.wallet().balance_grains(world.relayer.address) == 3
    with pytest.raises(ContractCustomError) as caught:
        token.functions.transfer(to, 10**18).build_transaction({"from": client.address})
    selector = Web3.keccak(text="ERC20InsufficientBalance(address,uint256,uint256)")[:4]
    assert str(caught.value.data).startswith("0x" + selector.hex())


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (b"{", -32700),
        (b"[" * 3_999, -32700),
        (b"[" * 1_000_000, -32700),
        (b"[]", -32600),
        (b"7", -32600),
        (b'{"method": 7}', -32600),
        (b'{"method": "eth_nothing"}', -32601),
        (b'{"method": "eth_getBalance", "params": {"a": 1}}', -32602),
        (b'{"method": "eth_getBalance", "params": []}', -32602),
        (b'{"method": "eth_getBalance", "params": ["0x12"]}', -32602),
        (b'{"method": "eth_getBlockByNumber", "params": ["0xzz"]}', -32602),
        (b'{"method": "eth_getLogs", "params": [7]}', -32602),
        (b'{"method": "eth_getLogs", "params": [{"topics": [[], [], [], [], []]}]}', -32602),
        (b'{"method": "eth_call", "params": [{"to": "0x"}]}', -32602),
        (b'{"method": "eth_sendRawTransaction", "params": ["0x02"]}', -32000),
        (b'{"method": "eth_getBalance", "params": ["0x0000000000000000000000000000000000000001", "0xffff"]}', -32000),
    ],
)
def test_a_bad_request_gets_a_json_rpc_error(chain_url: str, request_: bytes, code: int) -> None:
    status, answer = post(chain_url, request_)
    assert status == 200
    assert answer["error"]["code"] == code  # type: ignore[index]
    assert "result" in ask(chain_url, "eth_blockNumber")


def test_batches_are_served_and_bounded(chain_url: str) -> None:
    one = {"jsonrpc": "2.0", "method": "eth_chainId", "params": []}
    _, answers = post(chain_url, json.dumps([one | {"id": i} for i in range(3)]).encode())
    assert [answer["id"] for answer in answers] == [0, 1, 2]  # type: ignore[union-attr,index]
    _, answer = post(chain_url, json.dumps([one] * (MAX_BATCH + 1)).encode())
    assert answer["error"]["code"] == -32600  # type: ignore[index,call-overload]


def test_strangers_and_giants_are_turned_away(chain_url: str) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}'
    assert post(chain_url, body)[0] == 200
    assert post(chain_url, body, Host="evil.example:80")[0] == 403
    assert post(chain_url, body, **{"Content-Type": "text/plain"})[0] == 415
    parts = urlsplit(chain_url)
    for length, status in ((str(MAX_REQUEST_BYTES + 1), 413), ("9" * 30, 413), ("-1", 411), ("x", 411)):
        with socket.create_connection((parts.hostname, parts.port), timeout=240) as connection:  # type: ignore[arg-type]
            head = (
                f"POST / HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\nContent-Length: {length}"
            )
            connection.sendall(head.encode() + b"\r\n\r\n")
            assert connection.recv(100).split(b" ")[1] == str(status).encode()
    assert post(chain_url, body)[0] == 200


def test_time_and_rewinding_are_for_tests_only(tmp_path: Path) -> None:
    process, url = start_chain(tmp_path)
    try:
        for method in ("evm_mine", "evm_increaseTime", "evm_revert"):
            assert ask(url, method)["error"]["code"] == -32601  # type: ignore[index]
    finally:
        assert stop(process) == 0


@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_cleanly_when_asked(tmp_path: Path, signal_: signal.Signals) -> None:
    rich = format_address(identity("rich").address)
    process, url = start_chain(tmp_path, "--accounts", rich)
    try:
        assert int(str(ask(url, "eth_getBalance", rich)["result"]), 16) > 0
        with socket.create_connection(("127.0.0.1", urlsplit(url).port or 0)):  # an idle client must not hold it up
            process.send_signal(signal_)
            assert process.wait(timeout=120) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [(["--accounts", "0x12"], "not an account address"), (["--journal", "/proc/none/journal"], "none")],
)
def test_it_says_in_one_line_why_it_cannot_start(arguments: list[str], reason: str) -> None:
    _cannot_start(arguments, reason)


def test_a_taken_port_is_named(chain_url: str) -> None:
    port = str(urlsplit(chain_url).port)
    _cannot_start(["--port", port], f"Address already in use (seen: 127.0.0.1:{port}, wanted: a free port)")


def _cannot_start(arguments: list[str], reason: str) -> None:
    command = [sys.executable, "-m", "pot_lab.chain.embedded", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2400, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and reason in done.stderr
