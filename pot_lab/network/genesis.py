"""From `network.toml` to the ledger's genesis, and back: the file's text must hash to the network's id, or nothing
starts.
"""

from __future__ import annotations

import typing
from typing import Any

import msgspec

from pot_lab.crypto.identity import Address, format_address, parse_address
from pot_lab.errors import PotLabError, one_of
from pot_lab.network.chain_access import chain_of
from pot_lab.network.config import NetworkConfig
from pot_lab.network.errors import BadConfig
from pot_lab.protocol.parameters import BadParameter, Parameters
from pot_lab.protocol.state import Genesis, Member


def genesis_of(config: NetworkConfig) -> Genesis:
    """The genesis that a network file describes.

    Raises:
        BadConfig: it has no chain, or does not hash to the id that it states (the file was changed or mixed up).
        BadParameter: a parameter is unknown or out of its bounds.
    """
    genesis = unnamed_genesis(config)
    if genesis.network_id != config.network_id:
        raise BadConfig(
            "network.toml does not hash to its network_id: it was changed, or another version of PoT Lab founded the "
            "network (a testnet begins anew by `pot-lab testnet up --fresh`)",
            seen=config.network_id,
            wanted=genesis.network_id,
        )
    return genesis


def unnamed_genesis(config: NetworkConfig) -> Genesis:
    """The genesis of a file whose `network_id` is not checked, e.g. while a network is being made.

    Raises: as `genesis_of`.
    """
    chain = chain_of(config)
    members = tuple(Member(Address(entry.address), entry.sealing_public) for entry in config.aggregators)
    parameters = parameters_of(config.parameters)
    return Genesis(
        name=config.name,
        chain_id=chain.chain_id,
        settlement_contract=chain.settlement,
        members=members,
        parameters=parameters,
    )


def parameters_of(table: dict[str, Any]) -> Parameters:
    """Ledger parameters from a table of plain values; whatever is not named keeps its default. Raises BadParameter."""
    # An Address is bytes by another name.
    types = {name: getattr(hint, "__supertype__", hint) for name, hint in typing.get_type_hints(Parameters).items()}
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name not in types:
            raise BadParameter("there is no such parameter", seen=name, wanted=one_of(name, sorted(types)))
        try:
            read = parse_address(value) if types[name] is bytes and isinstance(value, str) else value
            values[name] = msgspec.convert(read, types[name], builtin_types=(bytes,))
        except (msgspec.ValidationError, PotLabError):
            raise BadParameter(f"parameter {name} is invalid", seen=value, wanted=_in_words(types[name])) from None
    parameters = Parameters(**values)
    parameters.check()
    return parameters


def _in_words(type_: Any) -> str:
    """What a parameter of this type looks like in the file."""
    if type_ is bytes:
        return "an account: 0x and 40 hex digits"
    return "a whole number" if type_ is int else f"a list of {len(typing.get_args(type_))} whole numbers"


def table_of(parameters: Parameters) -> dict[str, Any]:
    """What `parameters_of` reads: only values that differ from the defaults, so that the file stays short."""
    table: dict[str, Any] = {}
    defaults = Parameters()
    for name in parameters.__struct_fields__:
        value = getattr(parameters, name)
        if value != getattr(defaults, name):
            table[name] = (
                format_address(value)
                if isinstance(value, bytes)
                else list(value)
                if isinstance(value, tuple)
                else value
            )
    return table
