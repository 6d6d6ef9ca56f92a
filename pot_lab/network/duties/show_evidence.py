"""Bring evidence of double signing to the ledger."""

from __future__ import annotations

from collections.abc import Callable

from pot_lab.agreement.evidence import Equivocation
from pot_lab.crypto.canonical import encode
from pot_lab.network.duties.signer import REPEAT_AFTER_MS, TransactionSigner
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.transactions import Accuse


class ShowEvidence:
    """Bring proofs that an aggregator lied to the ledger, until it is convicted (protocol/accusations.py)."""

    def __init__(self, ledger: Callable[[], Ledger], signer: TransactionSigner) -> None:
        self._ledger, self._signer = ledger, signer
        self._found: dict[bytes, Equivocation] = {}
        self._said_ms: dict[bytes, int] = {}

    def take(self, evidence: Equivocation) -> None:
        """Evidence that the replica found; one for each liar is enough."""
        self._found.setdefault(evidence.accused(self._signer.network_id), evidence)

    def on_batch(self, sequence: int, time_ms: int, events: tuple[bytes, ...]) -> None:
        """Nothing to do: `poll` reads the ledger."""

    def poll(self, now_ms: int) -> list[bytes]:
        """Accusations that the ledger has not heard yet."""
        state = self._ledger().state
        for liar in [each for each in self._found if each in state.convicted]:
            del self._found[liar]
        said = []
        for liar, evidence in self._found.items():
            if liar in state.keys and now_ms - self._said_ms.get(liar, -REPEAT_AFTER_MS) >= REPEAT_AFTER_MS:
                self._said_ms[liar] = now_ms
                said.append(self._signer.sign(Accuse(encode(evidence))))
        return said
