"""A key that is elsewhere: a signer is asked for whole transactions and messages, and what it signs is looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pot_lab.chain.errors import ChainRefused, WrongSignature
from pot_lab.chain.rpc import JsonRpc
from pot_lab.chain.signer import KeySigner, RemoteSigner, TypedMessage
from pot_lab.chain.transaction import ChainTransaction
from pot_lab.chain.wallet import ChainWallet
from pot_lab.crypto.identity import format_address, parse_address
from tests.chain.test_anvil import anvil_world  # noqa: F401
from tests.chain.world import POT, World, identity

OWN = identity("has its key elsewhere")
ASKED = ChainTransaction(
    chain_id=5, nonce=1, max_priority_fee=2, max_fee=9, gas=50_000, to=b"\7" * 20, data=b"\1\2", value=0
)
MESSAGE = TypedMessage(
    domain={"name": "A", "version": "1", "chainId": 5, "verifyingContract": b"\1" * 20},
    kind="Permit",
    fields=(("owner", "address"), ("value", "uint256")),
    values={"owner": OWN.address, "value": 7},
)


class Device:
    """In place of the connection: what the program behind it answers."""

    def __init__(self, answer: Callable[[str, tuple[Any, ...]], Any]) -> None:
        self.answer = answer

    def call(self, method: str, *parameters: Any) -> Any:
        return self.answer(method, parameters)

    def close(self) -> None:
        pass


def signer(answer: Callable[[str, tuple[Any, ...]], Any]) -> RemoteSigner:
    made = RemoteSigner("http://127.0.0.1:9", OWN.address)
    made._rpc = Device(answer)  # type: ignore[assignment]
    return made


def test_what_it_signed_is_handed_on_where_it_is_what_was_asked_for() -> None:
    raw = ASKED.sign(OWN)
    for answer in ("0x" + raw.hex(), {"raw": "0x" + raw.hex(), "tx": {}}):
        assert signer(lambda *_, answer=answer: answer).sign_transaction(ASKED) == raw  # type: ignore[misc]
    mine = KeySigner(OWN).sign_message(MESSAGE)
    assert signer(lambda *_: "0x" + mine.hex()).sign_message(MESSAGE) == mine


@pytest.mark.parametrize(
    "changed",
    [
        {"to": b"\x08" * 20},
        {"to": b""},
        {"value": 1},
        {"data": b"\1\3"},
        {"nonce": 2},
        {"gas": 50_001},
        {"max_fee": 10},
        {"max_priority_fee": 3},
        {"chain_id": 6},
    ],
)
def test_another_transaction_than_was_asked_for_is_never_sent(changed: dict[str, Any]) -> None:
    raw = replace(ASKED, **changed).sign(OWN)
    with pytest.raises(WrongSignature, match="another transaction"):
        signer(lambda *_: "0x" + raw.hex()).sign_transaction(ASKED)


def test_another_accounts_signature_and_garbage_are_refused() -> None:
    other = identity("somebody else")
    with pytest.raises(WrongSignature, match="another account signed"):
        signer(lambda *_: "0x" + ASKED.sign(other).hex()).sign_transaction(ASKED)
    theirs = KeySigner(other).sign_message(MESSAGE)
    with pytest.raises(WrongSignature, match="another account or message"):
        signer(lambda *_: "0x" + theirs.hex()).sign_message(MESSAGE)
    for garbage in ("0x", "0x02", "0x02c0", "0x01" + "00" * 40, "0xf8" + "00" * 90):
        with pytest.raises(WrongSignature):
            signer(lambda *_, garbage=garbage: garbage).sign_transaction(ASKED)  # type: ignore[misc]
    with pytest.raises(WrongSignature):
        signer(lambda *_: "0x" + "00" * 65).sign_message(MESSAGE)
    with pytest.raises(ChainRefused):
        signer(lambda *_: {"raw": 7}).sign_transaction(ASKED)


def test_a_wallet_works_through_a_real_signer(anvil_world: World) -> None:  # noqa: F811
    """Anvil keeps keys of its own, and signs with them as a bridge to a hardware wallet does."""
    world = anvil_world
    account = parse_address(JsonRpc(world.url).call("eth_accounts")[0].lower())
    world.wallet(world.client).transfer(account, 300 * POT)
    remote = RemoteSigner(world.url, account)
    wallet = ChainWallet(world.url, world.contracts, remote)
    wallet.stake(0, 200 * POT)  # a permit and a transaction
    wallet.transfer(world.client.address, POT)
    assert wallet.stake_of(account, 0).bonded_grains == 200 * POT
    assert wallet.balance_grains() == 99 * POT
    stranger = RemoteSigner(world.url, identity("has no key there").address)
    with pytest.raises(ChainRefused):
        ChainWallet(world.url, world.contracts, stranger).set_payout_address(world.client.address)
    assert format_address(account) != format_address(stranger.address)
    remote.close()
