"""The tables of `network.toml` as typed structs: what each key must be, and errors that name key, value and rule.

`config.NetworkConfig` is what the rest of the program uses; this is only how it stands in the file.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from pot_lab.network.errors import BadConfig

Table = TypeVar("Table", bound=msgspec.Struct)

Z85_KEY = re.compile(r"\A[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}\Z")
"""A CURVE key as text: 32 bytes in Z85."""

Text = Annotated[str, msgspec.Meta(description="text")]
WholeNumber = Annotated[int, msgspec.Meta(ge=0, description="a whole number, 0 or more")]
Port = Annotated[int, msgspec.Meta(ge=1, le=65_535, description="a TCP port, 1 .. 65535")]
PortOrNone = Annotated[int, msgspec.Meta(ge=0, le=65_535, description="a TCP port, 1 .. 65535, or 0 for none")]
Hex32 = Annotated[str, msgspec.Meta(pattern=r"\A(0x)?[0-9a-fA-F]{64}\Z", description="32 bytes as 64 hex digits")]
HexBytes = Annotated[str, msgspec.Meta(pattern=r"\A([0-9a-fA-F]{2})*\Z", description="bytes as hex digits")]
AddressText = Annotated[
    str, msgspec.Meta(pattern=r"\A0x[0-9a-fA-F]{40}\Z", description="an account: 0x and 40 hex digits")
]
CurveKey = Annotated[str, msgspec.Meta(pattern=Z85_KEY.pattern, description="a CURVE public key: 40 characters of Z85")]
Durability = Annotated[Literal["fsync", "flush"], msgspec.Meta(description="fsync or flush")]


class AggregatorTable(msgspec.Struct, frozen=True, kw_only=True):
    """One `[[aggregators]]` table; see `config.AggregatorEntry`."""

    index: WholeNumber
    host: Text
    peer_port: Port
    client_port: Port
    custody_port: PortOrNone = 0
    curve_public: CurveKey
    address: AddressText
    sealing_public: Hex32


class ChainTable(msgspec.Struct, frozen=True, kw_only=True):
    """The `[chain]` table; see `config.ChainConfig`."""

    rpc_url: Text
    chain_id: WholeNumber
    token: AddressText
    registry: AddressText
    escrow: AddressText
    settlement: AddressText
    confirmations: WholeNumber = 1
    first_block: WholeNumber = 0
    max_fee_gwei: WholeNumber = 500


class StoreTable(msgspec.Struct, frozen=True, kw_only=True):
    """The `[store]` table."""

    url: Text = ""
    private_links: bool | None = None


class NetworkTable(msgspec.Struct, frozen=True, kw_only=True):
    """The whole file; its tables are converted one by one, so that an error can name the one that is wrong."""

    network_id: Hex32
    name: Text
    aggregators: Annotated[list[Any], msgspec.Meta(description="a list of tables")]
    chain: Annotated[dict[str, Any] | None, msgspec.Meta(description="a table")] = None
    store: Annotated[dict[str, Any], msgspec.Meta(description="a table")] = {}
    parameters: Annotated[dict[str, Any], msgspec.Meta(description="a table")] = {}
    durability: Durability = "fsync"
    handovers: Annotated[list[HexBytes], msgspec.Meta(description="a list of hex texts")] = []
    approvals: Annotated[list[HexBytes], msgspec.Meta(description="a list of hex texts")] = []


_MISSING = re.compile(r"Object missing required field `(\w+)`")
_AT = re.compile(r" - at `\$\.(\w+)")


def convert_table(table: object, type_: type[Table], where: str = "") -> Table:
    """One table of the file as its struct; keys that it does not know are ignored.

    Args:
        table: what the TOML parser gave.
        type_: the struct.
        where: the table's name and a dot, for messages; "" for the whole file.
    Raises:
        BadConfig: a key is missing, or its value is of the wrong type or out of bounds; names key, value and rule.
    """
    if not isinstance(table, Mapping):
        raise BadConfig(f"network.toml: {where.rstrip('.')} is not a table", seen=table, wanted="a table")
    try:
        return msgspec.convert(table, type_)
    except msgspec.ValidationError as error:
        missing = _MISSING.search(str(error))
        if missing is not None:
            key = missing[1]
            raise BadConfig(f"network.toml lacks {where}{key}", wanted=_wanted(type_, key)) from None
        at = _AT.search(str(error))
        key = "" if at is None else at[1]
        raise BadConfig(
            f"network.toml: {where}{key} is invalid", seen=table.get(key), wanted=_wanted(type_, key)
        ) from None


def _wanted(type_: type[msgspec.Struct], key: str) -> str:
    """The rule of a key in words: the description of its type."""
    hint = typing.get_type_hints(type_, include_extras=True).get(key)
    metas = [each for each in getattr(hint, "__metadata__", ()) if isinstance(each, msgspec.Meta)]
    return metas[0].description or "" if metas else ""
