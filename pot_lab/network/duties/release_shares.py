"""Publish key shares when an order's reveal window has closed (protocol.md, "The task cycle")."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from pot_lab.crypto.canonical import decode
from pot_lab.crypto.sealed_box import SealingKey
from pot_lab.crypto.shamir import Share
from pot_lab.errors import PotLabError
from pot_lab.network.duties.duty import REPEAT_AFTER_MS, log
from pot_lab.network.duties.signer import TransactionSigner
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.records import NOBODY, share_context
from pot_lab.protocol.transactions import ReleaseShare

_SHARE_LIMIT_BYTES = 256


class ReleaseShares:
    """Publishes this aggregator's share of the test-data key of every order whose reveal window has closed.

    Args:
        ledger: this replica's ledger.
        signer: signs the releases.
        sealing_keys: its X25519 keys; a share is opened with the key in use when the order was made.
    """

    def __init__(
        self, ledger: Callable[[], Ledger], signer: TransactionSigner, sealing_keys: Sequence[SealingKey]
    ) -> None:
        self._ledger, self._signer, self._keys = ledger, signer, tuple(sealing_keys)
        self._submitted_at_ms: dict[bytes, int] = {}

    def on_batch(self, sequence: int, time_ms: int, events: tuple[bytes, ...]) -> None:
        """Nothing to do: `poll` reads the ledger."""

    def poll(self, now_ms: int) -> list[bytes]:
        """Shares that are due and not yet in the ledger, unless submitted lately."""
        state = self._ledger().state
        account = state.keys.get(self._signer.identity.address, NOBODY)
        due = [
            (order_id, order, holders.index(account))
            for order_id, order in state.orders.items()
            if order.window is Window.RELEASE
            and account in (holders := [each.address for each in state.sets[order.sealed_to]])
            and holders.index(account) not in order.shares
        ]
        submitted = self._submitted_at_ms
        self._submitted_at_ms = {order_id: submitted[order_id] for order_id, *_ in due if order_id in submitted}
        requests = []
        for order_id, order, index in due:
            if now_ms - self._submitted_at_ms.get(order_id, -REPEAT_AFTER_MS) < REPEAT_AFTER_MS:
                continue
            self._submitted_at_ms[order_id] = now_ms
            test = order.order.test
            try:
                context = share_context(order.order.sealing_binding, account, index)
                share = decode(self._open(test.sealed_shares[index], context), Share, limit_bytes=_SHARE_LIMIT_BYTES)
            except PotLabError as error:
                log.warning("event=share_unusable order=%s reason=%r", order_id.hex()[:16], str(error))
                continue
            requests.append(self._signer.sign(ReleaseShare(order_id, share)))
        return requests

    def _open(self, box: bytes, context: bytes) -> bytes:
        *others, last = self._keys
        for key in others:
            with contextlib.suppress(PotLabError):
                return key.open(box, context)
        return last.open(box, context)
