"""A liar lends its voting key to a straw man who applies for a seat with it, so that the straw man is convicted of what
the liar signs.
"""

from __future__ import annotations

from typing import Any

import pytest

from pot_lab.crypto.canonical import encode
from pot_lab.protocol import members
from pot_lab.protocol.book import Book
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.state import GenesisAggregator
from pot_lab.protocol.transactions import Accuse, Join, VoteSeat
from tests.protocol.test_bounds import contradiction
from tests.protocol.test_members import Town, application_for
from tests.protocol.world import key

STRAW_MAN = key("straw man")


def convicted(town: Town) -> str:
    """Whether the straw man got the liar's key seated, and who then pays for the liar's double votes."""
    liar = town.aggregators[-1]
    town.fund(liar)
    town.fund(STRAW_MAN)
    reply = town.submit(STRAW_MAN, application_for(Join, town, STRAW_MAN, liar))
    if not reply.accepted:
        return reply.code
    for voter in town.aggregators[:3]:
        town.must(voter, VoteSeat(STRAW_MAN.address, True))
    town.take_over()
    town.must(key("reporter"), Accuse(encode(contradiction(town))))
    slashed = {who: town.ledger.book.stake(who.address, Role.AGGREGATOR).slashed for who in (liar, STRAW_MAN)}
    return "the straw man" if slashed[STRAW_MAN] and not slashed[liar] else "the liar"


def test_a_key_that_voted_never_means_another_seat() -> None:
    assert convicted(Town()) == "BadSeat"


def test_could_it_the_straw_man_would_pay_for_the_liar(monkeypatch: pytest.MonkeyPatch) -> None:
    def unchecked(book: Book, account: Any, body: Any) -> GenesisAggregator:
        contact = encode(body.contact)
        return GenesisAggregator(
            account=account, key=body.voting_key, sealing_public=body.sealing_public, contact=contact
        )

    monkeypatch.setattr(members, "_new_seat", unchecked)
    assert convicted(Town()) == "the straw man"
