"""Downtime of aggregators: one that signs no settlements is paid for no orders (protocol.md, "Seats among the
aggregators").

Everything else that an aggregator does is decided by the first f+1 or n-f of them, so who is silent cannot be told from
who is slower. For a settlement all have the same time: from its opening until the chain's own event confirms it. Each
that a signer did not sign is a mark, each that it signed takes one away; so it needs to be up half of the time. Nobody
else can give marks, and no order can.
"""

from __future__ import annotations

from pot_lab.crypto.identity import Address
from pot_lab.protocol.book import Book
from pot_lab.protocol.state import PendingEpoch


def is_jailed(book: Book, account: Address) -> bool:
    """Whether the aggregator was down for so long that orders do not pay it."""
    return book.state.downtime.get(account, 0) >= book.state.parameters.jail_marks


def mark(book: Book, confirmed: PendingEpoch) -> None:
    """Note who signed the settlement that the chain has confirmed, and who did not."""
    state, marks = book.state, dict[Address, int]()
    if len(book.counted(confirmed.signatures)) < state.signing_quorum:  # the chain took an earlier round of it
        return
    most, seated = state.parameters.jail_marks, {seat.account for seat in state.aggregators}
    for key in state.signers:
        account = state.keys.get(key)
        if account is None or account not in seated:
            continue
        before = state.downtime.get(account, 0)
        now = max(0, before - 1) if key in confirmed.signatures else min(most, before + 1)
        if now:
            marks[account] = now
        if now >= most > before:
            book.account(account).reputation.absences += 1
            book.emit("aggregator_jailed", account=account, marks=now)
        elif before >= most > now:
            book.emit("aggregator_released", account=account)
    state.downtime = marks
