"""The committed artefact belongs to the sources beside it, and refusals are read by name."""

from __future__ import annotations

import hashlib
import shutil
import subprocess

import pytest

from pot_lab.chain import abi
from pot_lab.chain.contract import Contracts, artifacts, interface, read_revert
from pot_lab.chain.errors import BadArtifact
from pot_lab.crypto.canonical import keccak256
from pot_lab.errors import Malformed
from tests.chain.world import SOURCES


def test_the_artefact_was_built_from_the_sources_beside_it() -> None:
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in SOURCES.glob("*.sol")}
    assert found == artifacts()["sources"], "the contracts changed: npm run build in contracts/compiler"
    assert artifacts()["compiler"].startswith("0.8.37+")
    assert artifacts()["settings"]["evmVersion"] == "cancun"


def test_the_libraries_are_recorded_file_by_file() -> None:
    libraries = artifacts()["libraries"]
    assert all(name.startswith("@openzeppelin/contracts/") for name in libraries)
    assert "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol" in libraries


@pytest.mark.slow
def test_a_rebuild_gives_the_artefact_byte_for_byte() -> None:
    compiler = SOURCES / "compiler"
    if shutil.which("node") is None:
        pytest.skip("node is not installed: the contracts cannot be compiled here")
    if not (compiler / "node_modules" / "solc").exists():
        pytest.skip(f"the compiler is not installed: npm ci in {compiler.name}/ makes this test run")
    done = subprocess.run(
        ["node", "compile.mjs", "--check", str(SOURCES / "artifacts.json")],
        cwd=compiler,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_function_that_others_may_call_is_explained_where_it_stands() -> None:
    missing = []
    for path in sorted(SOURCES.glob("*.sol")):
        if path.name == "PaperMultisig.sol":  # the paper's, for the gas table only
            continue
        lines = path.read_text().splitlines()
        for before, line in zip(["", *lines], lines, strict=False):
            opens = line.strip().startswith(("constructor(", "contract ")) or (
                line.strip().startswith("function ") and " private " not in line and not line.rstrip().endswith(";")
            )
            if opens and not before.strip().startswith("///"):
                missing.append(f"{path.name}: {line.strip()}")
    assert missing == []


def test_every_named_error_is_read_with_its_arguments() -> None:
    selector = keccak256(b"Insolvent(uint256,uint256)")[:4]
    error = read_revert(selector + abi.encode(["uint256", "uint256"], [101, 100]))
    assert (error.name, error.arguments) == ("Insolvent", (101, 100))
    assert str(error) == "the contract refused the call with Insolvent(101, 100)"
    selector = keccak256(b"BadParameter(bytes32)")[:4]
    assert read_revert(selector + b"sealBy".ljust(32, b"\0")).arguments == ("sealBy",)
    assert read_revert(bytes.fromhex("08c379a0") + abi.encode(["string"], ["no"])).arguments == ("no",)
    assert read_revert(bytes.fromhex("4e487b71") + abi.encode(["uint256"], [17])).name == "Panic"


@pytest.mark.parametrize("data", [b"", b"\1", b"\1\2\3\4", keccak256(b"Insolvent(uint256,uint256)")[:4] + b"\1"])
def test_a_refusal_without_readable_reason_is_still_a_refusal(data: bytes) -> None:
    assert read_revert(data).name in ("Reverted", "Unknown", "Insolvent")


def test_contracts_go_through_the_network_file_and_back() -> None:
    contracts = Contracts(
        chain_id=31_337, token=b"\1" * 20, registry=b"\2" * 20, escrow=b"\3" * 20, settlement=b"\4" * 20, first_block=7
    )
    assert Contracts.from_table(contracts.as_table()) == contracts
    for damage in ({"token": None}, {"token": "0x12"}, {"chain_id": "1"}, {"first_block": -1}):
        with pytest.raises(Malformed):
            Contracts.from_table(contracts.as_table() | damage)


def test_an_unknown_contract_is_refused() -> None:
    with pytest.raises(BadArtifact):
        interface("NoSuchContract")
