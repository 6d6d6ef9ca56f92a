"""Transactions (EIP-1559), signed by eth-account."""

from __future__ import annotations

from dataclasses import dataclass

from pot_lab.crypto.identity import Identity, format_address


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
        from eth_account import Account

        fields = {
            "type": 2,
            "chainId": self.chain_id,
            "nonce": self.nonce,
            "maxPriorityFeePerGas": self.max_priority_fee,
            "maxFeePerGas": self.max_fee,
            "gas": self.gas,
            "to": format_address(self.to) if self.to else "",
            "value": self.value,
            "data": self.data,
        }
        return bytes(Account.sign_transaction(fields, identity.secret).raw_transaction)
