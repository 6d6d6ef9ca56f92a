"""A client that nobody here wrote: Foundry's `cast` reads our contracts, stakes and claims, opens our keystores and
signs what we sign.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from pot_lab.chain.signer import KeySigner, TypedMessage
from pot_lab.crypto.identity import Identity, format_address
from pot_lab.crypto.keystore import load_keystore, save_keystore
from pot_lab.protocol.settlement import PayoutTree, reward_leaf
from tests.chain.test_anvil import anvil_world  # noqa: F401
from tests.chain.world import POT, World, foundry_tool, identity

PASSWORD = "a password"
PAYEE = identity("paid by cast").address


def cast(*arguments: str) -> str:
    command = foundry_tool("cast")
    if command is None:
        pytest.skip("cast is not installed: npm ci in contracts/compiler, or Foundry, makes this test run")
    done = subprocess.run([command, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def keystore_of(who: Identity, folder: Path) -> str:
    path = folder / "keys" / f"{who.address.hex()}.json"
    save_keystore(path, who, PASSWORD, work_factor=2)
    return str(path)


def send(world: World, keystore: str, at: bytes, signature: str, *arguments: str) -> None:
    key = ("--keystore", keystore, "--password", PASSWORD, "--rpc-url", world.url, "--json")
    receipt = json.loads(cast("send", *key, format_address(at), signature, *arguments))
    assert int(receipt["status"], 16) == 1


def test_cast_reads_balances(anvil_world: World) -> None:  # noqa: F811
    world = anvil_world
    for who in (world.client.address, world.aggregators[0].address, world.contracts.registry):
        seen = cast(
            "call",
            "--rpc-url",
            world.url,
            format_address(world.contracts.token),
            "balanceOf(address)(uint256)",
            format_address(who),
        )
        assert int(seen.split()[0]) == world.wallet().balance_grains(who)


def test_cast_stakes_with_a_keystore_of_ours(anvil_world: World, tmp_path: Path) -> None:  # noqa: F811
    world, at = anvil_world, anvil_world.contracts
    before = world.wallet().stake_of(world.client.address, 0).bonded_grains
    keystore = keystore_of(world.client, tmp_path)
    send(world, keystore, at.token, "approve(address,uint256)", format_address(at.registry), str(100 * POT))
    send(world, keystore, at.registry, "stake(uint8,uint96)", "0", str(100 * POT))
    assert world.wallet().stake_of(world.client.address, 0).bonded_grains == before + 100 * POT


def test_cast_claims_with_a_proof_of_ours(anvil_world: World, tmp_path: Path) -> None:  # noqa: F811
    world = anvil_world
    order = world.order(reward=50 * POT)
    other = identity("another payee").address
    tree = PayoutTree([reward_leaf(PAYEE, 30 * POT), reward_leaf(other, 20 * POT)])
    world.settle(tree, 50 * POT, [order.oid])
    proof = "[" + ",".join("0x" + each.hex() for each in tree.proof(reward_leaf(PAYEE, 30 * POT))) + "]"
    call = ("claim(address,uint256,bytes32[])", format_address(PAYEE), str(30 * POT), proof)
    send(world, keystore_of(world.relayer, tmp_path), world.contracts.settlement, *call)
    assert world.wallet().balance_grains(PAYEE) == 30 * POT


def test_a_keystore_that_cast_made_opens_here(tmp_path: Path) -> None:
    secret = identity("made elsewhere")
    name = ("--keystore-dir", str(tmp_path), "--private-key", "0x" + secret.secret.hex())
    cast("wallet", "import", "theirs", *name, "--unsafe-password", PASSWORD)
    assert load_keystore(tmp_path / "theirs", PASSWORD).secret == secret.secret


def test_cast_signs_the_same_typed_message() -> None:
    who = identity("signs")
    message = TypedMessage(
        domain={"name": "PoT Governor", "version": "1", "chainId": 56, "verifyingContract": b"\1" * 20},
        kind="Proposal",
        fields=(
            ("number", "uint64"),
            ("signerSetId", "uint64"),
            ("targets", "address[]"),
            ("calls", "bytes[]"),
            ("reason", "bytes32"),
        ),
        values={
            "number": 3,
            "signerSetId": 4,
            "targets": [b"\2" * 20, b"\3" * 20],
            "calls": [b"\4" * 20, b""],  # one as long as an address
            "reason": b"\5" * 32,
        },
    )
    theirs = cast("wallet", "sign", "--private-key", "0x" + who.secret.hex(), "--data", json.dumps(message.as_json()))
    assert theirs == "0x" + KeySigner(who).sign_message(message).hex()
    assert message.signer_of(bytes.fromhex(theirs[2:])) == who.address
