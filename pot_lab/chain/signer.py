"""Who signs for an account on the chain: a key of this process, or a program that keeps the key elsewhere.

A hardware wallet shows what it signs and never gives its key. So a wallet hands out whole transactions and whole
EIP-712 messages, never digests, and looks at what comes back: a signer is asked, not trusted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pot_lab.chain.errors import ChainRefused, WrongSignature
from pot_lab.chain.rpc import JsonRpc, hex_data, hex_quantity, read_data
from pot_lab.chain.transaction import ChainTransaction
from pot_lab.crypto.canonical import keccak256
from pot_lab.crypto.identity import Identity, format_address


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedMessage:
    """An EIP-712 message: its domain, its only type by name, and its values. Addresses are 20 bytes."""

    domain: Mapping[str, Any]
    kind: str
    fields: tuple[tuple[str, str], ...]
    values: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """As `eth_signTypedData_v4` takes it."""
        names = {"name": "string", "version": "string", "chainId": "uint256", "verifyingContract": "address"}
        types = {self.kind: list(self.fields), "EIP712Domain": list(names.items())}
        return {
            "domain": _plain(self.domain),
            "types": {name: [{"name": n, "type": t} for n, t in fields] for name, fields in types.items()},
            "primaryType": self.kind,
            "message": _plain(self.values),
        }

    @property
    def digest(self) -> bytes:
        """The 32 bytes that are signed."""
        from eth_account.messages import encode_typed_data

        encoded = encode_typed_data(full_message=self.as_json())
        return keccak256(b"\x19" + encoded.version + encoded.header + encoded.body)

    def signer_of(self, signature: bytes) -> bytes:
        """Who made a signature of it: an address, 20 bytes.

        Raises:
            WrongSignature: nobody did.
        """
        from eth_account import Account
        from eth_account.messages import encode_typed_data

        try:
            signer = Account.recover_message(encode_typed_data(full_message=self.as_json()), signature=signature)
        except Exception as error:  # the libraries have no error in common
            raise WrongSignature(
                "the bytes are not a signature of this message", seen=f"0x{signature.hex()}"
            ) from error
        return bytes.fromhex(signer[2:])


class AccountSigner(Protocol):
    """What a wallet needs of whoever keeps an account's key."""

    @property
    def address(self) -> bytes:
        """The account, 20 bytes."""
        ...

    def sign_transaction(self, transaction: ChainTransaction) -> bytes:
        """The bytes for `eth_sendRawTransaction`."""
        ...

    def sign_message(self, message: TypedMessage) -> bytes:
        """65 bytes r || s || v over an EIP-712 message, v 27 or 28."""
        ...


class KeySigner:
    """Signs with a key of this process, by eth-account.

    Args:
        identity: the key.
    """

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    @property
    def address(self) -> bytes:
        """The key's account."""
        return self._identity.address

    def sign_transaction(self, transaction: ChainTransaction) -> bytes:
        """See `AccountSigner`."""
        return transaction.sign(self._identity)

    def sign_message(self, message: TypedMessage) -> bytes:
        """See `AccountSigner`."""
        from eth_account import Account

        return bytes(Account.sign_typed_data(self._identity.secret, full_message=message.as_json()).signature)


class RemoteSigner:
    """Has a program sign that keeps the key: a hardware wallet's bridge, Web3Signer, a node with accounts of its own.

    It is asked by `eth_signTransaction` and `eth_signTypedData_v4`. What it signs is compared with what was asked for,
    and with the account, before anybody sees it.

    Args:
        url: where the program answers JSON-RPC.
        address: the account, 20 bytes.
        timeout_s: how long it may take: a person may have to press a button.
    """

    def __init__(self, url: str, address: bytes, *, timeout_s: float = 120.0) -> None:
        self._rpc = JsonRpc(url, timeout_s=timeout_s)
        self._address = address

    @property
    def address(self) -> bytes:
        """The account, 20 bytes."""
        return self._address

    def close(self) -> None:
        """Close the connection."""
        self._rpc.close()

    def sign_transaction(self, transaction: ChainTransaction) -> bytes:
        """See `AccountSigner`.

        Raises:
            WrongSignature: it signed something else, or for another account.
            ChainUnreachable, ChainRefused: it does not answer, or a person said no.
        """
        asked = {
            "from": format_address(self._address),
            "chainId": hex_quantity(transaction.chain_id),
            "nonce": hex_quantity(transaction.nonce),
            "maxPriorityFeePerGas": hex_quantity(transaction.max_priority_fee),
            "maxFeePerGas": hex_quantity(transaction.max_fee),
            "gas": hex_quantity(transaction.gas),
            "value": hex_quantity(transaction.value),
            "data": hex_data(transaction.data),
        }
        if transaction.to:
            asked["to"] = format_address(transaction.to)
        answer = self._rpc.call("eth_signTransaction", asked)
        raw = read_data(answer.get("raw") if isinstance(answer, dict) else answer)
        seen, signer = _read(raw)
        if seen != transaction:
            raise WrongSignature("another transaction was signed than was asked for", seen=seen, wanted=transaction)
        if signer != self._address:
            raise WrongSignature("another account signed", seen=format_address(signer), wanted=asked["from"])
        return raw

    def sign_message(self, message: TypedMessage) -> bytes:
        """See `AccountSigner`.

        Raises:
            WrongSignature: another account signed, or something else was.
            ChainUnreachable, ChainRefused: it does not answer, or a person said no.
        """
        account = format_address(self._address)
        signature = read_data(self._rpc.call("eth_signTypedData_v4", account, message.as_json()), 65)
        if (signer := message.signer_of(signature)) != self._address:
            raise WrongSignature("another account or message was signed", seen=format_address(signer), wanted=account)
        return signature


def only_account(url: str, *, timeout_s: float = 120.0) -> bytes:
    """The account of a program that keeps keys, where it has just one (20 bytes).

    Raises:
        ChainRefused: it names none, or several.
        ChainUnreachable: it does not answer.
    """
    rpc = JsonRpc(url, timeout_s=timeout_s)
    try:
        named = rpc.call("eth_accounts")
    finally:
        rpc.close()
    if not isinstance(named, list) or len(named) != 1:
        seen = ", ".join(map(str, named[:4])) if isinstance(named, list) else type(named).__name__
        raise ChainRefused("the signer has not one account", seen=seen or "none", wanted="--account with its address")
    return read_data(named[0], 20)


def signer_for(account: Identity | AccountSigner | None) -> AccountSigner | None:
    """The signer of an account that is named by its key, or by a signer; None for a reader."""
    return KeySigner(account) if isinstance(account, Identity) else account


def _read(raw: bytes) -> tuple[ChainTransaction, bytes]:
    """What a signed transaction says, and whose it is."""
    from eth_account import Account
    from eth_account.typed_transactions.typed_transaction import TypedTransaction
    from hexbytes import HexBytes

    try:
        says = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
        signer = bytes.fromhex(Account.recover_transaction(raw)[2:])
        if says["type"] != 2 or says["accessList"]:
            raise ChainRefused("not a plain transaction of type 2", seen=says["type"])
        read = ChainTransaction(
            chain_id=says["chainId"],
            nonce=says["nonce"],
            max_priority_fee=says["maxPriorityFeePerGas"],
            max_fee=says["maxFeePerGas"],
            gas=says["gas"],
            to=bytes(says["to"]),
            data=bytes(says["data"]),
            value=says["value"],
        )
    except Exception as error:  # the libraries have no error in common
        raise WrongSignature("the bytes are not a signed transaction of type 2", seen=f"{len(raw)} bytes") from error
    return read, signer


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Bytes as hex, and addresses too: what JSON has."""

    def plain(value: Any) -> Any:
        if isinstance(value, bytes):
            return format_address(value) if len(value) == 20 else hex_data(value)
        return [plain(each) for each in value] if isinstance(value, list | tuple) else value

    return {name: plain(value) for name, value in values.items()}
