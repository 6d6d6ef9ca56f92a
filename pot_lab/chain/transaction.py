"""Signed transactions (EIP-1559) and the RLP that they are made of.

Pure: an `Identity`, numbers and bytes in, bytes out. `tests/chain/test_transaction.py` compares with `eth_account`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from pot_lab.crypto.canonical import keccak256
from pot_lab.crypto.identity import Identity

Item: TypeAlias = "int | bytes | Sequence[Item]"
_DYNAMIC_FEE = b"\x02"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainTransaction:
    """An unsigned EIP-1559 transaction. `to` is 20 bytes, or empty to create a contract; fees are wei per gas."""

    chain_id: int
    nonce: int
    max_priority_fee: int
    max_fee: int
    gas: int
    to: bytes
    data: bytes
    value: int = 0

    def sign(self, identity: Identity) -> bytes:
        """The bytes for `eth_sendRawTransaction`; their Keccak-256 is the transaction's hash."""
        fields: list[Item] = [
            self.chain_id,
            self.nonce,
            self.max_priority_fee,
            self.max_fee,
            self.gas,
            self.to,
            self.value,
            self.data,
            [],
        ]
        signature = identity.sign(keccak256(_DYNAMIC_FEE + rlp(fields)))
        r, s, parity = (int.from_bytes(part, "big") for part in (signature[:32], signature[32:64], signature[64:]))
        return _DYNAMIC_FEE + rlp([*fields, parity, r, s])


def created_address(sender: bytes, nonce: int) -> bytes:
    """Address (20 bytes) of the contract that `sender`'s transaction number `nonce` creates."""
    return keccak256(rlp([sender, nonce]))[12:]


def rlp(item: Item) -> bytes:
    """Recursive length prefix encoding of integers (big-endian, no leading zeros), bytes and lists."""
    if isinstance(item, int):
        item = item.to_bytes((item.bit_length() + 7) // 8, "big")
    if isinstance(item, bytes):
        if len(item) == 1 and item[0] < 0x80:
            return item
        return _prefix(0x80, len(item)) + item
    body = b"".join(rlp(part) for part in item)
    return _prefix(0xC0, len(body)) + body


def _prefix(kind: int, length: int) -> bytes:
    if length < 56:
        return bytes([kind + length])
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([kind + 55 + len(size)]) + size
