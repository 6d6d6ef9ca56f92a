"""Evidence of double signing by an aggregator: it loses its stake and its vote (protocol.md, "Double signing").

Two votes that no honest aggregator signs both (`agreement.evidence`) convict the key that signed them, whoever submits
them and however old they are. One conviction takes the whole stake, what the chain still reports of it later included,
and the account is never an aggregator again, so there is nothing left for a second: whatever else it signed is the same
offence. The treasury gets the stake, not the reporter: a reward would go to whoever copies the report first, or to the
offender itself.
"""

from __future__ import annotations

from pot_lab.agreement.evidence import Equivocation
from pot_lab.crypto.canonical import decode
from pot_lab.crypto.identity import Address
from pot_lab.errors import PotLabError
from pot_lab.protocol.book import Book
from pot_lab.protocol.errors import AlreadyDone, BadEvidence, NotAllowed
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.transactions import Accuse

EVIDENCE_LIMIT_BYTES = 1_024


def on_accuse(book: Book, reporter: Address, body: Accuse) -> bytes:
    """Check the evidence alone, whoever submits it; returns the account that lost its stake."""
    state = book.state
    evidence = decode(body.evidence, Equivocation, limit_bytes=EVIDENCE_LIMIT_BYTES)
    try:
        key = evidence.accused(book.network_id, book.recover)
    except PotLabError as error:
        raise BadEvidence(
            f"the evidence proves nothing: {error.message}", seen=error.seen, wanted=error.wanted
        ) from error
    account = state.keys.get(key)
    if account is None:
        raise NotAllowed("the evidence is not against a key that ever was an aggregator's", seen=key)
    if book.is_convicted(account):
        raise AlreadyDone("this aggregator was convicted already", seen=account)
    state.convicted.append(key)
    stake = book.stake(account, Role.AGGREGATOR)
    book.slash(account, Role.AGGREGATOR, stake.bonded + stake.unbonding, "equivocation")
    for seat in state.aggregators:  # under whatever key it sits now
        if seat.account == account and seat.key not in state.convicted:
            state.convicted.append(seat.key)
    book.set_active(account, Role.AGGREGATOR, False)
    book.emit("convicted", account=account, key=key, reporter=reporter)
    return account
