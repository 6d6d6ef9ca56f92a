"""Sign changes of the contracts' signer set, and send them (protocol.md, "Signers on the chain")."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pot_lab.crypto.identity import Identity
from pot_lab.errors import PotLabError
from pot_lab.network.duties.chain_queue import ChainQueue
from pot_lab.network.duties.duty import REPEAT_AFTER_MS, log
from pot_lab.network.duties.signer import TransactionSigner
from pot_lab.protocol import signers
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.transactions import SignRotation


class Rotator(Protocol):
    """What the rotating duty needs of a chain wallet (`chain.wallet.ChainWallet`); every call blocks."""

    def set_signing_key(self, key: Identity) -> object:
        """Name the key with which this account signs."""
        ...

    def rotate(self, set_id: int, threshold: int, stakers: list[bytes], signatures: dict[bytes, bytes]) -> object:
        """Replace the signer set by that of these stakers; `signatures` by the signers' addresses."""
        ...


class RotateSigners:
    """Signs the signer set that the contract shall have; when a quorum has signed, sends it, one aggregator after the
    other, and again while the chain does not confirm it. An aggregator that is new names its key on the chain first.

    Args:
        ledger: this replica's ledger.
        signer: signs, with the key that the contract knows.
        make_rotator: opens a chain wallet; called by the queue's work, once for each sending.
        queue: does the sending.
        patience_ms: how long the next aggregator in line waits for the one before it.
    """

    def __init__(
        self,
        ledger: Callable[[], Ledger],
        signer: TransactionSigner,
        make_rotator: Callable[[], Rotator],
        queue: ChainQueue,
        patience_ms: int = 8_000,
    ) -> None:
        self._ledger, self._signer = ledger, signer
        self._make_rotator, self._queue, self._patience_ms = make_rotator, queue, patience_ms
        self._digest = b""
        self._submitted_at_ms = -REPEAT_AFTER_MS
        self._send_at_ms: int | None = None
        self._name_at_ms = 0

    def on_batch(self, sequence: int, time_ms: int, events: tuple[bytes, ...]) -> None:
        """Nothing to do: `poll` reads the ledger."""

    def poll(self, now_ms: int) -> list[bytes]:
        """This aggregator's signature, if the set that is named lacks it; starts the sending when it is this one's
        turn.
        """
        book = self._ledger().book
        state, rotation = book.state, book.state.rotation
        own = self._signer.identity
        if now_ms >= self._name_at_ms and signers.has_to_name_its_key(book, own.address):
            self._name_at_ms = now_ms + self._patience_ms
            self._name_key(own)
        if rotation is None:
            return []
        digest = signers.digest_of(book, rotation)
        if digest != self._digest:
            self._digest, self._submitted_at_ms, self._send_at_ms = digest, -REPEAT_AFTER_MS, None
        counted = book.counted(rotation.signatures)
        index = book.members.get(self._signer.identity.address)
        if index is not None and len(counted) >= state.signing_quorum:
            if self._send_at_ms is None:
                place = (index - rotation.set_id) % len(book.members)
                self._send_at_ms = now_ms + place * self._patience_ms
            if now_ms >= self._send_at_ms:
                self._send_at_ms = now_ms + len(book.members) * self._patience_ms
                self._send(rotation.set_id, rotation.threshold, list(rotation.stakers), counted)
        signer = self._signer.signer_of(state.signers)
        lately = now_ms - self._submitted_at_ms < REPEAT_AFTER_MS
        if signer.address not in state.signers or signer.address in rotation.signatures or lately:
            return []
        self._submitted_at_ms = now_ms
        return [self._signer.sign(SignRotation(rotation.set_id, signer.sign(digest)), signer)]

    def _name_key(self, own: Identity) -> None:
        """Name the account's own key on the chain; where it votes with another key, its owner has to do that."""

        def work() -> None:
            try:
                self._make_rotator().set_signing_key(own)
                log.info("event=signing_key_named")
            except PotLabError as error:
                log.warning("event=signing_key_not_named reason=%r", str(error))

        self._queue.add(work)

    def _send(self, set_id: int, threshold: int, stakers: list[bytes], signatures: dict[bytes, bytes]) -> None:
        def work() -> None:
            try:
                self._make_rotator().rotate(set_id, threshold, stakers, signatures)
                log.info("event=rotation_sent set=%d n=%d", set_id, len(stakers))
            except PotLabError as error:  # another may have sent it already; if not, the next in line tries
                log.warning("event=rotation_not_sent set=%d reason=%r", set_id, str(error))

        self._queue.add(work)
