"""The ledger as consensus sees it: bytes in, bytes out.

Implements `consensus.application.Application` by its shape alone, so that neither room imports the other's rules.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from pot_lab.agreement.application import Batch, Execution, RequestId, Seat
from pot_lab.crypto.canonical import encode
from pot_lab.crypto.identity import Address, Recover, recover
from pot_lab.protocol.ledger import VERSIONS, Handler, Ledger
from pot_lab.protocol.queries import query
from pot_lab.protocol.state import Genesis, GenesisAggregator, Stake
from pot_lab.protocol.transactions import Transaction, open_transaction

_ENTRY_BYTES = 1_024
_REMEMBERED_BYTES = 16 << 20
"""Transactions that were admitted and not executed yet are about this much; strangers may send as many as they like."""


class LedgerApplication:
    """The replicated state machine of one network.

    A transaction's signature is checked when it is admitted and remembered, so that it is not checked again when it is
    executed.

    Args:
        genesis: what the network begins with.
        recover: gives the address that signed a digest, as `crypto.identity.recover` does.
        versions: the rules by version, as `Ledger` takes them.
    """

    def __init__(
        self,
        genesis: Genesis,
        *,
        recover: Recover = recover,
        versions: Mapping[int, Mapping[str, Handler]] = VERSIONS,
    ) -> None:
        self.ledger = Ledger(genesis, recover=recover, versions=versions)
        self._recover = recover
        self._network_id = genesis.network_id
        self._seats: tuple[Seat, ...] = ()
        self._seated: list[GenesisAggregator] = []
        self._opened: OrderedDict[bytes, Transaction] = OrderedDict()
        self._opened_bytes = 0
        self._clients: set[Address] = set()
        self._clients_at = -1

    def validate(self, request: bytes) -> RequestId:
        """Authenticate a transaction: size, shape, network, signature; raises PotLabError with the rule it breaks."""
        transaction = self._open(request)
        return RequestId(transaction.account, transaction.nonce)

    def is_funded(self, account: bytes) -> bool:
        """Whether an account has a seat, stake, earnings or a live escrow: hosts serve its requests first.

        It is read between batches and decides nothing in the ledger.
        """
        state, address = self.ledger.state, Address(account)
        known = state.accounts.get(address)
        if address in state.keys or (known is not None and (known.earned_grains or any(map(_backs, known.stakes)))):
            return True
        if self._clients_at != state.sequence:
            self._clients_at = state.sequence
            self._clients = {escrow.client for escrow in state.escrows.values()}
        return address in self._clients

    def execute(self, batch: Batch) -> Execution:
        """Apply an agreed batch; every request in it passed `validate`."""
        transactions = [self._open(request) for request in batch.requests]
        replies, events = self.ledger.execute(batch.sequence, batch.time_ms, transactions, batch.since)
        return Execution(
            tuple(encode(reply) for reply in replies),
            tuple(encode(event) for event in events),
            self.ledger.state.digest,
        )

    def due_ms(self) -> int | None:
        """When a batch is due even if no transaction waits."""
        return self.ledger.due_ms()

    def seats(self) -> tuple[Seat, ...]:
        """The aggregators that the ledger names; their list is replaced when it changes, never changed in place."""
        seated = self.ledger.state.aggregators
        if seated is not self._seated:
            self._seated, self._seats = seated, tuple(Seat(each.key, each.contact) for each in seated)
        return self._seats

    def query(self, name: str, arguments: bytes) -> bytes:
        """Answer a read; see `queries`."""
        return query(self.ledger, name, arguments)

    def snapshot(self) -> bytes:
        """The whole state in canonical bytes."""
        return self.ledger.snapshot()

    def restore(self, snapshot: bytes) -> None:
        """Take over a snapshot's state."""
        self.ledger.restore(snapshot)

    def _open(self, request: bytes) -> Transaction:
        found = self._opened.get(request)
        if found is None:
            found = self._opened[request] = open_transaction(request, self._network_id, self._recover)
            self._opened_bytes += len(request) + _ENTRY_BYTES
            while self._opened_bytes > _REMEMBERED_BYTES and len(self._opened) > 1:
                oldest, _ = self._opened.popitem(last=False)
                self._opened_bytes -= len(oldest) + _ENTRY_BYTES
        return found


def _backs(stake: Stake) -> bool:
    return stake.bonded + stake.unbonding > 0
