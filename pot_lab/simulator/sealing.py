"""Sealed models of simulated people: keys whose boxes nobody opens, and what an aggregator owes them.

Shares and commitments are real, so that the ledger's rules see what they see on a network; the boxes hold nothing, for
who plays an aggregator here computes its share.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator

from pot_lab.agreement.quorum import correct
from pot_lab.crypto.canonical import Record, sha256
from pot_lab.crypto.identity import Address
from pot_lab.crypto.sealed_model import (
    KeyBox,
    KeyBoxes,
    model_binding,
    model_key_commitment,
    model_share_commitment,
)
from pot_lab.crypto.shamir import Share, split
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.records import ModelId, OrderId, opening_name
from pot_lab.protocol.state import OrderState
from pot_lab.protocol.transactions import AttestBoxes, HeldBox, ModelShare, ReleaseModelShares, Verdict

_EMPTY_BOX = bytes(97)


@functools.lru_cache(maxsize=256)
def sealed_key(
    network_id: bytes, order_id: OrderId, provider: Address, ciphertext_digest: bytes, holders: int
) -> tuple[KeyBoxes, tuple[Share, ...]]:
    """The key of a provider's model, the same in every run: its boxes for so many aggregators, and its shares."""
    binding = model_binding(network_id, order_id, provider, ciphertext_digest)
    secret, counter = sha256(b"key" + binding), iter(range(1 << 30))

    def bytes_for(count: int) -> bytes:
        return hashlib.shake_256(secret + b"%d" % next(counter)).digest(count)

    shares = split(secret, correct(holders), holders, bytes_for)
    boxes = tuple(KeyBox(model_share_commitment(binding, share), _EMPTY_BOX) for share in shares)
    return KeyBoxes(model_key_commitment(binding, secret), boxes), tuple(shares)


def opening_duties(
    ledger: Ledger, order_id: OrderId, order: OrderState, account: Address
) -> Iterator[tuple[object, Record]]:
    """What an honest aggregator's account owes an order in its reveal or release window, each under a name of its own:
    attestations of its boxes, its shares of models' keys, and verdicts.
    """
    network_id = ledger.book.network_id
    holders = [each.address for each in ledger.state.sets[order.sealed_to]]
    revealed = [(claim, claim.sealed) for claim in order.revealed() if claim.sealed is not None]
    if account in holders and order.window is Window.REVEAL:
        boxes = tuple(HeldBox(claim.provider) for claim, sealed in revealed if account not in sealed.holders)
        if boxes:
            yield ("boxes", order_id, boxes), AttestBoxes(order_id, boxes)
    elif account in holders and order.window is Window.RELEASE and order.test_right:
        place = holders.index(account)
        keys = {
            claim.provider: sealed_key(network_id, order_id, claim.provider, sealed.ciphertext.digest, len(holders))
            for claim, sealed in revealed
            if sealed.boxes is not None and place not in sealed.shares
        }
        shares = tuple(ModelShare(provider, each[place]) for provider, (_, each) in keys.items())
        if shares:
            yield ("model shares", order_id, shares), ReleaseModelShares(order_id, shares)
    if order.window is not Window.RELEASE or account not in ledger.book.paid_aggregators:
        return
    waiting = [claim.mid for claim, each in revealed if each.key and each.right is None and account not in each.votes]
    if order.test_key and order.test_right is None and account not in order.test_votes:
        waiting.append(ModelId(b""))
    for mid in waiting:
        name = opening_name(network_id, order_id, mid)
        yield ("verdict", name), Verdict(order_id, name, True)
