"""Open this aggregator's boxes of sealed models: attest them when models are revealed, publish the shares once the test
data are proven (protocol.md, "Sealed models").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from pot_lab.crypto.canonical import Record
from pot_lab.crypto.identity import Address
from pot_lab.crypto.sealed_box import SealingKey
from pot_lab.crypto.sealed_model import KeyBox, model_binding, open_model_share
from pot_lab.crypto.shamir import Share
from pot_lab.errors import PotLabError
from pot_lab.network.duties.duty import REPEAT_AFTER_MS, log
from pot_lab.network.duties.signer import TransactionSigner
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.records import NOBODY, OrderId
from pot_lab.protocol.state import OrderState, SealedModelState
from pot_lab.protocol.transactions import MAX_ITEMS, AttestBoxes, HeldBox, ModelShare, ReleaseModelShares

ITEMS_AT_ONCE = MAX_ITEMS
_WINDOWS = (Window.REVEAL, Window.RELEASE)


class ModelKeys:
    """Submits what is due of the models whose keys this aggregator holds a share of.

    Args:
        ledger: this replica's ledger.
        signer: signs what is submitted.
        sealing_keys: its X25519 keys; a box is opened with the key in use when the order was made.
    """

    def __init__(
        self, ledger: Callable[[], Ledger], signer: TransactionSigner, sealing_keys: Sequence[SealingKey]
    ) -> None:
        self._ledger, self._signer, self._keys = ledger, signer, tuple(sealing_keys)
        self._shares: dict[OrderId, dict[bytes, Share | None]] = {}
        self._submitted_ms: dict[tuple[OrderId, Window], int] = {}

    def on_batch(self, sequence: int, time_ms: int, events: tuple[bytes, ...]) -> None:
        """Nothing to do: `poll` reads the ledger."""

    def poll(self, now_ms: int) -> list[bytes]:
        """Attestations and shares that are due and not yet in the ledger, unless submitted lately."""
        book = self._ledger().book
        live = {each: window for window in _WINDOWS for each in book.index.in_window(window)}
        self._shares = {order_id: self._shares.get(order_id, {}) for order_id in live}
        requests, due = list[bytes](), set[tuple[OrderId, Window]]()
        account = book.state.keys.get(Address(self._signer.identity.address), NOBODY)
        for order_id, window in sorted(live.items()):
            order = book.state.orders[order_id]
            holders = [each.address for each in book.state.sets[order.sealed_to]]
            if account not in holders:
                continue
            bodies = list(self._due(book.network_id, order_id, order, account, holders.index(account)))
            if bodies:
                due.add((order_id, window))
            last_ms = self._submitted_ms.get((order_id, window), now_ms - REPEAT_AFTER_MS)
            if bodies and now_ms - last_ms >= REPEAT_AFTER_MS:
                self._submitted_ms[order_id, window] = now_ms
                requests += [self._signer.sign(body) for body in bodies]
        self._submitted_ms = {key: at_ms for key, at_ms in self._submitted_ms.items() if key in due}
        return requests

    def _due(
        self, network_id: bytes, order_id: OrderId, order: OrderState, account: Address, place: int
    ) -> Iterator[Record]:
        found: list[tuple[Address, Share]] = []
        for claim in order.revealed():
            sealed = claim.sealed
            if sealed is None or sealed.boxes is None:
                continue
            if order.window is Window.REVEAL and account in sealed.holders:
                continue
            if order.window is Window.RELEASE and (not order.test_right or place in sealed.shares):
                continue
            share = self._share(network_id, order_id, claim.provider, sealed, account, place)
            if share is not None:
                found.append((claim.provider, share))
        for start in range(0, len(found), ITEMS_AT_ONCE):
            part = found[start : start + ITEMS_AT_ONCE]
            if order.window is Window.REVEAL:
                yield AttestBoxes(order_id, tuple(HeldBox(provider) for provider, _ in part))
            else:
                yield ReleaseModelShares(order_id, tuple(ModelShare(provider, share) for provider, share in part))

    def _share(
        self,
        network_id: bytes,
        order_id: OrderId,
        provider: Address,
        sealed: SealedModelState,
        account: Address,
        place: int,
    ) -> Share | None:
        """This aggregator's share of a model's key; None where its box does not hold it, which is logged once."""
        known = self._shares[order_id]
        if provider not in known and sealed.boxes is not None:
            binding = model_binding(network_id, order_id, provider, sealed.ciphertext.digest)
            known[provider] = self._opened(sealed.boxes.boxes[place], binding, account, place)
            if known[provider] is None:
                log.warning("event=box_unusable order=%s provider=%s", order_id.hex()[:16], provider.hex()[:16])
        return known.get(provider)

    def _opened(self, box: KeyBox, binding: bytes, account: Address, place: int) -> Share | None:
        for key in self._keys:
            try:
                return open_model_share(box, key, binding=binding, holder=account, place=place)
            except PotLabError:  # made for another key of this aggregator, or not at all as promised
                continue
        return None
