"""`network.toml`: everything public that a process must know to join a network.

Aggregators with their addresses and keys, the chain, the store, the ledger's parameters. One file a network, the same
for aggregators, miners and notebooks; it holds no secret. Whatever it says is checked here once, so nobody else has to.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from pot_lab.agreement.quorum import check_size, faulty, quorum
from pot_lab.crypto.identity import format_address, parse_address
from pot_lab.errors import PotLabError
from pot_lab.files import replace_durably
from pot_lab.network.errors import BadConfig

MAX_CONFIG_BYTES = 1024 * 1024
DURABILITIES = ("fsync", "flush")


class AggregatorEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One aggregator, as everyone sees it.

    Attributes:
        index: its place in the set, from 0.
        host: IP address or name.
        peer_port, client_port: TCP ports for other aggregators and for clients.
        curve_public: its CURVE key, 40 characters of Z85.
        address: its account, 20 bytes; its votes are signed with this key.
        sealing_public: its X25519 key, 32 bytes; shares of test-data keys are sealed to it.
    """

    index: int
    host: str
    peer_port: int
    client_port: int
    curve_public: str
    address: bytes
    sealing_public: bytes

    @property
    def peer_url(self) -> str:
        """Where other aggregators connect."""
        return f"tcp://{self.host}:{self.peer_port}"

    @property
    def client_url(self) -> str:
        """Where clients connect."""
        return f"tcp://{self.host}:{self.client_port}"


class ChainConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The chain that holds the money; contract addresses are 20 bytes. Watchers begin at `first_block`."""

    rpc_url: str
    chain_id: int
    token: bytes
    registry: bytes
    escrow: bytes
    settlement: bytes
    confirmations: int = 1
    first_block: int = 0


class NetworkConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A network.

    Attributes:
        network_id: 32 bytes that every signature names.
        name: what people call it.
        aggregators: the set, by index.
        chain: None for a network without one (benchmarks).
        store_url: where blobs are put by default.
        parameters: the ledger's parameters, handed on as they are.
        durability: "fsync" (votes survive a power cut) or "flush" (they survive the process only).
        handovers: how the set of aggregators changed since, each proved by the set before (`seats.handovers_of`); they
            only save the way from the first set, which a newcomer could not go once none of it is reached any more.
    """

    network_id: bytes
    name: str
    aggregators: tuple[AggregatorEntry, ...]
    chain: ChainConfig | None = None
    store_url: str = ""
    parameters: dict[str, Any] = {}
    durability: str = "fsync"
    handovers: tuple[bytes, ...] = ()

    @property
    def n(self) -> int:
        """How many aggregators there are."""
        return len(self.aggregators)

    @property
    def f(self) -> int:
        """How many of them may be faulty."""
        return faulty(self.n)

    @property
    def q(self) -> int:
        """How many of them decide."""
        return quorum(self.n)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> NetworkConfig:
        """Read and check a `network.toml`.

        Raises:
            BadConfig: no such file, no TOML, or a field that is missing or wrong; the message names it.
        """
        try:
            size_bytes = os.path.getsize(path)
            if size_bytes > MAX_CONFIG_BYTES:
                raise BadConfig(f"{path} is too large", seen=size_bytes, wanted=f"at most {MAX_CONFIG_BYTES} bytes")
            with open(path, "rb") as file:
                return cls.from_table(tomllib.load(file))
        except OSError as error:
            raise BadConfig(f"cannot read {path}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BadConfig(f"{path} is no TOML: {error}") from error

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> NetworkConfig:
        """Check a parsed `network.toml`; raises BadConfig."""
        chain = table.get("chain")
        config = cls(
            network_id=_hex(table, "network_id", 32),
            name=_field(table, "name", str),
            aggregators=tuple(_aggregator(entry) for entry in _field(table, "aggregators", list)),
            chain=None if chain is None else _chain(chain),
            store_url=_field(table.get("store", {}), "url", str, ""),
            parameters=_field(table, "parameters", dict, {}),
            durability=_field(table, "durability", str, "fsync"),
            handovers=tuple(_handover(each) for each in _field(table, "handovers", list, [])),
        )
        config.check()
        return config

    def check(self) -> None:
        """Raise BadConfig unless the parts fit together."""
        try:
            check_size(self.n)
        except PotLabError as error:
            raise BadConfig("a network has a bad number of aggregators", seen=self.n, wanted=error.wanted) from error
        if [entry.index for entry in self.aggregators] != list(range(self.n)):
            indices = [entry.index for entry in self.aggregators]
            raise BadConfig("aggregators are not listed by index", seen=indices, wanted=f"0 .. {self.n - 1}")
        for name in ("curve_public", "address", "peer_url", "client_url"):
            values = [getattr(entry, name) for entry in self.aggregators]
            twice = next((value for value in values if values.count(value) > 1), None)
            if twice is not None:
                raise BadConfig(f"two aggregators share a {name}", seen=twice)
        if self.durability not in DURABILITIES:
            raise BadConfig("durability is unknown", seen=self.durability, wanted=" or ".join(DURABILITIES))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write this network's `network.toml`, all or nothing."""
        self.check()
        import tomli_w  # only founders of networks write one

        try:
            text = tomli_w.dumps(self.to_table())
        except TypeError as error:
            raise BadConfig(
                f"network.toml cannot hold this: {error}", wanted="text, number, truth value, list or table"
            ) from error
        replace_durably(Path(path), text.encode())

    def to_table(self) -> dict[str, Any]:
        """The table that `from_table` reads."""
        table: dict[str, Any] = {
            "network_id": self.network_id.hex(),
            "name": self.name,
            "durability": self.durability,
            "aggregators": [
                {
                    "index": entry.index,
                    "host": entry.host,
                    "peer_port": entry.peer_port,
                    "client_port": entry.client_port,
                    "curve_public": entry.curve_public,
                    "address": format_address(entry.address),
                    "sealing_public": entry.sealing_public.hex(),
                }
                for entry in self.aggregators
            ],
        }
        if self.chain is not None:
            chain = self.chain
            table["chain"] = {
                "rpc_url": chain.rpc_url,
                "chain_id": chain.chain_id,
                **{
                    name: format_address(getattr(chain, name)) for name in ("token", "registry", "escrow", "settlement")
                },
                "confirmations": chain.confirmations,
                "first_block": chain.first_block,
            }
        if self.store_url:
            table["store"] = {"url": self.store_url}
        if self.handovers:
            table["handovers"] = [each.hex() for each in self.handovers]
        if self.parameters:
            table["parameters"] = self.parameters
        return table


_REQUIRED: Any = object()


def _field(table: Any, name: str, type_: type, default: Any = _REQUIRED) -> Any:
    if not isinstance(table, Mapping):
        raise BadConfig(f"network.toml: the table around {name} is none", seen=table)
    value = table.get(name, default)
    if value is _REQUIRED:
        raise BadConfig(f"network.toml lacks {name}")
    if not isinstance(value, type_) or (type_ is int and isinstance(value, bool)):
        raise BadConfig(f"network.toml: {name} has the wrong type", seen=value, wanted=type_.__name__)
    return value


def _hex(table: Any, name: str, size_bytes: int) -> bytes:
    text = _field(table, name, str)
    try:
        raw = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raw = b""
    if len(raw) != size_bytes:
        raise BadConfig(f"network.toml: {name} is not hex of the right length", seen=text, wanted=f"{size_bytes} bytes")
    return raw


def _handover(text: Any) -> bytes:
    try:
        return bytes.fromhex(text)
    except (TypeError, ValueError):
        raise BadConfig("network.toml: a handover is no hex", seen=text) from None


def _address(table: Any, name: str) -> bytes:
    try:
        return parse_address(_field(table, name, str))
    except PotLabError as error:
        raise BadConfig(f"network.toml: {name}: {error}") from error


def parse_listening(words: Sequence[str]) -> tuple[str, int, int]:
    """Where an aggregator listens, (host, peer port, client port), of the words that a person typed.

    Raises:
        BadConfig: a port is no TCP port, or both are the same.
    """
    host, *typed = words
    ports = [int(text) if text.isdecimal() and len(text) <= 5 else 0 for text in typed]
    for text, port in zip(typed, ports, strict=True):
        if not 1 <= port <= 65_535:
            raise BadConfig("where it listens has no TCP port", seen=text, wanted="1 .. 65535")
    peer_port, client_port = ports
    if peer_port == client_port:
        raise BadConfig("aggregators and clients reach it at one port", seen=peer_port, wanted="two ports")
    return host, peer_port, client_port


def _port(table: Any, name: str) -> int:
    port = _field(table, name, int)
    if not 1 <= port <= 65_535:
        raise BadConfig(f"network.toml: {name} is no TCP port", seen=port, wanted="1 .. 65535")
    return int(port)


def _aggregator(table: Any) -> AggregatorEntry:
    curve_public = _field(table, "curve_public", str)
    if not is_curve_key(curve_public):
        raise BadConfig("network.toml: curve_public is no CURVE key", seen=curve_public, wanted="40 characters of Z85")
    return AggregatorEntry(
        index=_field(table, "index", int),
        host=_field(table, "host", str),
        peer_port=_port(table, "peer_port"),
        client_port=_port(table, "client_port"),
        curve_public=curve_public,
        address=_address(table, "address"),
        sealing_public=_hex(table, "sealing_public", 32),
    )


def _chain(table: Any) -> ChainConfig:
    return ChainConfig(
        rpc_url=_field(table, "rpc_url", str),
        chain_id=_field(table, "chain_id", int),
        token=_address(table, "token"),
        registry=_address(table, "registry"),
        escrow=_address(table, "escrow"),
        settlement=_address(table, "settlement"),
        confirmations=_field(table, "confirmations", int, 1),
        first_block=_field(table, "first_block", int, 0),
    )


_Z85 = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#")


def is_curve_key(text: str) -> bool:
    """Whether text has the form of a CURVE key in Z85."""
    return len(text) == 40 and set(text) <= _Z85
