"""Bring evidence of double signing to the ledger."""

from __future__ import annotations

from collections.abc import Callable

from pot_lab.agreement.evidence import Equivocation
from pot_lab.crypto.canonical import encode
from pot_lab.network.duties.duty import REPEAT_AFTER_MS
from pot_lab.network.duties.signer import TransactionSigner
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.transactions import Accuse


class ShowEvidence:
    """Submits proofs of double signing until the aggregator is convicted (protocol.md, "Double signing").

    Args:
        ledger: this replica's ledger.
        signer: signs the accusations.
    """

    def __init__(self, ledger: Callable[[], Ledger], signer: TransactionSigner) -> None:
        self._ledger, self._signer = ledger, signer
        self._found: dict[bytes, Equivocation] = {}
        self._submitted_at_ms: dict[bytes, int] = {}

    def add(self, evidence: Equivocation) -> None:
        """Evidence that the replica found; the first of each accused key is enough."""
        self._found.setdefault(evidence.accused(self._signer.network_id), evidence)

    def on_batch(self, sequence: int, time_ms: int, events: tuple[bytes, ...]) -> None:
        """Nothing to do: `poll` reads the ledger."""

    def poll(self, now_ms: int) -> list[bytes]:
        """Accusations of keys that the ledger knows and has not convicted, unless submitted lately."""
        state = self._ledger().state
        for accused in [each for each in self._found if each in state.convicted]:
            del self._found[accused]
        requests = []
        for accused, evidence in self._found.items():
            waited_ms = now_ms - self._submitted_at_ms.get(accused, -REPEAT_AFTER_MS)
            if accused in state.keys and waited_ms >= REPEAT_AFTER_MS:
                self._submitted_at_ms[accused] = now_ms
                requests.append(self._signer.sign(Accuse(encode(evidence))))
        return requests
