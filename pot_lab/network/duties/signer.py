"""What an aggregator does besides ordering: release key shares, attest the chain, sign settlements and signer sets and
send them.

Each duty looks at its own replica's ledger after every batch and says, as signed transactions, what is still missing;
so a restarted aggregator picks up where it was, and saying a thing twice is harmless (the ledger refuses it). Slow work
(the chain) runs on the duty's own thread and only hands results over; nothing here blocks the aggregator's loop.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Container, Sequence

from pot_lab.crypto.canonical import Record
from pot_lab.crypto.identity import Identity
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.transactions import sign

log = logging.getLogger(__name__)

REPEAT_AFTER_MS = 3_000
"""A transaction that has not shown in the ledger after this long is said again."""


class TransactionSigner:
    """Signs an aggregator's own transactions; nonces follow the host's clock, which may be wrong without harm.

    Args:
        identity, spare: the aggregator's keys; the one that the ledger listens to now signs.
    """

    def __init__(
        self,
        network_id: bytes,
        identity: Identity,
        spare: Sequence[Identity] = (),
        ledger: Callable[[], Ledger] | None = None,
    ) -> None:
        self.network_id, self._nonce = network_id, 0
        self._identities, self._ledger = (identity, *spare), ledger

    @property
    def identity(self) -> Identity:
        """The key in use now."""
        if self._ledger is None or len(self._identities) == 1:
            return self._identities[0]
        members = self._ledger().book.members
        return next((each for each in self._identities if each.address in members), self._identities[0])

    def signer_of(self, keys: Container[bytes]) -> Identity:
        """The key that is one of these, or else the one in use now."""
        return next((each for each in self._identities if each.address in keys), self.identity)

    def sign(self, body: Record, identity: Identity | None = None) -> bytes:
        """A signed transaction with the next nonce, by another of its keys if one is given."""
        self._nonce = max(self._nonce + 1, time.time_ns() // 1000)
        return sign(self.network_id, body, identity or self.identity, self._nonce)
