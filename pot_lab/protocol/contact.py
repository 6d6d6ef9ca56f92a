"""Where an aggregator is reached, and the proof that a key is its account's (protocol.md, "Seats among the
aggregators").
"""

from __future__ import annotations

import re

from pot_lab.crypto.canonical import Digest, Record, encode, tagged_hash
from pot_lab.crypto.identity import Address
from pot_lab.errors import Malformed

MAX_HOST_LENGTH = 253
_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_IPV6_GROUP = re.compile("[0-9A-Fa-f]{1,4}")
_Z85 = {
    character: value
    for value, character in enumerate(
        "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
    )
}


class Contact(Record, frozen=True, kw_only=True):
    """Where an aggregator is reached: host, TCP ports for aggregators, for clients and for its custody over HTTP, CURVE
    public key (Z85).
    """

    host: str
    peer_port: int
    client_port: int
    custody_port: int
    curve_public: str

    def check(self) -> None:
        """Raise Malformed for what cannot be a contact."""
        ports = (self.peer_port, self.client_port, self.custody_port)
        if len(self.host) > MAX_HOST_LENGTH or not (_HOST_NAME.fullmatch(self.host) or _is_ipv6(self.host)):
            raise Malformed(
                "an aggregator's host is neither a host name nor an IP address",
                seen=self.host,
                wanted=f"labels of ASCII letters, digits and hyphens, at most {MAX_HOST_LENGTH} characters",
            )
        if not all(0 < port < 1 << 16 for port in ports) or len(set(ports)) < len(ports):
            raise Malformed(
                "an aggregator's ports are invalid", seen=ports, wanted="three different ports, each 1 .. 65535"
            )
        if not _is_curve_key(self.curve_public):
            raise Malformed(
                "a CURVE public key is invalid", seen=self.curve_public, wanted="32 bytes as 40 characters of Z85"
            )


def _is_curve_key(text: str) -> bool:
    """Whether 40 characters of Z85 stand for 32 bytes: five of them may be above the largest number of four bytes."""
    if len(text) != 40 or not set(text) <= _Z85.keys():
        return False
    for at in range(0, 40, 5):
        value = 0
        for character in text[at : at + 5]:
            value = 85 * value + _Z85[character]
        if value >> 32:
            return False
    return True


def _is_ipv6(text: str) -> bool:
    """Eight groups of hexadecimal digits, or fewer around one `::`; no zone and no IPv4 part."""
    before, gap, after = text.partition("::")
    groups = [*before.split(":"), *after.split(":")] if before and after else (before or after).split(":")
    if not before and not after:
        groups = []
    return all(map(_IPV6_GROUP.fullmatch, groups)) and (len(groups) < 8 if gap else len(groups) == 8)


def possession_digest(network_id: bytes, account: Address, contact: Contact, sealing_public: bytes) -> Digest:
    """What an aggregator's new signing key signs, so that nobody can name another's: 32 bytes."""
    return tagged_hash("pot-lab/aggregator-key/1", network_id, account, encode(contact), sealing_public)
