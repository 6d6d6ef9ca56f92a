"""`network.toml`: everything public that a process must know to join a network.

Aggregators with their addresses and keys, the chain, the store, the ledger's parameters. One file a network, the same
for aggregators, miners and notebooks; it holds no secret. Everything in it is checked here once, so nobody else has to.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from pot_lab.agreement.quorum import check_size, faulty, quorum
from pot_lab.crypto.identity import format_address, parse_address
from pot_lab.errors import PotLabError, one_of
from pot_lab.files import replace_durably
from pot_lab.network.errors import BadConfig
from pot_lab.network.network_file import (
    Z85_KEY,
    AggregatorTable,
    ChainTable,
    NetworkTable,
    StoreTable,
    convert_table,
)

MAX_CONFIG_BYTES = 1024 * 1024
DURABILITIES = ("fsync", "flush")


class AggregatorEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One aggregator, as everyone sees it.

    Attributes:
        index: its place in the set, from 0.
        host: IP address or name.
        peer_port, client_port: TCP ports for other aggregators and for clients.
        custody_port: TCP port where its custody is served over HTTP; 0 if it is not.
        curve_public: its CURVE key, 40 characters of Z85.
        address: its account, 20 bytes; its votes are signed with this key.
        sealing_public: its X25519 key, 32 bytes; shares of test-data keys are sealed to it.
    """

    index: int
    host: str
    peer_port: int
    client_port: int
    custody_port: int = 0
    curve_public: str
    address: bytes
    sealing_public: bytes

    @property
    def peer_url(self) -> str:
        """Where other aggregators connect."""
        return f"tcp://{_in_url(self.host)}:{self.peer_port}"

    @property
    def client_url(self) -> str:
        """Where clients connect."""
        return f"tcp://{_in_url(self.host)}:{self.client_port}"

    @property
    def custody_url(self) -> str:
        """Where the blobs in its custody are read; empty if it serves none."""
        return f"http://{_in_url(self.host)}:{self.custody_port}" if self.custody_port else ""


class ChainConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The chain that holds the money.

    Attributes:
        rpc_url: where a node answers JSON-RPC; several nodes with commas between them.
        chain_id: the number that the chain's transactions are signed for.
        token, registry, escrow, settlement: the contracts' addresses, 20 bytes each.
        confirmations: how many blocks must be on top of an event's block before it is attested.
        first_block: the block from which watchers read.
        max_fee_gwei: what a transaction may cost for each unit of gas, in gwei of the chain's own coin.
    """

    rpc_url: str
    chain_id: int
    token: bytes
    registry: bytes
    escrow: bytes
    settlement: bytes
    confirmations: int = 1
    first_block: int = 0
    max_fee_gwei: int = 500


class NetworkConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A network.

    Attributes:
        network_id: 32 bytes that every signature names.
        name: what people call it.
        aggregators: the set, by index.
        chain: None for a network without one (benchmarks).
        store_url: where blobs are put by default.
        private_links: whether links of orders and models may lead to private addresses; None if the store is at one.
        parameters: the ledger's parameters, handed on as they are.
        durability: "fsync" (votes survive a power cut) or "flush" (they survive the process only).
        handovers: how the set of aggregators changed since, each proved by the set before (`seats.handovers_of`); they
            only save the way from the first set, which a newcomer could not go once none of it is reached any more.
        approvals: the founding aggregators' signatures over this file (`founding.terms`), by index; none in a testnet.
    """

    network_id: bytes
    name: str
    aggregators: tuple[AggregatorEntry, ...]
    chain: ChainConfig | None = None
    store_url: str = ""
    private_links: bool | None = None
    parameters: dict[str, Any] = {}
    durability: str = "fsync"
    handovers: tuple[bytes, ...] = ()
    approvals: tuple[bytes, ...] = ()

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
            raise BadConfig(f"{path} is not TOML: {error}") from error

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> NetworkConfig:
        """Check a parsed `network.toml`; raises BadConfig, which names the key, its value and what is wanted."""
        file = convert_table(table, NetworkTable)
        store = convert_table(file.store, StoreTable, "store.")
        config = cls(
            network_id=_from_hex(file.network_id),
            name=file.name,
            aggregators=tuple(_aggregator(entry, f"aggregators[{i}].") for i, entry in enumerate(file.aggregators)),
            chain=None if file.chain is None else _chain(file.chain),
            store_url=store.url,
            private_links=store.private_links,
            parameters=file.parameters,
            durability=file.durability,
            handovers=tuple(map(bytes.fromhex, file.handovers)),
            approvals=tuple(map(bytes.fromhex, file.approvals)),
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
        for name in ("curve_public", "address", "peer_url", "client_url", "custody_url"):
            values = [value for entry in self.aggregators if (value := getattr(entry, name))]
            twice = next((value for value in values if values.count(value) > 1), None)
            if twice is not None:
                raise BadConfig(f"two aggregators share a {name}", seen=twice)
        if self.durability not in DURABILITIES:
            raise BadConfig("durability is unknown", seen=self.durability, wanted=one_of(self.durability, DURABILITIES))

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
                    **({"custody_port": entry.custody_port} if entry.custody_port else {}),
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
                "max_fee_gwei": chain.max_fee_gwei,
            }
        if self.store_url:
            table["store"] = {"url": self.store_url}
            if self.private_links is not None:
                table["store"]["private_links"] = self.private_links
        if self.handovers:
            table["handovers"] = [each.hex() for each in self.handovers]
        if self.approvals:
            table["approvals"] = [each.hex() for each in self.approvals]
        if self.parameters:
            table["parameters"] = self.parameters
        return table


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def is_curve_key(text: str) -> bool:
    """Whether text has the form of a CURVE key in Z85."""
    return Z85_KEY.match(text) is not None


class Listening(NamedTuple):
    """Where an aggregator listens: TCP ports for other aggregators, for clients, and for its custody over HTTP."""

    host: str
    peer_port: int
    client_port: int
    custody_port: int


def parse_listening(words: Sequence[str]) -> Listening:
    """Where an aggregator listens, of the words that a person typed: a host and three ports.

    Raises:
        BadConfig: a port is no TCP port, or two are the same.
    """
    host, *typed = words
    ports = [int(text) if text.isdecimal() and len(text) <= 5 else 0 for text in typed]
    for text, port in zip(typed, ports, strict=True):
        if not 1 <= port <= 65_535:
            raise BadConfig("invalid TCP port to listen at", seen=text, wanted="1 .. 65535")
    if len(set(ports)) < len(ports):
        raise BadConfig(
            "two of the ports for aggregators, clients and custody are the same", seen=ports, wanted="three ports"
        )
    return Listening(host, *ports)


def _aggregator(table: Any, where: str) -> AggregatorEntry:
    entry = convert_table(table, AggregatorTable, where)
    return AggregatorEntry(
        index=entry.index,
        host=entry.host,
        peer_port=entry.peer_port,
        client_port=entry.client_port,
        custody_port=entry.custody_port,
        curve_public=entry.curve_public,
        address=_address(entry.address, where + "address"),
        sealing_public=_from_hex(entry.sealing_public),
    )


def _chain(table: Any) -> ChainConfig:
    chain = convert_table(table, ChainTable, "chain.")
    return ChainConfig(
        rpc_url=chain.rpc_url,
        chain_id=chain.chain_id,
        token=_address(chain.token, "chain.token"),
        registry=_address(chain.registry, "chain.registry"),
        escrow=_address(chain.escrow, "chain.escrow"),
        settlement=_address(chain.settlement, "chain.settlement"),
        confirmations=chain.confirmations,
        first_block=chain.first_block,
        max_fee_gwei=chain.max_fee_gwei,
    )


def _from_hex(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def _address(text: str, key: str) -> bytes:
    try:
        return parse_address(text)
    except PotLabError as error:
        raise BadConfig(f"network.toml: {key} is invalid: {error.message}", seen=text, wanted=error.wanted) from error
