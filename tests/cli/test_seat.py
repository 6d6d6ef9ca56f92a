"""`pot-lab seat`: missing options are named; the commands themselves run in tests/network/test_members.py."""

from __future__ import annotations

import msgspec
import pytest

from pot_lab.cli.main import main
from pot_lab.cli.seat import seat_facts, seat_text
from pot_lab.crypto.identity import format_address
from pot_lab.protocol.contact import Contact
from pot_lab.protocol.views import CandidateView, SeatsView, SeatView

ONE, TWO, THREE, KEY = (bytes([number] * 20) for number in (1, 2, 3, 9))
QUIET = SeatsView(
    seats=(
        SeatView(account=ONE, key=ONE, sealing_public=bytes(32), contact=None, convicted=False, against=()),
        SeatView(account=TWO, key=TWO, sealing_public=bytes(32), contact=None, convicted=False, against=()),
    ),
    candidates=(),
    quorum=2,
    change_pending=False,
    signer_set_id=7,
    signers=(ONE, TWO),
    next_signers=(),
)
CONTACT = Contact(host="example.org", peer_port=7_000, client_port=7_001, custody_port=7_002, curve_public="x" * 40)
BUSY = msgspec.structs.replace(
    QUIET,
    seats=(
        QUIET.seats[0],
        SeatView(account=TWO, key=KEY, sealing_public=bytes(32), contact=None, convicted=True, against=(ONE,)),
    ),
    candidates=(CandidateView(account=THREE, key=THREE, contact=CONTACT, votes=(ONE,)),),
    change_pending=True,
    next_signers=(ONE, KEY, THREE),
)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["join"], "Missing option '--keys'"),
        (["join", "--keys", "k"], "missing option --listen HOST PEER_PORT CLIENT_PORT CUSTODY_PORT"),
        (["join", "--keys", "k", "--listen", "h", "1", "1", "2"], "Invalid value for '--listen'"),
        (["rotate", "--keys", "k", "--listen", "h", "0", "1", "2"], "Invalid value for '--listen'"),
        (["rotate"], "Missing option '--keys'"),
        (["leave"], "Missing option '--keys'"),
        (["vote", "--keys", "k"], "Missing argument 'ACCOUNT'"),
        (["remove", "--keys", "k"], "Missing argument 'ACCOUNT'"),
        (["vote", "0x00"], "Missing option '--keys'"),
        (["remove", "0x00"], "Missing option '--keys'"),
    ],
)
def test_what_is_missing_is_named(arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["seat", *arguments]) == 2
    assert error in capsys.readouterr().err


def test_seats_without_a_change_are_a_line_each() -> None:
    assert seat_text(QUIET).splitlines() == [
        "2 seats; 2 votes give or remove one",
        f"    0  {format_address(ONE)}",
        f"    1  {format_address(TWO)}",
        "on the chain 2 keys sign, set 7",
    ]


def test_keys_convictions_votes_and_changes_are_told() -> None:
    assert seat_text(BUSY).splitlines()[2:] == [
        f"    1  {format_address(TWO)}, votes with {format_address(KEY)}, convicted, 1 of 2 votes to remove it",
        f"  candidate {format_address(THREE)} at example.org, 1 of 2 votes",
        "on the chain 2 keys sign, set 7; 3 accounts are to follow",
        "a change is being put into force; no other can be made before",
    ]


def test_facts_are_the_ledgers() -> None:
    assert seat_facts(BUSY) == {
        "quorum": 2,
        "change_pending": True,
        "seats": [
            {"account": format_address(ONE), "voting_key": format_address(ONE), "convicted": False, "against": []},
            {
                "account": format_address(TWO),
                "voting_key": format_address(KEY),
                "convicted": True,
                "against": [format_address(ONE)],
            },
        ],
        "candidates": [{"account": format_address(THREE), "host": "example.org", "votes": [format_address(ONE)]}],
        "signer_set_id": 7,
        "signers": [format_address(ONE), format_address(TWO)],
        "next_signers": [format_address(ONE), format_address(KEY), format_address(THREE)],
    }
