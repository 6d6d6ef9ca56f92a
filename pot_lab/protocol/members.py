"""Registering for a role and leaving it (section 3.1.3 and 2.5): stake comes first, on the chain; the ledger only
checks it.
"""

from __future__ import annotations

from pot_lab.errors import Malformed
from pot_lab.protocol.book import Book
from pot_lab.protocol.errors import AlreadyDone, InsufficientStake, NotAllowed
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.transactions import Register, Unregister


def on_register(book: Book, address: bytes, body: Register) -> bytes:
    """Take up a role with enough stake; registering again is harmless and refused as done."""
    role = _role(body.role)
    wanted = book.state.parameters.min_stake_grains[role]
    bonded = book.stake(address, role).bonded
    if bonded < wanted:
        raise InsufficientStake(
            f"the account's stake as a {role.name.lower()} is too small",
            seen=f"{bonded} grains",
            wanted=f"at least {wanted} grains",
        )
    if book.account(address).active[role]:
        raise AlreadyDone(f"the account is registered as a {role.name.lower()} already")
    book.set_active(address, role, True)
    book.emit("registered", account=address, role=int(role))
    return b""


def on_unregister(book: Book, address: bytes, body: Unregister) -> bytes:
    """Give up a role; work already promised stays due."""
    role = _role(body.role)
    book.require_active(address, role)
    book.set_active(address, role, False)
    book.emit("unregistered", account=address, role=int(role))
    return b""


def _role(number: int) -> Role:
    if number not in (Role.PROVIDER, Role.VALIDATOR, Role.VERIFIER):
        if number == Role.AGGREGATOR:
            raise NotAllowed("aggregators join by a change of membership, not by registering")
        raise Malformed(
            "there is no such role", seen=number, wanted=", ".join(f"{role.value} {role.name.lower()}" for role in Role)
        )
    return Role(number)
