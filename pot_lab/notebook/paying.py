"""Pay for an order once, whatever happens to the node or to this process on the way.

An order is written down before its escrow is paid, and forgotten when `Lab.order` returns. What is written down longer
is of a kernel that was killed, or of a call that failed: the next order of the account first looks whether that one was
paid. An escrow's id is used once for ever by the contract, so looking is enough.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from pot_lab import home
from pot_lab.crypto.canonical import Record, decode, encode
from pot_lab.errors import PotLabError
from pot_lab.files import FileLocked, acquire_lock, make_private_folder, replace_durably
from pot_lab.notebook.errors import PaidBefore
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.errors import OrderExists, PoolFull
from pot_lab.protocol.records import OrderRecord
from pot_lab.protocol.transactions import Put

if TYPE_CHECKING:
    from pot_lab.chain.wallet import ChainWallet
    from pot_lab.network.client.ledger import LedgerClient

_log = logging.getLogger(__name__)

ESCROW_SEEN_S = 120
"""How long the aggregators may take to see an escrow on the chain."""
ESCROW_RETRY_S = 0.5
PAYMENT_SEEN_S = 15
"""How long a payment is looked for on the chain after the node failed on the way."""
_LIMIT_BYTES: Final = 1 << 20


class UnansweredOrder(Record, frozen=True, kw_only=True):
    """An order whose payment was begun, and the key of its test data (32 bytes), which only its client has."""

    order: OrderRecord
    test_key: bytes


class PaymentNotes:
    """The orders of one account whose payment was begun and not answered: one file each, readable by its owner only.

    A disk that refuses is logged and hinders no order: what is lost is the help after a kill.

    Args:
        network_id: the network (32 bytes).
        account: the client's address (20 bytes).
    """

    def __init__(self, network_id: bytes, account: bytes) -> None:
        self._name = f"{network_id.hex()[:16]}-{account.hex()}"

    @property
    def _folder(self) -> Path:
        return home.home() / "payments" / self._name

    @property
    def exist(self) -> bool:
        """Whether there is any note, also one that another kernel works at."""
        return any(self._folder.glob("*.order"))

    @contextlib.contextmanager
    def kept(self, note: UnansweredOrder) -> Iterator[None]:
        """Keep a note for a `with` block; it stays when the block fails, or the process ends in it."""
        path = self._folder / f"{note.order.id.hex()}.order"
        lock = None
        try:
            make_private_folder(self._folder.parent)  # its names tell who pays on which network
            make_private_folder(self._folder)
            lock = acquire_lock(path.with_suffix(".lock"), timeout_s=1.0)
            replace_durably(path, encode(note), mode=0o600)
        except (OSError, FileLocked) as error:
            _log.warning("event=payment_not_noted reason=%r", str(error))
        try:
            yield
            self._forget(path)
        finally:
            if lock is not None:
                os.close(lock)

    @contextlib.contextmanager
    def left_behind(self) -> Iterator[list[UnansweredOrder]]:
        """For a `with` block, the notes of processes that do not work at them any more; the block's end forgets those
        that it took out of the list.
        """
        found: dict[Path, UnansweredOrder] = {}
        with contextlib.ExitStack() as locks:
            for path in sorted(self._folder.glob("*.order")):
                try:
                    locks.callback(os.close, acquire_lock(path.with_suffix(".lock")))
                    with path.open("rb") as file:
                        found[path] = decode(file.read(_LIMIT_BYTES + 1), UnansweredOrder, limit_bytes=_LIMIT_BYTES)
                except FileLocked:  # another kernel is paying this one
                    continue
                except (OSError, PotLabError) as error:
                    _log.warning("event=payment_note_unusable file=%s reason=%r", path.name, str(error))
            notes = list(found.values())
            try:
                yield notes
            finally:
                for path, note in found.items():
                    if note not in notes:
                        self._forget(path)

    def _forget(self, path: Path) -> None:
        for each in (path, path.with_suffix(".lock")):
            try:
                each.unlink(missing_ok=True)
            except OSError as error:
                _log.warning("event=payment_note_not_removed reason=%r", str(error))


class Payments:
    """Puts and pays orders of one account.

    Args:
        client: the connection to the ledger.
        wallet: opens the account on the chain.
        notes: where orders are written down.
    """

    def __init__(self, client: LedgerClient, wallet: Callable[[], ChainWallet], notes: PaymentNotes) -> None:
        self._client, self._wallet, self._notes = client, wallet, notes

    @property
    def begun(self) -> bool:
        """Whether an earlier payment is written down, so that `paid_before` has something to look for."""
        return self._notes.exist

    def place(self, record: OrderRecord, test_key: bytes) -> None:
        """Put an order and pay its escrow.

        Raises:
            ChainUnreachable, ChainRefused: it is not known that the escrow is on the chain; the message names the
                order.
            PoolFull: the order is paid, and the aggregators did not see its escrow in time.
        """
        with self._notes.kept(UnansweredOrder(order=record, test_key=test_key)):
            try:
                self._client.submit(Put(record))
            except PoolFull:  # of unpaid orders, which cost nothing: pay first, then there is always room
                self._pay(record)
                self._put_paid(record)
            else:
                self._pay(record)

    def paid_before(self, wanted: OrderRecord) -> UnansweredOrder | None:
        """The same order, if it was paid by a call that did not come to its end.

        Args:
            wanted: the order that is about to be placed.
        Raises:
            PaidBefore: another order was; nothing was sent, and the next call places the wanted one.
            ChainUnreachable, TransactionUnconfirmed: it cannot be told whether one was; nothing was sent.
        """
        with self._notes.left_behind() as notes:
            if not notes:
                return None
            self._wallet().finish_earlier()
            for note in list(notes):
                is_paid = self._wallet().is_placed(note.order.id)
                is_live = is_paid and self._bring_in(note.order)
                notes.remove(note)
                if is_live and _content(note.order) == _content(wanted):
                    return note
                if is_live:
                    raise PaidBefore(
                        "an order of this account was paid, and its call did not return; nothing was sent now",
                        seen=f"lab.get('{note.order.id.hex()}'), titled {note.order.title!r}",
                        wanted="this call again, if you want another order besides it",
                    )
        return None

    def _bring_in(self, record: OrderRecord) -> bool:
        """Put a paid order that the ledger may not have; returns whether it still runs."""
        try:
            self._put_paid(record)
        except OrderExists:
            return self._client.order(record.id).window not in (Window.SETTLED, Window.VOID)
        except PotLabError as error:  # too old by now: the contract gives its escrow back
            _log.warning("event=paid_order_not_put order=%s reason=%r", record.id.hex(), str(error))
            return False
        return True

    def _pay(self, record: OrderRecord) -> None:
        """Pay an order's escrow, once: a node that fails after it took the payment must not make anybody pay again."""
        from pot_lab.chain.errors import ChainRefused, ChainUnreachable

        try:
            self._wallet().place_order(
                record.reward_grains,
                record.fee_grains,
                record.bond_grains,
                record.seal_by_s,
                record.spec_hash,
                record.nonce,
            )
        except (ChainUnreachable, ChainRefused) as error:
            if self._escrow_arrives(record):
                return
            error.message += (
                f"; it is not known whether the order is paid: look with "
                f"`lab.get('{record.id.hex()}').window`. The next order of this account looks first"
            )
            raise

    def _escrow_arrives(self, record: OrderRecord) -> bool:
        """Whether an order's escrow is seen on the chain within `PAYMENT_SEEN_S`."""
        deadline_s = time.monotonic() + PAYMENT_SEEN_S
        while True:
            with contextlib.suppress(PotLabError):
                if self._wallet().escrowed_grains(record.id):
                    return True
            if time.monotonic() > deadline_s:
                return False
            time.sleep(ESCROW_RETRY_S)

    def _put_paid(self, record: OrderRecord) -> None:
        """Put an order whose escrow is on the chain, once the ledger has seen that."""
        deadline_s = time.monotonic() + ESCROW_SEEN_S
        while True:
            try:
                self._client.submit(Put(record))
                return
            except PoolFull:
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(ESCROW_RETRY_S)


def _content(record: OrderRecord) -> tuple[object, ...]:
    """What an order asks for and offers, without what every placing of it makes anew: number, dates, sealed key."""
    made_anew = {"nonce", "seal_by_s", "test"}
    terms = tuple(value for name, value in msgspec.structs.asdict(record).items() if name not in made_anew)
    return (*terms, record.test.root, record.test.plain_digest)
