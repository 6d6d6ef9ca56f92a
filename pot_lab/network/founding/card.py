"""The public card of an aggregator: where it is reached and its public keys, signed by its account.

Operators send each other these files while a network is founded. A card holds no secret; who it is from has to be
checked by other means (a call, a signed mail), since anybody can make one.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from pot_lab.crypto.canonical import encode, tagged_hash
from pot_lab.crypto.identity import format_address, parse_address, recover
from pot_lab.errors import PotLabError
from pot_lab.network.aggregator.keys_folder import AggregatorKeys
from pot_lab.network.config import AggregatorEntry, Listening
from pot_lab.network.network_file import AddressText, CurveKey, Hex32, Port, Text
from pot_lab.network.z85 import decode_z85
from pot_lab.protocol.contact import Contact

MAX_CARD_BYTES = 8_192
_MAX_OPERATOR_CHARACTERS = 80
_HEADER = "# Public card of an aggregator. It holds no secret.\n"


class BadCard(PotLabError):
    """A file is no card of an aggregator, or was changed after its operator signed it.

    What to do: get the file again from its operator, who makes it with `pot-lab network keys`.
    """


class _CardTable(msgspec.Struct, frozen=True, kw_only=True):
    operator: Text
    host: Text
    peer_port: Port
    client_port: Port
    custody_port: Port
    address: AddressText
    curve_public: CurveKey
    sealing_public: Hex32
    signature: Text


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """One aggregator, as its operator describes it.

    Attributes:
        operator: who runs it, for people.
        contact: host, ports and CURVE key.
        address: its account, 20 bytes.
        sealing_public: its X25519 key, 32 bytes.
        signature: by the account, 65 bytes.
    """

    operator: str
    contact: Contact
    address: bytes
    sealing_public: bytes
    signature: bytes

    @classmethod
    def make(cls, operator: str, listening: Listening, keys: AggregatorKeys) -> Card:
        """Describe an aggregator that listens there.

        Raises:
            Malformed: host or ports cannot be used.
            BadCard: the operator's name cannot be used.
        """
        contact = Contact(
            host=listening.host,
            peer_port=listening.peer_port,
            client_port=listening.client_port,
            custody_port=listening.custody_port,
            curve_public=keys.curve.public,
        )
        unsigned = cls(
            operator=operator,
            contact=contact,
            address=keys.identity.address,
            sealing_public=keys.sealing.public,
            signature=b"",
        )
        card = msgspec.structs.replace(unsigned, signature=keys.identity.sign(unsigned._digest()))
        card.check()
        return card

    @classmethod
    def load(cls, path: Path) -> Card:
        """Read and check a card's file; raises BadCard."""
        try:
            with open(path, "rb") as file:
                raw = file.read(MAX_CARD_BYTES + 1)
            if len(raw) > MAX_CARD_BYTES:
                raise BadCard(f"{path} is too large for a card", wanted=f"at most {MAX_CARD_BYTES} bytes")
            card = cls._of(msgspec.convert(tomllib.loads(raw.decode()), _CardTable))
            card.check()
        except OSError as error:
            raise BadCard(f"cannot read the card {path}: {error.strerror}") from error
        except BadCard:
            raise
        except (msgspec.ValidationError, tomllib.TOMLDecodeError, ValueError, PotLabError) as error:
            raise BadCard(f"{path} is no card: {error}", wanted="a file that `pot-lab network keys` wrote") from error
        return card

    @classmethod
    def _of(cls, table: _CardTable) -> Card:
        return cls(
            operator=table.operator,
            contact=Contact(
                host=table.host,
                peer_port=table.peer_port,
                client_port=table.client_port,
                custody_port=table.custody_port,
                curve_public=table.curve_public,
            ),
            address=parse_address(table.address),
            sealing_public=bytes.fromhex(table.sealing_public.removeprefix("0x")),
            signature=bytes.fromhex(table.signature),
        )

    def check(self) -> None:
        """Raise BadCard or Malformed unless it can be used and its account signed it."""
        if not 0 < len(self.operator) <= _MAX_OPERATOR_CHARACTERS or not self.operator.isprintable():
            raise BadCard(
                "an operator's name cannot be used",
                seen=self.operator,
                wanted=f"1 to {_MAX_OPERATOR_CHARACTERS} printable characters",
            )
        self.contact.check()
        decode_z85(self.contact.curve_public)
        if recover(self._digest(), self.signature) != self.address:
            raise BadCard("a card was not signed by its account", seen=format_address(self.address))

    def _digest(self) -> bytes:
        return tagged_hash(
            "pot-lab/network/card/1",
            self.operator.encode(),
            encode(self.contact),
            self.address,
            self.sealing_public,
        )

    def to_text(self) -> str:
        """The card's file."""
        import tomli_w

        contact = self.contact
        table = {
            "operator": self.operator,
            "host": contact.host,
            "peer_port": contact.peer_port,
            "client_port": contact.client_port,
            "custody_port": contact.custody_port,
            "address": format_address(self.address),
            "curve_public": contact.curve_public,
            "sealing_public": self.sealing_public.hex(),
            "signature": self.signature.hex(),
        }
        return _HEADER + tomli_w.dumps(table)

    def entry(self, index: int) -> AggregatorEntry:
        """The aggregator as `network.toml` lists it."""
        return AggregatorEntry(
            index=index,
            host=self.contact.host,
            peer_port=self.contact.peer_port,
            client_port=self.contact.client_port,
            custody_port=self.contact.custody_port,
            curve_public=self.contact.curve_public,
            address=self.address,
            sealing_public=self.sealing_public,
        )


def entries_of_cards(cards: Sequence[Card]) -> tuple[AggregatorEntry, ...]:
    """Aggregators in the order of their accounts, so that whoever has the same cards gets the same list.

    Raises:
        BadCard: two cards are of one account, key or place.
    """
    entries = tuple(card.entry(index) for index, card in enumerate(sorted(cards, key=lambda card: card.address)))
    for what in ("address", "curve_public", "sealing_public", "peer_url", "client_url", "custody_url"):
        values = [getattr(entry, what) for entry in entries]
        twice = next((value for value in values if values.count(value) > 1), None)
        if twice is not None:
            raise BadCard(f"two cards have the same {what}", seen=twice, wanted="one card for each aggregator")
    return entries
