"""Everything that reads bytes from outside, as functions of bytes alone: they return, or raise a PotLabError.

Each target comes with seeds, good inputs from which a fuzzer starts. `test_fuzz_targets.py` mutates them in the default
suite; `fuzz.py` gives them to a coverage-guided fuzzer for as long as one likes.
"""

from __future__ import annotations

import json
import socket
import tempfile
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, get_args

import msgspec
from nacl import bindings

from pot_lab.chain import abi
from pot_lab.chain.contract import Contracts, read_revert
from pot_lab.chain.watcher import ChainWatcher
from pot_lab.consensus.messages import Message, decode_message, encode_message
from pot_lab.consensus.records import LogRecord, decode_record, encode_record
from pot_lab.crypto.canonical import decode, encode, sha256
from pot_lab.crypto.link import Link
from pot_lab.crypto.sealed_model import KeyBox, KeyBoxes, check_key_boxes
from pot_lab.judging.helper.answer import answer
from pot_lab.judging.records import HelperReply, HelperRequest, JudgeBody
from pot_lab.network.aggregator.durable_log import DurableLog
from pot_lab.network.config import NetworkConfig
from pot_lab.network.wire import (
    MAX_PEER_FRAME_BYTES,
    Answer,
    Question,
    RequestRefused,
    decode_answer,
    decode_question,
    encode_frame,
)
from pot_lab.network.wire_codes import error_from_wire
from pot_lab.network.zmtp.connection import Connection
from pot_lab.network.zmtp.curve import ClientHandshake, ServerHandshake, check_metadata
from pot_lab.network.zmtp.framing import FrameReader
from pot_lab.network.zmtp.framing import encode_frame as encode_zmtp_frame
from pot_lab.protocol.application import LedgerApplication
from pot_lab.protocol.records import ChainEvent, OrderRecord
from pot_lab.protocol.transactions import Put, Register, open_transaction, sign
from pot_lab.protocol.views import OrderQuery
from pot_lab.scoring import Transcript, load_graph, load_weights, parse_transcript, score_function, unpack_dataset
from pot_lab.simulator.people import Cast, cast_of
from tests.scoring.graphs import document

HASH = sha256(b"seed")


class Target(NamedTuple):
    """One reader: `read` gets the bytes; `seeds` are bytes that it takes."""

    read: Callable[[bytes], object]
    seeds: tuple[bytes, ...]


def example(type_: Any) -> Any:
    """A value of a record's type, so that seeds follow when records change."""

    def value(of: msgspec.inspect.Type) -> Any:
        match of:
            case msgspec.inspect.IntType():
                return 3
            case msgspec.inspect.CustomType(cls=wide):
                return wide(3)
            case msgspec.inspect.BytesType(min_length=low, max_length=high):
                return HASH * 3 if low is None and high is None else (HASH * 3)[: high or low]
            case msgspec.inspect.StrType():
                return "text"
            case msgspec.inspect.BoolType():
                return True
            case msgspec.inspect.EnumType(cls=enumeration):
                return next(iter(enumeration))
            case msgspec.inspect.VarTupleType(item_type=item):
                return (value(item), value(item))
            case msgspec.inspect.TupleType(item_types=items):
                return tuple(value(item) for item in items)
            case msgspec.inspect.DictType(key_type=key, value_type=item):
                return {value(key): value(item)}
            case msgspec.inspect.UnionType(types=types):
                return value(types[0])
            case msgspec.inspect.StructType(cls=cls, fields=fields):
                return cls(**{field.name: value(field.type) for field in fields})
        raise AssertionError(of)

    return value(msgspec.inspect.type_info(type_))


# The readers.


@cache
def _cast() -> Cast:
    return cast_of(4)


@cache
def _application() -> LedgerApplication:
    return LedgerApplication(_cast().genesis)


def _message(data: bytes) -> object:
    return decode_message(data, limit_bytes=MAX_PEER_FRAME_BYTES)


def _transaction(data: bytes) -> object:
    return open_transaction(data, _cast().network_id)


def _ledger_query(data: bytes) -> object:
    name, _, arguments = data.partition(b"\0")
    return _application().query(name.decode("latin-1"), arguments)


def _refusal(data: bytes) -> object:
    answer = decode_answer(data)
    if isinstance(answer, RequestRefused):
        return str(error_from_wire(answer.code, answer.message, answer.seen, answer.wanted))
    return answer


_ABI = ("uint256", "address", "bool", "bytes32", "bytes", "string", "uint64[]", "(address,uint256)[]", "bytes[2]")


def _abi(data: bytes) -> object:
    return abi.decode(_ABI, data)


@cache
def _watcher() -> ChainWatcher:
    places = {name: bytes([i]) * 20 for i, name in enumerate(("token", "registry", "escrow", "settlement"), 1)}
    return ChainWatcher("http://127.0.0.1:1", Contracts(chain_id=1337, **places), 0)


def _chain_log(data: bytes) -> object:
    """A log as a node answers it, up to the bytes that would be attested."""
    try:
        log = json.loads(data)
    except (ValueError, RecursionError):
        return None  # `JsonRpc` refuses that before
    return encode(_watcher()._read(log, 0, 1 << 62))


def _log_file(data: bytes) -> object:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        path.write_bytes(data)
        log = DurableLog(path, bytes(32), "flush")
        try:
            return list(log.records())
        finally:
            log.close()


def _network_file(data: bytes) -> object:
    try:
        table = tomllib.loads(data.decode())
    except (ValueError, RecursionError):
        return None  # `load` refuses that before
    return NetworkConfig.from_table(table)


def _zmtp_frames(data: bytes) -> object:
    reader, found = FrameReader(1_000), []
    reader.feed(data)
    while (frame := reader.take()) is not None:
        found.append(frame)
    return found


def _zmtp_handshake(data: bytes) -> object:
    """Bytes in the place of any command of a handshake, and its properties in the clear."""
    secret, public = bytes(range(32)), bindings.crypto_scalarmult_base(bytes(range(32)))
    if data[:1] == b"p":
        return check_metadata(data[1:])
    server = ServerHandshake(secret, public, b"ROUTER", lambda key: True)
    if data[:1] == b"i":
        server.answer(ClientHandshake(secret, public, public, b"DEALER").opening())
    return server.answer(data[1:])


def _zmtp_connection(data: bytes) -> object:
    """What a client with a key sends once it is connected; the first byte says whether it is a command."""
    secret, public = bytes(range(32)), bindings.crypto_scalarmult_base(bytes(range(32)))
    client = ClientHandshake(secret, public, public, b"DEALER")
    server = ServerHandshake(secret, public, b"ROUTER", lambda key: True)
    client.answer(server.answer(client.answer(server.answer(client.opening()))))
    here, there = socket.socketpair()
    with here, there:
        connection = Connection(here, server, limit_bytes=1_000, unsent_limit_bytes=1_000)
        connection._greeted = True
        there.sendall(encode_zmtp_frame(client.channel.seal(data[1:], is_command=data[:1] == b"c")))  # type: ignore[union-attr]
        connection.flush()
        connection.read()
        found = connection.take()
        connection.flush()
        return found


@cache
def _graph() -> Any:
    return load_graph(_graph_seed())


def _weights(data: bytes) -> object:
    return load_weights(_graph(), data)


# Their seeds.

ZMTP_PROPERTIES = b"\x0bSocket-Type\0\0\0\6DEALER\x08Identity\0\0\0\0"


def _hello_seed() -> bytes:
    secret, public = bytes(range(32)), bindings.crypto_scalarmult_base(bytes(range(32)))
    return ClientHandshake(secret, public, public, b"DEALER").opening()


def _log_file_seed() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        log = DurableLog(path, bytes(32), "flush")
        for record in (b"first", b"second" * 20, b""):
            log.append(record)
        log.close()
        return path.read_bytes()


def _abi_seed() -> bytes:
    pairs = [(bytes(20), 5), (b"\1" * 20, 6)]
    return abi.encode(_ABI, [7, bytes(20), True, HASH, b"bytes", "text", [1, 2], pairs, [b"a", b"b" * 40]])


def _chain_log_seeds() -> tuple[bytes, ...]:
    found = []
    for (address, topic), (event, _) in _watcher()._readers.items():
        indexed = sum(is_indexed for _, _, is_indexed in event.fields)
        log = {
            "address": "0x" + address.hex(),
            "blockNumber": "0x5",
            "logIndex": "0x0",
            "data": "0x" + (bytes(31) + b"\7").hex() * (len(event.fields) - indexed),
            "topics": ["0x" + topic.hex(), *("0x" + bytes(31).hex() + "01",) * indexed],
            "removed": False,
        }
        found.append(json.dumps(log).encode())
    return tuple(found)


def _graph_seed() -> bytes:
    from pot_lab.scoring.graph.model_graph import encode_graph

    return encode_graph(document())


def _weights_seed() -> bytes:
    import torch

    from pot_lab.scoring.tensor_file import write_tensors

    return write_tensors({"layer.weight": torch.ones(2, 3), "layer.bias": torch.ones(2)})


def _dataset_seed() -> bytes:
    import torch

    from pot_lab.scoring.dataset import pack_dataset

    return pack_dataset(torch.ones(4, 3), torch.zeros(4, dtype=torch.int64))


def _network_file_seed() -> bytes:
    entries = "".join(
        f'[[aggregators]]\nindex = {i}\nhost = "127.0.0.1"\npeer_port = {9000 + i}\nclient_port = {9100 + i}\n'
        f'curve_public = "{"abcdefghij"[i] * 40}"\naddress = "0x{bytes([i + 1] * 20).hex()}"\n'
        f'sealing_public = "{HASH.hex()}"\n'
        for i in range(4)
    )
    return f'network_id = "{HASH.hex()}"\nname = "toy"\n{entries}[store]\nurl = "https://example.org"\n'.encode()


def _signed(body: Any) -> bytes:
    return sign(_cast().network_id, body, _cast().client, 1)


def _records(type_: type[Any]) -> Target:
    return Target(lambda data: decode(data, type_, limit_bytes=1 << 16), (encode(example(type_)),))


@cache
def _transcript_seed() -> bytes:
    return Transcript.of(score_function("accuracy/1"), [1, 0, 1], [False] * 3).data


def _key_boxes(raw: bytes) -> KeyBoxes:
    found = decode(raw, KeyBoxes, limit_bytes=1 << 16)
    check_key_boxes(found, len(found.boxes))
    return found


def _judging_seed(kind: type) -> bytes:
    return encode(HelperRequest(number=1, wall_s=1, body=example(kind)))


def _judging_request(raw: bytes) -> object:
    """Decoded and answered; paths in seeds lead to no file."""
    return answer(decode(raw, HelperRequest, limit_bytes=1 << 20).body)


def targets() -> dict[str, Target]:
    """All of them, by name."""
    revert = abi.encode(["string"], ["no"])
    return {
        "message": Target(_message, tuple(encode_message(example(each)) for each in get_args(Message))),
        "question": Target(decode_question, tuple(encode_frame(example(each)) for each in get_args(Question))),
        "answer": Target(_refusal, tuple(encode_frame(example(each)) for each in get_args(Answer))),
        "zmtp frames": Target(
            _zmtp_frames, (encode_zmtp_frame(b"x") + encode_zmtp_frame(bytes(300), is_command=True),)
        ),
        "zmtp handshake": Target(_zmtp_handshake, (b"p" + ZMTP_PROPERTIES, b"h" + _hello_seed(), b"i" + bytes(400))),
        "zmtp connection": Target(_zmtp_connection, (b"c\x04PING\0\1context", b"m" + bytes(100), b"c\x04PONG")),
        "log record": Target(decode_record, tuple(encode_record(example(each)) for each in get_args(LogRecord))),
        "log file": Target(_log_file, (_log_file_seed(),)),
        "transaction": Target(_transaction, (_signed(Register(0)), _signed(Put(_cast().order(1)[0])))),
        "ledger query": Target(_ledger_query, (b"network\0", b"order\0" + encode(OrderQuery(HASH)), b"orders\0")),
        "order": _records(OrderRecord),
        "chain event": _records(ChainEvent),
        "link": _records(Link),
        "network file": Target(_network_file, (_network_file_seed(),)),
        "abi": Target(_abi, (_abi_seed(),)),
        "revert": Target(read_revert, (b"\x08\xc3\x79\xa0" + revert, b"\x4e\x48\x7b\x71" + HASH)),
        "chain log": Target(_chain_log, _chain_log_seeds()),
        "graph": Target(load_graph, (_graph_seed(),)),
        "weights": Target(_weights, (_weights_seed(),)),
        "dataset": Target(unpack_dataset, (_dataset_seed(),)),
        "transcript": Target(lambda raw: parse_transcript(raw, count=3), (_transcript_seed(),)),
        "key boxes": Target(_key_boxes, (encode(KeyBoxes(HASH, (KeyBox(HASH, b"box"), KeyBox(HASH, HASH)))),)),
        "judging request": Target(_judging_request, tuple(map(_judging_seed, get_args(JudgeBody)))),
        "judging reply": _records(HelperReply),
    }
