"""Hosts meet on their own ports before anything runs, and each finds out what is wrong with another."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from pot_lab.errors import PortTaken
from pot_lab.network.config import AggregatorEntry, NetworkConfig
from pot_lab.network.founding.checks import CheckResult, check_file, check_hosts, check_keys
from pot_lab.network.founding.meeting import HostMet, meet
from pot_lab.network.founding.terms import collect_approvals, sign_terms, terms_digest
from pot_lab.network.keys import CurveKeyPair
from pot_lab.network.loopback import free_ports
from tests.network.founding.parts import Operators

LONG_S = 240.0


@pytest.fixture(scope="module")
def operators(tmp_path_factory: pytest.TempPathFactory) -> Operators:
    return Operators(tmp_path_factory.mktemp("operators"))


@pytest.fixture
def config(operators: Operators) -> NetworkConfig:
    """The network on free ports of this machine."""
    founded = operators.found()
    ports = iter(free_ports(8))
    entries = tuple(
        msgspec.structs.replace(entry, host="127.0.0.1", peer_port=next(ports), client_port=next(ports))
        for entry in founded.aggregators
    )
    return msgspec.structs.replace(founded, aggregators=entries)


def curve_of(operators: Operators, entry: AggregatorEntry) -> CurveKeyPair:
    return next(keys.curve for keys in operators.keys if keys.identity.address == entry.address)


def met_by_all(
    operators: Operators,
    configs: Sequence[NetworkConfig],
    wait_s: float = LONG_S,
    clocks_ahead_ms: Sequence[int] = (0, 0, 0, 0),
) -> dict[int, list[HostMet]]:
    """What each host met that has a file; all meet at the same time."""
    found: dict[int, list[HostMet]] = {}

    def host(index: int) -> None:
        own = configs[index].aggregators[index]
        found[index] = meet(
            configs[index],
            curve_of(operators, own),
            own,
            wait_s,
            clock_ms=lambda: 1_700_000_000_000 + clocks_ahead_ms[index],
        )

    threads = [threading.Thread(target=host, args=(index,)) for index in range(len(configs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def wrong(findings: Sequence[CheckResult]) -> list[str]:
    return [each.text for each in findings if each.level == "wrong"]


def test_four_hosts_meet_and_nothing_is_wrong(operators: Operators, config: NetworkConfig) -> None:
    for index, mets in met_by_all(operators, [config] * 4).items():
        assert [met.entry.index for met in mets] == [other for other in range(4) if other != index]
        for met in mets:
            assert met.is_met and met.presence is not None and met.presence.digest == terms_digest(config)
        findings = check_hosts(config, mets, is_own_running=False)
        assert [each.level for each in findings] == ["ok"] * 3


def test_a_host_with_another_file_is_named_by_all_others(operators: Operators, config: NetworkConfig) -> None:
    other = msgspec.structs.replace(config, store_url="https://elsewhere.example")
    found = met_by_all(operators, [config, config, config, other])
    for index in range(3):
        assert wrong(check_hosts(config, found[index], is_own_running=False)) == [
            "aggregator 3 at 127.0.0.1 has another network.toml"
        ]
    assert len(wrong(check_hosts(other, found[3], is_own_running=False))) == 4  # three hosts, and no quorum


def test_a_host_that_is_away_is_named_with_its_port(operators: Operators, config: NetworkConfig) -> None:
    told: list[list[str]] = []
    for wait_s in (3.0, 12.0, 48.0):  # on a busy machine those who are there need longer to meet
        found = met_by_all(operators, [config] * 3, wait_s=wait_s)
        told = [wrong(check_hosts(config, mets, is_own_running=False)) for mets in found.values()]
        if all(len(texts) == 1 for texts in told):
            break
    text = f"aggregator 3 at 127.0.0.1: port {config.aggregators[3].client_port} did not answer with its key"
    assert told == [[text]] * 3


def test_a_host_with_another_key_does_not_count(operators: Operators, config: NetworkConfig) -> None:
    stolen = msgspec.structs.replace(config.aggregators[1], curve_public=CurveKeyPair.generate().public)
    false = msgspec.structs.replace(config, aggregators=(config.aggregators[0], stolen, *config.aggregators[2:]))
    found = met_by_all(operators, [false, config, config, config], wait_s=3.0)
    assert any("aggregator 1" in text for text in wrong(check_hosts(false, found[0], is_own_running=False)))


def test_a_clock_that_is_off_is_named(operators: Operators, config: NetworkConfig) -> None:
    found = met_by_all(operators, [config] * 4, clocks_ahead_ms=(0, 0, 1_000, 60_000))
    levels = {each.text: each.level for each in check_hosts(config, found[0], is_own_running=False)}
    assert levels["the clock of aggregator 2 at 127.0.0.1 differs by +1.0 s"] == "warning"
    assert levels["the clock of aggregator 3 at 127.0.0.1 differs by +60.0 s"] == "wrong"


def test_a_host_whose_ports_are_taken_says_so(operators: Operators, config: NetworkConfig) -> None:
    own = config.aggregators[0]
    taken = msgspec.structs.replace(own, client_port=own.peer_port)
    with pytest.raises(PortTaken, match=str(own.peer_port)):
        meet(config, curve_of(operators, own), taken, 1.0)


def test_the_file_and_the_keys_are_checked(operators: Operators, config: NetworkConfig, tmp_path: Path) -> None:
    assert [each.level for each in check_file(config)] == ["ok", "warning"]
    signed = collect_approvals(config, [sign_terms(config, keys.identity) for keys in operators.keys])
    assert [each.level for each in check_file(signed)] == ["ok", "ok"]
    changed = msgspec.structs.replace(signed, store_url="https://elsewhere.example")
    assert [each.level for each in check_file(changed)] == ["wrong"]

    entry, findings = check_keys(config, operators.folders[2])
    assert entry is not None and entry.address == operators.keys[2].identity.address
    assert [each.level for each in findings] == ["ok"]
    stranger, findings = check_keys(config, Operators(tmp_path, 1).folders[0])
    assert stranger is None and "none of the file's aggregators" in findings[0].text
    stranger, findings = check_keys(config, tmp_path / "none")
    assert stranger is None and findings[0].level == "wrong"
    others = tuple(
        msgspec.structs.replace(each, sealing_public=bytes(32)) if each.address == entry.address else each
        for each in config.aggregators
    )
    _, findings = check_keys(msgspec.structs.replace(config, aggregators=others), operators.folders[2])
    assert wrong(findings) == ["the sealing key is not the one in the file"]
