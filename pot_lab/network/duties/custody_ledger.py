"""What the ledger wants of an aggregator's custody: each order's blobs, where they may be had, and what is attested.

Follows the ledger's own list of changes, so a turn costs the orders that changed and not those that live.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from pot_lab.crypto.identity import Address
from pot_lab.network.duties.custody import Standing
from pot_lab.network.duties.custody_keeper import WantedBlob, Wants
from pot_lab.network.duties.signer import TransactionSigner
from pot_lab.protocol.book import Book
from pot_lab.protocol.custody_index import CustodyIndex
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.records import HeldBlob, OrderId
from pot_lab.protocol.transactions import AttestBlobs
from pot_lab.store.custody import ExpectedBlob

Copies = Callable[[Address], str]
"""Where the aggregator with this account serves its custody; empty where that is not known."""


class OrdersCustody:
    """The orders' blobs as `CustodyDuty` wants them.

    A blob may be had from the link that names it, and from the members that attested it, as long as this aggregator has
    not attested it itself.

    Args:
        ledger: this replica's ledger.
        signer: this aggregator's keys.
        copies: where members serve what they hold, this one too; one that serves nothing attests nothing.
    """

    def __init__(
        self, ledger: Callable[[], Ledger], signer: TransactionSigner, copies: Copies = lambda account: ""
    ) -> None:
        self._ledger, self._signer, self._copies = ledger, signer, copies
        self._index: CustodyIndex | None = None
        self._version = 0
        self._account: Address | None = None
        self._wants: Wants = {}

    def wants(self) -> Wants:
        """What the orders name now, by order; the same object while nothing of it changed."""
        book, account = self._ledger().book, self._own_account()
        index = book.custody
        if index is self._index and account == self._account:
            if index.version != self._version:
                self._follow(book, index.changed_since(self._version))
        else:  # a ledger that was taken over from a snapshot, or another seat
            self._follow(book, {*index.orders(), *map(OrderId, self._wants)})
        self._index, self._version, self._account = index, index.version, account
        return self._wants

    def standing(self, blob: ExpectedBlob) -> Standing:
        """What becomes of an attestation of this blob."""
        book, held = self._ledger().book, HeldBlob(*blob)
        account = self._own_account()
        if not book.custody.orders_naming(held) or account in book.state.custody.get(held.key, ()):
            return Standing.OVER
        # Nobody could have from it what an aggregator without a port for custody attests.
        return Standing.DUE if account is not None and self._copies(account) else Standing.LATER

    def attest(self, blobs: Sequence[ExpectedBlob]) -> bytes:
        """The signed request that attests these."""
        return self._signer.sign(AttestBlobs(tuple(HeldBlob(*each) for each in blobs)))

    def _own_account(self) -> Address | None:
        """The account of this aggregator's seat; None without a seat."""
        book = self._ledger().book
        index = book.members.get(Address(self._signer.identity.address))
        return None if index is None else book.state.aggregators[index].account

    def _follow(self, book: Book, changed: Collection[OrderId]) -> None:
        wants, news = dict(self._wants), False
        for order_id in changed:
            now, before = self._blobs_of(book, order_id), wants.get(order_id, ())
            if now != before:
                news = True
                if now:
                    wants[order_id] = now
                else:
                    del wants[order_id]
        if news:
            self._wants = wants

    def _blobs_of(self, book: Book, order_id: OrderId) -> tuple[WantedBlob, ...]:
        account = self._own_account()
        found: dict[HeldBlob, WantedBlob] = {}
        for link, payer, _ in book.custody.of_order(order_id):
            blob = HeldBlob(link.digest, link.size_bytes)
            known = found.get(blob)
            if known is None:
                holders = book.state.custody.get(blob.key, [])
                others = [] if account in holders else filter(None, map(self._copies, holders))
                uris = (link.uri, *(f"{url}/{link.digest.hex()}" for url in others))
                found[blob] = WantedBlob(link.digest, link.size_bytes, payer, order_id, uris)
            elif link.uri not in known.uris:
                found[blob] = known._replace(uris=(*known.uris, link.uri))
        return tuple(found.values())
