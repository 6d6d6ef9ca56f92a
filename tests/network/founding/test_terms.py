"""The founders' digest and signatures: what they bind, what they leave to each host."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pot_lab.network.config import NetworkConfig
from pot_lab.network.errors import BadConfig
from pot_lab.network.founding.terms import (
    NotApproved,
    approved_by,
    collect_approvals,
    require_approval,
    sign_terms,
    terms_digest,
    terms_words,
)
from pot_lab.network.genesis import genesis_of, unnamed_genesis
from tests.network.founding.parts import TERMS, Operators


@pytest.fixture(scope="module")
def operators(tmp_path_factory: pytest.TempPathFactory) -> Operators:
    return Operators(tmp_path_factory.mktemp("operators"))


def signed_by_all(operators: Operators, config: NetworkConfig) -> NetworkConfig:
    copies = [sign_terms(config, keys.identity) for keys in operators.keys]
    return collect_approvals(config, copies)


def test_all_sign_their_own_copy_and_one_file_gets_all_signatures(operators: Operators, tmp_path: Path) -> None:
    config = operators.found()
    assert approved_by(config) == []
    signed = signed_by_all(operators, config)
    signed.save(tmp_path / "network.toml")
    loaded = NetworkConfig.load(tmp_path / "network.toml")
    assert loaded == signed and approved_by(loaded) == [0, 1, 2, 3]
    require_approval(loaded)


def test_signing_twice_changes_nothing(operators: Operators) -> None:
    signed = signed_by_all(operators, operators.found())
    assert sign_terms(signed, operators.keys[2].identity) == signed


def test_a_missing_signature_is_named(operators: Operators) -> None:
    config = operators.found()
    first = next(keys for keys in operators.keys if keys.identity.address == config.aggregators[0].address)
    with pytest.raises(NotApproved, match="no signature of 1, 2, 3"):
        require_approval(sign_terms(config, first.identity))


@pytest.mark.parametrize(
    "change",
    [
        lambda config: {"aggregators": (msgspec.structs.replace(config.aggregators[0], host="other.example"),
                                        *config.aggregators[1:])},
        lambda config: {"aggregators": (msgspec.structs.replace(config.aggregators[0], client_port=9),
                                        *config.aggregators[1:])},
        lambda config: {"chain": msgspec.structs.replace(config.chain, token=b"\x09" * 20)},
        lambda config: {"chain": msgspec.structs.replace(config.chain, escrow=b"\x09" * 20)},
        lambda config: {"chain": msgspec.structs.replace(config.chain, confirmations=0)},
        lambda config: {"chain": msgspec.structs.replace(config.chain, first_block=0)},
        lambda config: {"store_url": "https://other.example"},
        lambda config: {"private_links": True},
        lambda config: {"durability": "flush"},
    ],
)  # fmt: skip
def test_a_change_after_signing_voids_every_signature(operators: Operators, change: Any) -> None:
    signed = signed_by_all(operators, operators.found())
    with pytest.raises(NotApproved):
        require_approval(msgspec.structs.replace(signed, **change(signed)))


def test_other_parameters_are_another_network(operators: Operators) -> None:
    signed = signed_by_all(operators, operators.found())
    changed = msgspec.structs.replace(signed, parameters={**signed.parameters, "update_ms": 5_000})
    with pytest.raises(BadConfig, match="network_id"):
        require_approval(changed)
    renamed = msgspec.structs.replace(changed, network_id=unnamed_genesis(changed).network_id)
    with pytest.raises(NotApproved):
        require_approval(renamed)


def test_each_host_may_have_its_own_node_and_cap_on_fees(operators: Operators) -> None:
    signed = signed_by_all(operators, operators.found())
    assert signed.chain is not None
    own = msgspec.structs.replace(signed.chain, rpc_url="https://user:password@node.example", max_fee_gwei=9)
    require_approval(msgspec.structs.replace(signed, chain=own, handovers=()))


def test_strangers_cannot_sign_and_other_networks_copies_are_refused(operators: Operators, tmp_path: Path) -> None:
    config, others = operators.found(), Operators(tmp_path)
    with pytest.raises(NotApproved, match="none of the file's aggregators"):
        sign_terms(config, others.keys[0].identity)
    with pytest.raises(NotApproved, match="not of the same network"):
        collect_approvals(config, [others.found()])
    foreign = others.keys[0].identity.sign(terms_digest(config))
    for approval in (foreign, b"", b"\1" * 65, foreign[:-1]):
        with pytest.raises(NotApproved, match="of another text"):
            approved_by(msgspec.structs.replace(config, approvals=(approval,)))


def test_the_words_name_everything_that_people_compare(operators: Operators) -> None:
    text = "\n".join(terms_words(operators.found()))
    config = operators.found()
    for said in ("3 of 4 aggregators", "1 may be faulty", TERMS.name, TERMS.store_url, terms_digest(config).hex()):
        assert said in text
    for entry in config.aggregators:
        assert entry.host in text


def test_windows_are_long_enough_for_strangers_unless_the_founder_says_otherwise(operators: Operators) -> None:
    parameters = genesis_of(operators.found()).parameters
    assert (parameters.min_window_ms, parameters.min_challenge_ms) == (10_000, 30_000)
    short = dataclasses.replace(TERMS, parameters={"min_window_ms": 500})
    parameters = genesis_of(operators.found(short)).parameters
    assert (parameters.min_window_ms, parameters.min_challenge_ms) == (500, 30_000)
