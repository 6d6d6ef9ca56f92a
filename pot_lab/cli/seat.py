"""`pot-lab seat`: changes of the set of aggregators."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from pot_lab.errors import PotLabError

if TYPE_CHECKING:
    from pot_lab.network.config import NetworkConfig


def _seat(chosen: argparse.Namespace) -> None:
    from pot_lab.crypto.identity import parse_address
    from pot_lab.discovery import find_network
    from pot_lab.network import seat_changes
    from pot_lab.network.config import NetworkConfig, parse_listening

    config = NetworkConfig.load(find_network(chosen.network)[0])
    if chosen.action == "show":
        _show_seats(config, chosen.json)
        return
    if chosen.keys is None:
        raise PotLabError("it is not said whose seat this is about", wanted="--keys FOLDER")
    listening = None if chosen.listen is None else parse_listening(chosen.listen)
    if chosen.action == "join":
        if listening is None:
            raise PotLabError("a newcomer says where it is reached", wanted="--listen HOST PEER_PORT CLIENT_PORT")
        seat_changes.join(config, chosen.keys, listening)
    elif chosen.action == "rotate":
        seat_changes.rotate(config, chosen.keys, listening)
    elif chosen.action == "leave":
        seat_changes.leave(config, chosen.keys)
    else:
        if chosen.member is None:
            raise PotLabError("it is not said whose seat the vote is about", wanted=f"seat {chosen.action} ACCOUNT")
        seat_changes.vote(config, chosen.keys, parse_address(chosen.member), seated=chosen.action == "vote")
    _show_seats(config, chosen.json)


def _show_seats(config: NetworkConfig, as_json: bool) -> None:
    from pot_lab.crypto.identity import format_address
    from pot_lab.network.client.ledger import LedgerClient

    with LedgerClient(config) as client:
        view = client.seats()
    if as_json:
        seats = [
            {
                "account": format_address(seat.account),
                "voting_key": format_address(seat.key),
                "convicted": seat.convicted,
                "against": [format_address(voter) for voter in seat.against],
            }
            for seat in view.seats
        ]
        candidates = [
            {
                "account": format_address(each.account),
                "host": each.contact.host,
                "votes": [format_address(voter) for voter in each.votes],
            }
            for each in view.candidates
        ]
        facts = {
            "quorum": view.quorum,
            "change_pending": view.change_pending,
            "seats": seats,
            "candidates": candidates,
            "signer_set_id": view.signer_set_id,
            "signers": [format_address(key) for key in view.signers],
            "next_signers": [format_address(account) for account in view.next_signers],
        }
        print(json.dumps(facts))
        return
    print(f"{len(view.seats)} seats; {view.quorum} votes give or take one")
    for index, seat in enumerate(view.seats):
        key = "" if seat.key == seat.account else f", votes with {format_address(seat.key)}"
        lied = ", convicted" if seat.convicted else ""
        against = f", {len(seat.against)} of {view.quorum} votes to remove it" if seat.against else ""
        print(f"  {index:3}  {format_address(seat.account)}{key}{lied}{against}")
    for each in view.candidates:
        print(f"  asks {format_address(each.account)} at {each.contact.host}, {len(each.votes)} of {view.quorum} votes")
    follows = f"; {len(view.next_signers)} accounts are to follow" if view.next_signers else ""
    print(f"on the chain {len(view.signers)} keys sign, set {view.signer_set_id}{follows}")
    if view.change_pending:
        print("a change is on its way into force; no other can be made before")
