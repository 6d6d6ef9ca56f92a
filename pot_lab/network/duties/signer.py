"""Signing an aggregator's own transactions."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence

from pot_lab.crypto.canonical import Record
from pot_lab.crypto.identity import Identity
from pot_lab.network.clock import wall_clock_us
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.transactions import sign


class TransactionSigner:
    """Signs an aggregator's own transactions; nonces follow the host's clock, which may be wrong without harm.

    Args:
        network_id: 32 bytes that every signature names.
        identity, spare: the aggregator's keys.
        ledger: the replica's ledger, whose members say which key is in use; without it `identity` is.
        clock_us: microseconds since the Unix epoch.
    """

    def __init__(
        self,
        network_id: bytes,
        identity: Identity,
        spare: Sequence[Identity] = (),
        ledger: Callable[[], Ledger] | None = None,
        *,
        clock_us: Callable[[], int] = wall_clock_us,
    ) -> None:
        self.network_id, self._nonce, self._clock_us = network_id, 0, clock_us
        self._identities, self._ledger = (identity, *spare), ledger

    @property
    def identity(self) -> Identity:
        """The key in use now: the one with a seat, or else the first."""
        if self._ledger is None or len(self._identities) == 1:
            return self._identities[0]
        members = self._ledger().book.members
        return next((each for each in self._identities if each.address in members), self._identities[0])

    def signer_of(self, keys: Container[bytes]) -> Identity:
        """The key whose address is one of these, or else the one in use now."""
        return next((each for each in self._identities if each.address in keys), self.identity)

    def sign(self, body: Record, identity: Identity | None = None) -> bytes:
        """A signed transaction with the next nonce, by another of its keys if one is given."""
        self._nonce = max(self._nonce + 1, self._clock_us())
        return sign(self.network_id, body, identity or self.identity, self._nonce)
