"""Sealed boxes: bytes that only the holder of one X25519 key can open.

Used to hand each aggregator its share of an order's test-data key (protocol.md, "Test data"). RFC 9180 HPKE in base
mode, one message to a box: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305. The context (network and order)
is HPKE's `info`, so a box cannot be replayed into another order.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from pot_lab.errors import Malformed, PotLabError

KEY_BYTES = 32
OVERHEAD_BYTES = KEY_BYTES + 16
"""How much longer a box is than its plaintext: the encapsulated key and the tag."""
_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


class CannotOpen(PotLabError):
    """A sealed box was made for another key or context, or was changed.

    What to do: use the key that the box was sealed to, and the same context.
    """


class SealingKey:
    """The X25519 key of one aggregator: `public` goes into `network.toml`, the secret stays with it."""

    __slots__ = ("_key", "public")

    def __init__(self, key: X25519PrivateKey) -> None:
        self._key = key
        self.public: bytes = key.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> SealingKey:
        """Make a new key from the operating system's randomness."""
        return cls(X25519PrivateKey.generate())

    @classmethod
    def from_secret(cls, secret: bytes) -> SealingKey:
        """Read a 32-byte secret key."""
        if len(secret) != KEY_BYTES:
            raise Malformed(
                "a sealing key has the wrong length", seen=f"{len(secret)} bytes", wanted=f"{KEY_BYTES} bytes"
            )
        return cls(X25519PrivateKey.from_private_bytes(secret))

    @property
    def secret(self) -> bytes:
        """The 32-byte secret key. Keep it out of logs."""
        return self._key.private_bytes_raw()

    def open(self, box: bytes, context: bytes) -> bytes:
        """Open a box sealed for this key under the same `context`.

        Raises:
            CannotOpen: it was sealed for another key or context, or was changed.
        """
        if len(box) < OVERHEAD_BYTES:
            raise CannotOpen(
                "a sealed box is too short", seen=f"{len(box)} bytes", wanted=f"at least {OVERHEAD_BYTES} bytes"
            )
        try:
            return _SUITE.decrypt(box, self._key, info=context)
        except InvalidTag as error:
            raise CannotOpen("a sealed box does not open with this key and context") from error


def seal(public: bytes, plaintext: bytes, context: bytes) -> bytes:
    """Seal `plaintext` for the holder of the 32-byte X25519 key `public`.

    Returns: the encapsulated key and the ciphertext in a row, `OVERHEAD_BYTES` longer than the plaintext; other bytes
        each time.
    Raises:
        Malformed: `public` has another length, or is a point of low order, which would make the secret known.
    """
    try:
        return _SUITE.encrypt(plaintext, X25519PublicKey.from_public_bytes(public), info=context)
    except ValueError as error:
        raise Malformed("an X25519 public key is invalid", seen=public, wanted="32 bytes, not of low order") from error
