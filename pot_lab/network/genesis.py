"""From `network.toml` to the ledger's genesis, and back: the file's text must hash to the network's id, or nothing
starts.
"""

from __future__ import annotations

import typing
from typing import Any

from pot_lab.crypto.identity import format_address, parse_address
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
            "network.toml does not hash to its network_id", seen=config.network_id, wanted=genesis.network_id
        )
    return genesis


def unnamed_genesis(config: NetworkConfig) -> Genesis:
    """The genesis of a file whose `network_id` is not to be believed, e.g. while a network is being made."""
    if config.chain is None:
        raise BadConfig("network.toml names no chain", wanted="a [chain] table")
    members = tuple(Member(entry.address, entry.sealing_public) for entry in config.aggregators)
    parameters = parameters_of(config.parameters)
    return Genesis(
        name=config.name,
        chain_id=config.chain.chain_id,
        settlement_contract=config.chain.settlement,
        members=members,
        parameters=parameters,
    )


def parameters_of(table: dict[str, Any]) -> Parameters:
    """Ledger parameters from a table of plain values; whatever is not named keeps its default. Raises BadParameter."""
    types = typing.get_type_hints(Parameters)
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name not in types:
            raise BadParameter("there is no such parameter", seen=name, wanted=", ".join(sorted(types)))
        if name == "treasury":
            values[name] = parse_address(str(value))
        elif types[name] is int and isinstance(value, int) and not isinstance(value, bool):
            values[name] = value
        elif (
            isinstance(value, list | tuple) and types[name] is not int and all(isinstance(item, int) for item in value)
        ):
            values[name] = tuple(value)
        else:
            raise BadParameter(f"parameter {name} has the wrong type", seen=value)
    parameters = Parameters(**values)
    for name in ("usual_windows_ms", "min_stake_grains"):
        if len(getattr(parameters, name)) != len(getattr(Parameters(), name)):
            raise BadParameter(f"parameter {name} has the wrong number of values", seen=len(getattr(parameters, name)))
    parameters.check()
    return parameters


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
