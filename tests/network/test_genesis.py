"""`network.toml` and the genesis it stands for: one must hash to the other."""

from __future__ import annotations

import msgspec
import pytest

from pot_lab.crypto.identity import Identity
from pot_lab.network.config import AggregatorEntry, ChainConfig, NetworkConfig
from pot_lab.network.errors import BadConfig
from pot_lab.network.genesis import genesis_of, parameters_of, table_of, unnamed_genesis
from pot_lab.network.keys import CurveKeyPair
from pot_lab.protocol.parameters import BadParameter, Parameters


@pytest.fixture
def config() -> NetworkConfig:
    entries = tuple(
        AggregatorEntry(
            index=i,
            host="127.0.0.1",
            peer_port=1000 + i,
            client_port=2000 + i,
            curve_public=CurveKeyPair.generate().public,
            address=Identity(bytes([i + 1]) * 32).address,
            sealing_public=bytes([i]) * 32,
        )
        for i in range(4)
    )
    chain = ChainConfig(
        rpc_url="http://127.0.0.1:1",
        chain_id=7,
        token=b"\1" * 20,
        registry=b"\2" * 20,
        escrow=b"\3" * 20,
        settlement=b"\4" * 20,
    )
    made = NetworkConfig(
        network_id=bytes(32), name="t", aggregators=entries, chain=chain, parameters={"update_ms": 2_000}
    )
    return msgspec.structs.replace(made, network_id=unnamed_genesis(made).network_id)


def test_a_saved_network_has_the_same_genesis(config: NetworkConfig, tmp_path) -> None:
    config.save(tmp_path / "network.toml")
    assert genesis_of(NetworkConfig.load(tmp_path / "network.toml")) == genesis_of(config)


@pytest.mark.parametrize(
    "change", [{"name": "other"}, {"parameters": {"update_ms": 2_001}}, {"network_id": b"\1" * 32}]
)
def test_a_changed_file_does_not_start(config: NetworkConfig, change: dict[str, object]) -> None:
    with pytest.raises(BadConfig, match="network_id"):
        genesis_of(msgspec.structs.replace(config, **change))


def test_where_aggregators_listen_is_no_part_of_the_genesis(config: NetworkConfig) -> None:
    moved = [msgspec.structs.replace(entry, host="10.0.0.1") for entry in config.aggregators]
    assert genesis_of(msgspec.structs.replace(config, aggregators=tuple(moved))) == genesis_of(config)


def test_a_network_without_a_chain_has_no_ledger(config: NetworkConfig) -> None:
    with pytest.raises(BadConfig, match="chain"):
        genesis_of(msgspec.structs.replace(config, chain=None))


@pytest.mark.parametrize(
    "table",
    [
        {"gravity": 1},
        {"update_ms": "2s"},
        {"update_ms": True},
        {"update_ms": 1},
        {"usual_windows_ms": [1_000]},
        {"usual_windows_ms": [1] * 7},
        {"min_stake_grains": [1, 2, 3]},
        {"winner_bp": 9_999, "validators_bp": 1_500},
        {"min_stake_grains": 5},
    ],
)
def test_parameters_out_of_shape_or_bounds_are_refused(table: dict[str, object]) -> None:
    with pytest.raises(BadParameter):
        parameters_of(table)


def test_parameters_survive_their_table() -> None:
    parameters = Parameters(update_ms=5_000, min_stake_grains=(1, 2, 3, 4), treasury=b"\x11" * 20)
    assert parameters_of(table_of(parameters)) == parameters
    assert table_of(Parameters()) == {}
