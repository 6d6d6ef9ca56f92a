"""`network.toml` is written and read back as it was, and a bad one says which field is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from pot_lab.crypto.identity import Identity, format_address
from pot_lab.network.config import AggregatorEntry, ChainConfig, NetworkConfig, parse_listening
from pot_lab.network.errors import BadConfig, BadKeyFile
from pot_lab.network.keys import CurveKeyPair, load_curve_key, save_curve_key


def network(n: int = 4, **changes: Any) -> NetworkConfig:
    entries = tuple(
        AggregatorEntry(
            index=i,
            host="127.0.0.1",
            peer_port=7_000 + i,
            client_port=8_000 + i,
            custody_port=9_000 + i,
            curve_public=CurveKeyPair.generate().public,
            address=Identity(bytes([i + 1]) * 32).address,
            sealing_public=bytes([i]) * 32,
        )
        for i in range(n)
    )
    return NetworkConfig(**{"network_id": bytes(range(32)), "name": "test", "aggregators": entries, **changes})


CHAIN = ChainConfig(
    rpc_url="http://127.0.0.1:8545",
    chain_id=1337,
    token=b"\1" * 20,
    registry=b"\2" * 20,
    escrow=b"\3" * 20,
    settlement=b"\4" * 20,
    confirmations=2,
)


@pytest.mark.parametrize("n", [4, 100])
def test_a_network_survives_its_file(tmp_path: Path, n: int) -> None:
    parameters = {
        "train_ms": 20_000,
        "strict": True,
        "share": 0.5,
        "name": 'quotes " and \\ and ü\n',
        "list": [1, 2],
        "empty": [],
        "windows": {"reveal ms": 5, "deep": {"x": 1}},
        "steps": [{"a": 1}, {"a": 2}],
    }
    config = network(
        n, chain=CHAIN, store_url="http://127.0.0.1:9/x", private_links=False, parameters=parameters, durability="flush"
    )
    path = tmp_path / "network.toml"
    config.save(path)
    assert NetworkConfig.load(path) == config
    assert (config.n, config.f, config.q) == (n, (n - 1) // 3, {4: 3, 100: 67}[n])
    assert list(tmp_path.iterdir()) == [path]


def test_handovers_survive_the_file_and_are_left_out_where_there_are_none(tmp_path: Path) -> None:
    config = network(handovers=(b"\1\2", b"", b"\xff"))
    config.save(tmp_path / "network.toml")
    assert NetworkConfig.load(tmp_path / "network.toml") == config
    assert "handovers" not in network().to_table() and "store" not in network().to_table()


def test_what_a_file_does_not_say_has_its_default() -> None:
    table = network(chain=CHAIN).to_table()
    for key in ("confirmations", "first_block"):
        del table["chain"][key]
    del table["durability"]
    config = NetworkConfig.from_table(table)
    assert config.chain is not None and (config.chain.confirmations, config.chain.first_block) == (1, 0)
    assert (config.durability, config.store_url, config.parameters, config.handovers) == ("fsync", "", {}, ())
    assert ChainConfig(rpc_url="x", chain_id=1, token=b"", registry=b"", escrow=b"", settlement=b"").confirmations == 1


def changed(**changes: Any) -> dict[str, Any]:
    table = {**network(chain=CHAIN).to_table(), **changes}
    return {key: value for key, value in table.items() if value is not None}


def entry(**changes: Any) -> dict[str, Any]:
    table = network().to_table()
    table["aggregators"][1] |= changes
    return table


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (changed(network_id="ab"), r"network_id is invalid \(seen: ab, wanted: 32 bytes as 64 hex digits\)"),
        (changed(network_id="ab" * 33), "network_id"),
        (changed(network_id="xy" * 32), "network_id"),
        (changed(network_id="ab" * 32 + "\n"), "network_id"),
        (changed(network_id=7), "network_id"),
        (changed(name=None), r"network\.toml lacks name \(wanted: text\)"),
        (changed(name=5), r"name is invalid \(seen: 5, wanted: text\)"),
        (changed(aggregators=[]), "number of aggregators"),
        (changed(aggregators="x"), "aggregators"),
        (changed(aggregators=["x"] * 4), r"aggregators\[0\] is not a table"),
        (changed(durability="maybe"), "durability"),
        (changed(parameters=3), "parameters"),
        (changed(chain={"rpc_url": "x"}), r"lacks chain\.chain_id"),
        (changed(chain=3), r"chain is invalid \(seen: 3, wanted: a table\)"),
        (changed(chain={**changed()["chain"], "first_block": -1}), r"chain\.first_block is invalid \(seen: -1"),
        (changed(chain={**changed()["chain"], "token": "0x1"}), r"chain\.token is invalid \(seen: 0x1, wanted: an acc"),
        (changed(store="x"), "store is invalid"),
        (changed(store={"url": 1}), r"store\.url is invalid"),
        (changed(store={"url": "x", "private_links": "yes"}), r"store\.private_links is invalid"),
        (changed(handovers=["ab", "abc"]), "handovers is invalid"),
        (changed(handovers=[1]), "handovers is invalid"),
        (entry(index=2), "by index"),
        (entry(index=-1), r"aggregators\[1\]\.index"),
        (entry(peer_port=0), r"aggregators\[1\]\.peer_port is invalid \(seen: 0, wanted: a TCP port, 1 \.\. 65535\)"),
        (entry(client_port=65_536), r"aggregators\[1\]\.client_port is invalid \(seen: 65536"),
        (entry(peer_port=True), "peer_port"),
        (entry(client_port=8_000), "client_url"),
        (entry(custody_port=9_000), "custody_url"),
        (entry(custody_port=-1), r"custody_port is invalid \(seen: -1, wanted: a TCP port, 1 \.\. 65535, or 0"),
        (entry(curve_public='"' * 40), "curve_public"),
        (entry(curve_public="a" * 39), "curve_public"),
        (entry(curve_public="a" * 41), "curve_public"),
        (entry(host=7), r"aggregators\[1\]\.host"),
        (entry(address="0x12"), "address"),
        (entry(address=format_address(Identity(b"\1" * 32).address)), "address"),
        (entry(sealing_public="00"), "sealing_public"),
    ],
)
def test_a_bad_network_is_refused_and_the_message_names_the_field(table: dict[str, Any], told: str) -> None:
    with pytest.raises(BadConfig, match=told):
        NetworkConfig.from_table(table)


def test_files_that_hold_no_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "network.toml"
    with pytest.raises(BadConfig, match="cannot read"):
        NetworkConfig.load(path)
    path.write_text("a = [")
    with pytest.raises(BadConfig, match="not TOML"):
        NetworkConfig.load(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(BadConfig, match="not TOML"):
        NetworkConfig.load(path)
    path.write_bytes(b"#" * 2_000_000)
    with pytest.raises(BadConfig, match="too large"):
        NetworkConfig.load(path)


def test_a_key_file_is_private_and_is_read_back(tmp_path: Path) -> None:
    pair = CurveKeyPair.generate()
    path = tmp_path / "curve.key"
    save_curve_key(path, pair)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_curve_key(path) == pair
    with pytest.raises(FileExistsError):
        save_curve_key(path, pair)


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 41, b"\xff" * 40, b'"' * 40])
def test_a_file_without_a_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "curve.key"
    path.write_bytes(content)
    with pytest.raises(BadKeyFile):
        load_curve_key(path)
    with pytest.raises(BadKeyFile, match="cannot read"):
        load_curve_key(tmp_path / "none")


def test_where_an_aggregator_listens_is_read_from_what_was_typed() -> None:
    assert parse_listening(["localhost", "7001", "7002", "7003"]) == ("localhost", 7001, 7002, 7003)


@pytest.mark.parametrize(
    "typed",
    [("abc", "7002", "1"), ("7001", "0", "1"), ("65536", "7002", "1"), ("9" * 5_000, "7", "1"), ("7", "7", "1"),
     ("7", "8", "7"), ("7", "8", "0")],
)  # fmt: skip
def test_bad_ports_are_named(typed: tuple[str, ...]) -> None:
    with pytest.raises(BadConfig, match="port"):
        parse_listening(["localhost", *typed])


def test_an_aggregator_need_not_serve_custody(tmp_path: Path) -> None:
    without = [msgspec.structs.replace(each, custody_port=0) for each in network().aggregators]
    network(aggregators=tuple(without)).save(tmp_path / "network.toml")
    assert "custody" not in (tmp_path / "network.toml").read_text()
    assert [each.custody_url for each in NetworkConfig.load(tmp_path / "network.toml").aggregators] == [""] * 4


def test_an_ipv6_host_has_brackets_in_urls() -> None:
    changes = {"host": "::1", "peer_port": 7, "client_port": 8, "custody_port": 9}
    second = NetworkConfig.from_table(entry(**changes)).aggregators[1]
    assert (second.peer_url, second.client_url) == ("tcp://[::1]:7", "tcp://[::1]:8")
    assert second.custody_url == "http://[::1]:9"
    assert NetworkConfig.from_table(entry(host="a.example", client_port=8)).aggregators[1].client_url == (
        "tcp://a.example:8"
    )
