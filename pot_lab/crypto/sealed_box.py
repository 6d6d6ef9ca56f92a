"""Sealed boxes: bytes that only the holder of one X25519 key can open.

Used to hand each aggregator its share of an order's test-data key (protocol.md, "Test data"). An ephemeral X25519 key,
HKDF-SHA256 and ChaCha20-Poly1305; the context (network and order) is authenticated, so a box cannot be replayed into
another order.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pot_lab.errors import Malformed, PotLabError

KEY_BYTES = 32
OVERHEAD_BYTES = KEY_BYTES + 16
_NONCE = bytes(12)  # the key is fresh for every box, so a fixed nonce is never used twice with one key


class CannotOpen(PotLabError):
    """A sealed box was made for another key or context, or was changed."""


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
        ephemeral = box[:KEY_BYTES]
        try:
            shared = self._key.exchange(X25519PublicKey.from_public_bytes(ephemeral))
            return ChaCha20Poly1305(_box_key(shared, ephemeral, self.public)).decrypt(_NONCE, box[KEY_BYTES:], context)
        except (InvalidTag, ValueError) as error:
            raise CannotOpen("a sealed box does not open with this key and context") from error


def seal(public: bytes, plaintext: bytes, context: bytes) -> bytes:
    """Seal `plaintext` for the holder of the 32-byte X25519 key `public`; 48 bytes longer than the plaintext."""
    ephemeral = X25519PrivateKey.generate()
    name = ephemeral.public_key().public_bytes_raw()
    try:
        shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:
        raise Malformed("bytes are no X25519 public key", seen=public) from error
    return name + ChaCha20Poly1305(_box_key(shared, name, public)).encrypt(_NONCE, plaintext, context)


def _box_key(shared: bytes, ephemeral: bytes, public: bytes) -> bytes:
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=b"pot-lab/sealed-box/1" + ephemeral + public).derive(shared)
