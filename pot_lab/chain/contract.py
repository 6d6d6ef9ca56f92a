"""The compiled contracts in Python: their bytecode, how to call them, how to read their events and errors.

Everything comes from `contracts/artifacts.json`, which is built from the Solidity beside it and committed (chain.md,
"Compiling"). Nothing here connects to a node.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from importlib import resources
from typing import Any

from pot_lab.chain import abi
from pot_lab.chain.errors import BadArtifact, ChainReverted
from pot_lab.crypto.canonical import keccak256
from pot_lab.crypto.identity import format_address, parse_address
from pot_lab.errors import Malformed

_EXTRA_ERRORS: tuple[dict[str, Any], ...] = (
    {"name": "Error", "inputs": [{"name": "reason", "type": "string"}]},
    {"name": "Panic", "inputs": [{"name": "code", "type": "uint256"}]},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contracts:
    """Where a network's contracts are (20-byte addresses), and on which chain.

    `first_block` is the chain's height before the first of them: where a watcher begins.
    """

    chain_id: int
    token: bytes
    registry: bytes
    escrow: bytes
    settlement: bytes
    first_block: int = 0

    def as_table(self) -> dict[str, int | str]:
        """As `network.toml` holds it: addresses as checksummed hex."""
        return {
            field.name: value if isinstance(value := getattr(self, field.name), int) else format_address(value)
            for field in fields(self)
        }

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Contracts:
        """Read what `as_table` wrote; other keys are left alone.

        Raises:
            Malformed: a field is missing or is not an address.
        """

        def number(name: str, value: Any) -> int:
            if not isinstance(value, int) or value < 0:
                raise Malformed(f"{name} is a whole number", seen=value)
            return value

        def address(name: str) -> bytes:
            text = table.get(name)
            if not isinstance(text, str):
                raise Malformed(f"the address of the {name} contract is missing", seen=text)
            return parse_address(text)

        return cls(
            chain_id=number("chain_id", table.get("chain_id")),
            token=address("token"),
            registry=address("registry"),
            escrow=address("escrow"),
            settlement=address("settlement"),
            first_block=number("first_block", table.get("first_block", 0)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One function of a contract."""

    name: str
    selector: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def call_data(self, arguments: Sequence[Any]) -> bytes:
        """Selector and encoded arguments."""
        return self.selector + abi.encode(self.inputs, arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractEvent:
    """One event of a contract; `topic` is the first topic of its logs."""

    name: str
    topic: bytes
    fields: tuple[tuple[str, str, bool], ...]

    def read(self, topics: Sequence[bytes], data: bytes) -> dict[str, Any]:
        """Field values by name.

        Raises:
            Malformed: the log is of another event, or of another contract's.
        """
        indexed = [(name, type_) for name, type_, is_indexed in self.fields if is_indexed]
        plain = [(name, type_) for name, type_, is_indexed in self.fields if not is_indexed]
        if len(topics) != 1 + len(indexed) or topics[0] != self.topic:
            raise Malformed(f"a log is not a {self.name} event", seen=len(topics), wanted=1 + len(indexed))
        values = {name: abi.decode([type_], topic)[0] for (name, type_), topic in zip(indexed, topics[1:], strict=True)}
        return values | dict(
            zip([name for name, _ in plain], abi.decode([type_ for _, type_ in plain], data), strict=True)
        )


class Interface:
    """One contract's functions and events by name, and its creation code.

    Args:
        name: PoTToken, StakeRegistry, OrderEscrow, RewardSettlement or PaperMultisig.
    Raises:
        BadArtifact: there is no such contract.
    """

    def __init__(self, name: str) -> None:
        try:
            entry = artifacts()["contracts"][name]
        except KeyError:
            raise BadArtifact("no such contract was compiled", seen=name) from None
        self.name = name
        self.functions: dict[str, Function] = {}
        self.events: dict[str, ContractEvent] = {}
        self._constructor: tuple[str, ...] = ()
        self._bytecode: str = entry["bytecode"]
        for item in entry["abi"]:
            inputs = tuple(abi.type_of(field) for field in item.get("inputs", ()))
            signature = f"{item.get('name')}({','.join(inputs)})".encode()
            if item["type"] == "function":
                outputs = tuple(abi.type_of(field) for field in item["outputs"])
                self.functions[item["name"]] = Function(
                    name=item["name"], selector=keccak256(signature)[:4], inputs=inputs, outputs=outputs
                )
            elif item["type"] == "event":
                named = tuple((f["name"], t, f["indexed"]) for f, t in zip(item["inputs"], inputs, strict=True))
                self.events[item["name"]] = ContractEvent(name=item["name"], topic=keccak256(signature), fields=named)
            elif item["type"] == "constructor":
                self._constructor = inputs

    def creation(self, arguments: Sequence[Any]) -> bytes:
        """Data of the transaction that creates the contract."""
        return bytes.fromhex(self._bytecode) + abi.encode(self._constructor, arguments)


@lru_cache(maxsize=8)
def interface(name: str) -> Interface:
    """The interface of one contract, made once."""
    return Interface(name)


@lru_cache(maxsize=1)
def artifacts() -> dict[str, Any]:
    """The committed build: `compiler`, `settings`, `sources`, `libraries` (SHA-256 by file) and `contracts`.

    Raises:
        BadArtifact: the file is damaged.
    """
    try:
        content = json.loads(
            resources.files("pot_lab.chain").joinpath("contracts", "artifacts.json").read_text("utf-8")
        )
    except (OSError, ValueError) as error:
        raise BadArtifact(f"the compiled contracts cannot be read: {error}") from error
    if not isinstance(content, dict) or "contracts" not in content:
        raise BadArtifact("the compiled contracts do not have their shape")
    return content


def artifact_troubles() -> list[str]:
    """Every Solidity file beside the build that is not the one it was made from; empty if all are."""
    folder, wanted = resources.files("pot_lab.chain").joinpath("contracts"), dict(artifacts().get("sources", {}))
    seen = {
        each.name: hashlib.sha256(each.read_bytes()).hexdigest()
        for each in folder.iterdir()
        if each.name.endswith(".sol")
    }
    return [
        f"{name} is not the file that the contracts were compiled from"
        for name in sorted({*seen, *wanted})
        if seen.get(name) != wanted.get(name)
    ]


def read_revert(data: bytes, transaction: bytes | None = None) -> ChainReverted:
    """The named error, with its arguments, that a contract returned on failure; the same on every kind of node."""
    if not data:
        return ChainReverted("Reverted", transaction=transaction)
    known = _errors().get(data[:4])
    if known is None:
        return ChainReverted("Unknown", (data,), transaction=transaction)
    name, types, names = known
    try:
        values = abi.decode(types, data[4:])
    except Malformed:
        return ChainReverted(name, (data[4:],), transaction=transaction)
    readable = tuple(
        value.rstrip(b"\0").decode("ascii", "replace") if field == "name" and type_ == "bytes32" else value
        for field, type_, value in zip(names, types, values, strict=True)
    )
    return ChainReverted(name, readable, transaction=transaction)


@lru_cache(maxsize=1)
def _errors() -> dict[bytes, tuple[str, tuple[str, ...], tuple[str, ...]]]:
    items = [*_EXTRA_ERRORS]
    for entry in artifacts()["contracts"].values():
        items += [item for item in entry["abi"] if item["type"] == "error"]
    found = {}
    for item in items:
        types = tuple(abi.type_of(field) for field in item["inputs"])
        selector = keccak256(f"{item['name']}({','.join(types)})".encode())[:4]
        found[selector] = (str(item["name"]), types, tuple(field["name"] for field in item["inputs"]))
    return found
