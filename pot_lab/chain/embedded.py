"""The testnet's own chain: one process that serves an embedded EVM chain as loopback JSON-RPC.

`python -m pot_lab.chain.embedded --port 0 --port-file F` binds 127.0.0.1, writes the port to F once it listens, and
serves until SIGTERM or SIGINT. It serves enough of the Ethereum JSON-RPC for web3.py and for this package. State is in
memory; with `--journal FILE` a restart replays it.

It must not be reachable from elsewhere: loopback only, JSON content type and a loopback Host header only, so no web
page in a browser can use it. It is a chain for tests and demonstrations; a network with value needs a real one.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Final

from pot_lab.chain.errors import EvmRefused, EvmReverted
from pot_lab.chain.evm import (
    BLOCK_GAS,
    TRANSACTION_GAS,
    Block,
    ContractCall,
    EmbeddedChain,
    Log,
)
from pot_lab.crypto.canonical import keccak256
from pot_lab.crypto.identity import format_address, parse_address
from pot_lab.errors import Malformed, PortTaken, PotLabError
from pot_lab.files import replace_durably

_log = logging.getLogger(__name__)

DEFAULT_CHAIN_ID: Final = 31_337
MAX_REQUEST_BYTES: Final = 1 << 20
MAX_BATCH: Final = 100
MAX_LOGS: Final = 10_000
MAX_BRACKETS: Final = 4_000
"""Opening brackets in one request.

The engine lifts Python's recursion limit, so nesting must be bounded before parsing.
"""
_HOST: Final = "127.0.0.1"
_IDLE_S: Final = 300

_PARSE_ERROR, _INVALID_REQUEST, _NO_METHOD, _BAD_PARAMETERS = -32700, -32600, -32601, -32602
_REFUSED, _LIMIT, _INTERNAL, _REVERTED = -32000, -32005, -32603, 3


class _RpcFault(Exception):
    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        super().__init__(message)
        self.error: dict[str, Any] = {"code": code, "message": message} | ({} if data is None else {"data": data})


class RpcService:
    """Answers JSON-RPC requests on a chain; one at a time.

    Args:
        chain: the chain to serve.
        control: also serve evm_mine, evm_increaseTime, evm_snapshot and evm_revert, which only tests need.
    """

    def __init__(self, chain: EmbeddedChain, *, control: bool = False) -> None:
        self._chain = chain
        self._lock = threading.Lock()
        self._methods: dict[str, Callable[..., Any]] = {
            "web3_clientVersion": lambda: "pot-lab/embedded",
            "net_version": lambda: str(chain.chain_id),
            "net_listening": lambda: True,
            "eth_chainId": lambda: hex(chain.chain_id),
            "eth_syncing": lambda: False,
            "eth_accounts": list,
            "eth_blockNumber": lambda: hex(chain.height),
            "eth_gasPrice": lambda: "0x0",
            "eth_maxPriorityFeePerGas": lambda: "0x0",
            "eth_feeHistory": self._fee_history,
            "eth_getBlockByNumber": self._block_by_number,
            "eth_getBlockByHash": self._block_by_hash,
            "eth_getLogs": self._logs,
            "eth_call": lambda call, at="latest": _hex(chain.call(_call(call), self._at(at))),
            "eth_estimateGas": lambda call, at="latest": hex(chain.estimate_gas(_call(call), self._at(at))),
            "eth_sendRawTransaction": self._send,
            "eth_getTransactionReceipt": self._receipt,
            "eth_getTransactionByHash": self._transaction,
            "eth_getTransactionCount": lambda who, at="latest": hex(chain.nonce(_address(who), self._at(at))),
            "eth_getBalance": lambda who, at="latest": hex(chain.balance(_address(who), self._at(at))),
            "eth_getCode": lambda who, at="latest": _hex(chain.code(_address(who), self._at(at))),
            "eth_getStorageAt": self._storage,
        }
        if control:
            self._methods |= {
                "evm_mine": self._mine,
                "evm_increaseTime": lambda seconds: chain.advance_clock(_integer(seconds)),
                "evm_snapshot": lambda: hex(chain.height),
                "evm_revert": self._revert,
            }

    def answer(self, body: bytes) -> bytes:
        """Answer one request or a batch; never raises."""
        if body.count(b"[") + body.count(b"{") > MAX_BRACKETS:
            return _dump(_fault(None, _PARSE_ERROR, f"a request has at most {MAX_BRACKETS} brackets"))
        try:
            request = json.loads(body)
        except (ValueError, RecursionError):
            return _dump(_fault(None, _PARSE_ERROR, "the request is not JSON"))
        if isinstance(request, list):
            if not 0 < len(request) <= MAX_BATCH:
                return _dump(_fault(None, _INVALID_REQUEST, f"a batch holds 1 to {MAX_BATCH} requests"))
            return _dump([self._one(entry) for entry in request])
        return _dump(self._one(request))

    def _one(self, request: Any) -> dict[str, Any]:
        if not isinstance(request, dict) or not isinstance(request.get("method"), str):
            return _fault(None, _INVALID_REQUEST, "a request is an object with a method")
        name, parameters, id_ = request["method"], request.get("params") or [], request.get("id")
        method = self._methods.get(name)
        if method is None:
            return _fault(id_, _NO_METHOD, f"method {name[:64]} is not served here")
        if not isinstance(parameters, list) or len(parameters) > 4:
            return _fault(id_, _BAD_PARAMETERS, "params is a short list")
        try:
            with self._lock:
                result = method(*parameters)
        except _RpcFault as fault:
            return {"jsonrpc": "2.0", "id": id_, "error": fault.error}
        except EvmReverted as error:
            return _fault(id_, _REVERTED, error.message, _hex(error.data))
        except EvmRefused as error:
            return _fault(id_, _REFUSED, str(error))
        except (Malformed, TypeError, KeyError, ValueError, AttributeError) as error:
            return _fault(id_, _BAD_PARAMETERS, f"{name}: {error}")
        except Exception:
            _log.exception("request %s failed", name)
            return _fault(id_, _INTERNAL, f"{name} failed inside the chain; see its log")
        return {"jsonrpc": "2.0", "id": id_, "result": result}

    # ------------------------------------------------------------ methods

    def _number(self, tag: Any) -> int:
        if tag in ("latest", "pending", "safe", "finalized"):
            return self._chain.height
        return 0 if tag == "earliest" else _integer(tag)

    def _at(self, tag: Any) -> Block:
        block = self._chain.block(self._number(tag))
        if block is None:
            raise _RpcFault(_REFUSED, f"no block {tag}")
        return block

    def _block_by_number(self, tag: Any, full: bool = False) -> dict[str, Any] | None:
        block = self._chain.block(self._number(tag))
        return None if block is None else self._block_json(block, full)

    def _block_by_hash(self, name: Any, full: bool = False) -> dict[str, Any] | None:
        block = self._chain.block_by_hash(_word(name))
        return None if block is None else self._block_json(block, full)

    def _block_json(self, block: Block, full: bool) -> dict[str, Any]:
        header = block.header
        return {
            "number": hex(block.number),
            "hash": _hex(block.hash),
            "parentHash": _hex(block.parent),
            "nonce": _hex(header.nonce),
            "sha3Uncles": _hex(header.uncles_hash),
            "logsBloom": _hex(header.bloom.to_bytes(256, "big")),
            "transactionsRoot": _hex(header.transaction_root),
            "stateRoot": _hex(header.state_root),
            "receiptsRoot": _hex(header.receipt_root),
            "miner": format_address(header.coinbase),
            "difficulty": "0x0",
            "totalDifficulty": "0x0",
            "extraData": _hex(header.extra_data),
            "size": "0x0",
            "gasLimit": hex(BLOCK_GAS),
            "gasUsed": hex(block.gas_used),
            "timestamp": hex(block.timestamp),
            "baseFeePerGas": hex(header.base_fee_per_gas),
            "mixHash": _hex(header.mix_hash),
            "uncles": [],
            "transactions": [self._transaction(_hex(t)) if full else _hex(t) for t in block.transactions],
        }

    def _fee_history(self, count: Any, newest: Any = "latest", percentiles: Any = None) -> dict[str, Any]:
        last = self._number(newest)
        first = max(0, last - min(max(_integer(count), 1), 1_024) + 1)
        blocks = [block for number in range(first, last + 1) if (block := self._chain.block(number))]
        history: dict[str, Any] = {
            "oldestBlock": hex(first),
            "baseFeePerGas": ["0x0"] * (len(blocks) + 1),
            "gasUsedRatio": [block.gas_used / BLOCK_GAS for block in blocks],
        }
        if percentiles:
            history["reward"] = [["0x0"] * min(len(percentiles), 100) for _ in blocks]
        return history

    def _logs(self, wanted: Any) -> list[dict[str, Any]]:
        if "blockHash" in wanted:
            block = self._chain.block_by_hash(_word(wanted["blockHash"]))
            if block is None:
                raise _RpcFault(_REFUSED, "no such block")
            first = last = block.number
        else:
            first, last = self._number(wanted.get("fromBlock", "latest")), self._number(wanted.get("toBlock", "latest"))
        address = wanted.get("address")
        addresses = None
        if address is not None:
            addresses = frozenset(_address(a) for a in _bounded(address if isinstance(address, list) else [address]))
        topics: list[frozenset[bytes] | None] = []
        for topic in _bounded(wanted.get("topics") or [], limit=4):
            listed = topic if isinstance(topic, list) else [topic]
            topics.append(None if topic is None or not listed else frozenset(_word(t) for t in _bounded(listed)))
        found = []
        for log in self._chain.logs(first, last, addresses, topics):
            found.append(self._log_json(log))
            if len(found) > MAX_LOGS:
                raise _RpcFault(_LIMIT, f"more than {MAX_LOGS} logs; ask for fewer blocks")
        return found

    def _log_json(self, log: Log) -> dict[str, Any]:
        block = self._at(hex(log.block))
        return {
            "address": format_address(log.address),
            "topics": [_hex(topic) for topic in log.topics],
            "data": _hex(log.data),
            "blockNumber": hex(log.block),
            "blockHash": _hex(block.hash),
            "transactionHash": _hex(log.transaction),
            "transactionIndex": "0x0",
            "logIndex": hex(log.index),
            "removed": False,
        }

    def _send(self, raw: Any) -> str:
        data = _data(raw)
        known = keccak256(data)
        # A client that lost the answer sends again: the same bytes give the same answer.
        return _hex(known if self._chain.receipt(known) else self._chain.send(data))

    def _receipt(self, name: Any) -> dict[str, Any] | None:
        receipt = self._chain.receipt(_word(name))
        if receipt is None:
            return None
        block = self._at(hex(receipt.block))
        return {
            "transactionHash": _hex(receipt.transaction),
            "transactionIndex": "0x0",
            "blockNumber": hex(block.number),
            "blockHash": _hex(block.hash),
            "from": format_address(receipt.sender),
            "to": None if receipt.to is None else format_address(receipt.to),
            "contractAddress": None if receipt.created is None else format_address(receipt.created),
            "status": hex(int(receipt.succeeded)),
            "gasUsed": hex(receipt.gas_used),
            "cumulativeGasUsed": hex(receipt.gas_used),
            "effectiveGasPrice": "0x0",
            "type": "0x2",
            "logs": [self._log_json(log) for log in receipt.logs],
            "logsBloom": _hex(block.header.bloom.to_bytes(256, "big")),
        }

    def _transaction(self, name: Any) -> dict[str, Any] | None:
        transaction, receipt = self._chain.transaction(_word(name)), self._chain.receipt(_word(name))
        if transaction is None or receipt is None:
            return None
        block = self._at(hex(receipt.block))
        return {
            "hash": _hex(receipt.transaction),
            "type": hex(transaction.type),
            "chainId": hex(self._chain.chain_id),
            "blockHash": _hex(block.hash),
            "blockNumber": hex(block.number),
            "transactionIndex": "0x0",
            "from": format_address(receipt.sender),
            "to": None if receipt.to is None else format_address(receipt.to),
            "nonce": hex(transaction.nonce),
            "gas": hex(transaction.gas),
            "gasPrice": hex(transaction.max_fee),
            "maxFeePerGas": hex(transaction.max_fee),
            "maxPriorityFeePerGas": hex(transaction.max_priority_fee),
            "value": hex(transaction.value),
            "input": _hex(transaction.data),
            "accessList": [],
            "v": hex(transaction.y_parity),
            "yParity": hex(transaction.y_parity),
            "r": hex(transaction.r),
            "s": hex(transaction.s),
        }

    def _storage(self, account: Any, slot: Any, at: Any = "latest") -> str:
        return _hex(self._chain.storage(_address(account), _integer(slot), self._at(at)).to_bytes(32, "big"))

    def _mine(self, *_: Any) -> str:
        self._chain.mine()
        return "0x0"

    def _revert(self, snapshot: Any) -> bool:
        self._chain.rewind(_integer(snapshot))
        return True


# ---------------------------------------------------------------- JSON


def _dump(answer: Any) -> bytes:
    return json.dumps(answer, separators=(",", ":")).encode()


def _fault(id_: Any, code: int, message: str, data: str | None = None) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id_, "error": _RpcFault(code, message, data).error}


def _hex(data: bytes) -> str:
    return "0x" + bytes(data).hex()


def _data(text: Any) -> bytes:
    if not isinstance(text, str) or not text.startswith("0x"):
        raise Malformed("a value is not hexadecimal data", seen=text, wanted="0x…")
    return bytes.fromhex(text[2:])


def _word(text: Any) -> bytes:
    data = _data(text)
    if len(data) != 32:
        raise Malformed("a hash has the wrong length", seen=f"{len(data)} bytes", wanted="32 bytes")
    return data


def _address(text: Any) -> bytes:
    if not isinstance(text, str):
        raise Malformed("a value is not an address", seen=text, wanted="0x and 40 hex digits")
    return parse_address(text)


def _integer(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, str) or not value.startswith("0x") or not 3 <= len(value) <= 66:
        raise Malformed("a value is not a hexadecimal quantity", seen=value, wanted="0x…")
    return int(value[2:], 16)


def _bounded(values: list[Any], limit: int = 100) -> list[Any]:
    if not isinstance(values, list) or len(values) > limit:
        raise Malformed("a filter is too long", wanted=f"at most {limit} values")
    return values


def _call(fields: Any) -> ContractCall:
    gas = min(_integer(fields["gas"]), TRANSACTION_GAS) if "gas" in fields else TRANSACTION_GAS
    return ContractCall(
        sender=_address(fields["from"]) if fields.get("from") else bytes(20),
        to=_address(fields["to"]) if fields.get("to") else None,
        data=_data(fields.get("input") or fields.get("data") or "0x"),
        value=_integer(fields.get("value") or "0x0"),
        gas=gas,
    )


# ---------------------------------------------------------------- HTTP


class _RpcHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_S
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    def do_POST(self) -> None:
        host = (self.headers.get("Host") or "").rsplit(":", 1)[0]
        kind = (self.headers.get("Content-Type") or "").split(";")[0].strip().lower()
        length = self.headers.get("Content-Length") or ""
        if host not in (_HOST, "localhost"):
            self._refuse(403, "this chain is served on loopback only")
        elif kind != "application/json":
            self._refuse(415, "requests are application/json")
        elif not length.isascii() or not length.isdigit():
            self._refuse(411, "a request states its length")
        elif len(length) > 9 or int(length) > MAX_REQUEST_BYTES:
            self._refuse(413, f"a request has at most {MAX_REQUEST_BYTES} bytes")
        else:
            self._reply(200, self.server.service.answer(self.rfile.read(int(length))))

    def _refuse(self, status: int, reason: str) -> None:
        self.close_connection = True
        self._reply(status, _dump(_fault(None, _INVALID_REQUEST, reason)))

    def _reply(self, status: int, body: bytes) -> None:
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        _log.debug(format, *args)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    service: RpcService

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception() if sys.version_info >= (3, 11) else None
        if not isinstance(error, OSError):
            _log.exception("a connection failed")


def listen(service: RpcService, port: int) -> _Server:
    """Bind 127.0.0.1:`port` (0 picks a free one); `server_address[1]` has it. Call `serve_forever` to serve.

    Raises:
        PortTaken: somebody listens there already.
    """
    try:
        server = _Server((_HOST, port), _RpcHandler)
    except OSError as error:
        raise PortTaken(
            f"the chain cannot listen: {error.strerror}", seen=f"{_HOST}:{port}", wanted="a free port"
        ) from error
    server.service = service
    return server


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m pot_lab.chain.embedded", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 picks a free one")
    parser.add_argument("--port-file", type=Path, help="file that receives the port once the chain answers")
    parser.add_argument("--chain-id", type=int, default=DEFAULT_CHAIN_ID)
    parser.add_argument(
        "--accounts", nargs="*", default=[], help="addresses with ether from genesis (gas is free anyway)"
    )
    parser.add_argument("--journal", type=Path, help="file that keeps the chain across restarts")
    parser.add_argument("--control", action="store_true", help="let clients mine, move time and rewind (tests)")
    options = parser.parse_args(arguments)
    # Blocked in every thread and waited for here: a signal that the system hands to a busy thread could not wake this
    # one.
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        accounts = [parse_address(text) for text in options.accounts]
        chain = EmbeddedChain(chain_id=options.chain_id, accounts=accounts, clock=time.time, journal=options.journal)
        server = listen(RpcService(chain, control=options.control), options.port)
    except (PotLabError, OSError) as error:
        print(f"chain: {error}", file=sys.stderr)
        return 1
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="chain-rpc", daemon=True)
    thread.start()
    if options.port_file:
        replace_durably(options.port_file, f"{server.server_address[1]}\n".encode())
    signal.sigwait(signals)
    server.shutdown()
    server.server_close()
    chain.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
