"""What an aggregator's operator does about its seat, with the folder of its keys: ask for one, vote on others', change
its keys, leave.

The account of a seat is that of `keys/account.json`. Its votes may come from another key by now, the one in
`keys/next/` after a change.
"""

from __future__ import annotations

from pathlib import Path

from pot_lab.crypto.identity import Address, Identity, format_address
from pot_lab.errors import PotLabError
from pot_lab.network.aggregator.keys_folder import (
    ACCOUNT_FILE,
    CURVE_FILE,
    NEXT_FOLDER,
    SEALING_FILE,
    load_account,
    load_sealing_key,
)
from pot_lab.network.client.ledger import LedgerClient
from pot_lab.network.config import Listening, NetworkConfig
from pot_lab.network.errors import BadKeyFile
from pot_lab.network.keys import load_curve_key
from pot_lab.protocol.contact import Contact, possession_digest
from pot_lab.protocol.transactions import Join, Leave, RotateKeys, VoteSeat


class NoSeat(PotLabError):
    """Neither an account nor a key of this folder has a seat among the aggregators.

    What to do: check the keys folder; ask for a seat with `pot-lab seat join`.
    """


def join(config: NetworkConfig, keys: Path, listening: Listening) -> None:
    """Ask for a seat, to be reached at `listening`.

    Raises:
        BadKeyFile: the folder lacks a key.
        InsufficientStake, BadSeat, AlreadyDone: the ledger refuses it.
    """
    account = load_account(keys)
    contact = _contact(listening, keys)
    with LedgerClient(config, account) as client:
        sealing_public, possession = _proved(config, account, account, keys, contact)
        client.submit(
            Join(voting_key=account.address, sealing_public=sealing_public, contact=contact, possession=possession)
        )


def rotate(config: NetworkConfig, keys: Path, listening: Listening | None = None) -> None:
    """Name the keys of `keys/next/` for the own seat; where it listens stays as it is, unless `listening` is given.

    Raises:
        BadKeyFile: a folder lacks a key.
        NoSeat: the account has none.
        BadSeat, ChangePending, NotAllowed: the ledger refuses it.
    """
    account, fresh = load_account(keys), keys / NEXT_FOLDER
    if not (fresh / ACCOUNT_FILE).is_file():
        raise BadKeyFile("no keys to change to", seen=fresh, wanted=f"{ACCOUNT_FILE}, {CURVE_FILE}, {SEALING_FILE}")
    identity = load_account(fresh)
    with LedgerClient(config, account) as client:
        contact = _contact(listening or _place(config, client, account), fresh)
        sealing_public, possession = _proved(config, account, identity, fresh, contact)
        client.submit(
            RotateKeys(
                voting_key=identity.address, sealing_public=sealing_public, contact=contact, possession=possession
            )
        )


def vote(config: NetworkConfig, keys: Path, account: Address, *, seated: bool) -> None:
    """Vote for a candidate's seat (`seated`), or for removing a member.

    Raises:
        NoSeat: no key of this folder votes.
        BadSeat, AlreadyDone, ChangePending: the ledger refuses it.
    """
    with LedgerClient(config) as reader:
        voting = {seat.key for seat in reader.seats().seats}
    own = [load_account(folder) for folder in (keys, keys / NEXT_FOLDER) if (folder / ACCOUNT_FILE).is_file()]
    voter = next((identity for identity in own if identity.address in voting), None)
    if voter is None:
        raise NoSeat("no key of this folder votes among the aggregators", seen=keys)
    with LedgerClient(config, voter) as client:
        client.submit(VoteSeat(account, seated))


def leave(config: NetworkConfig, keys: Path) -> None:
    """Give up the own seat; raises BadSeat where the ledger refuses it."""
    with LedgerClient(config, load_account(keys)) as client:
        client.submit(Leave())


def _proved(
    config: NetworkConfig, account: Identity, identity: Identity, folder: Path, contact: Contact
) -> tuple[bytes, bytes]:
    """The folder's X25519 public key, and the signature which shows that the voting key belongs to the account."""
    sealing = load_sealing_key(folder / SEALING_FILE).public
    return sealing, identity.sign(possession_digest(config.network_id, account.address, contact, sealing))


def _contact(listening: Listening, folder: Path) -> Contact:
    curve_public = load_curve_key(folder / CURVE_FILE).public
    return Contact(
        host=listening.host,
        peer_port=listening.peer_port,
        client_port=listening.client_port,
        custody_port=listening.custody_port,
        curve_public=curve_public,
    )


def _place(config: NetworkConfig, client: LedgerClient, account: Identity) -> Listening:
    """Where the account's aggregator listens now."""
    seat = next((each for each in client.seats().seats if each.account == account.address), None)
    if seat is None:
        raise NoSeat("the account has no seat among the aggregators", seen=format_address(account.address))
    place = seat.contact or next(each for each in config.aggregators if each.address == seat.key)
    return Listening(place.host, place.peer_port, place.client_port, place.custody_port)
