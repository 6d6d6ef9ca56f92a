"""Encryption of test data: ChaCha20-Poly1305 in chunks (the STREAM construction), so a large file needs little memory.

Format: magic, then chunks of 1 MiB plaintext, each with its 16-byte tag. The nonce is the chunk's number and a
last-chunk flag, so chunks cannot be dropped, reordered or appended. A key encrypts one file only (protocol.md, "Test
data").
"""

from __future__ import annotations

from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from pot_lab.errors import Malformed, PotLabError

KEY_BYTES = 32
CHUNK_BYTES = 1 << 20
_TAG_BYTES = 16
_MAGIC = b"pot-lab/cipher/1\n"


class CannotDecrypt(PotLabError):
    """Ciphertext was changed, cut, or made with another key.

    What to do: check that key and ciphertext belong together; fetch the blob again.
    """


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def _aead(key: bytes) -> ChaCha20Poly1305:
    if len(key) != KEY_BYTES:
        raise Malformed("an encryption key has the wrong length", seen=f"{len(key)} bytes", wanted=f"{KEY_BYTES} bytes")
    return ChaCha20Poly1305(key)


def encrypt(key: bytes, plaintext: bytes) -> bytes:
    """Encrypt `plaintext` under the fresh 32-byte `key`."""
    aead, view = _aead(key), memoryview(plaintext)
    starts = range(0, max(len(view), 1), CHUNK_BYTES)
    chunks = [
        aead.encrypt(_nonce(i, start == starts[-1]), view[start : start + CHUNK_BYTES], _MAGIC)
        for i, start in enumerate(starts)
    ]
    return _MAGIC + b"".join(chunks)


def encrypted_bytes(plain_bytes: int) -> int:
    """How many bytes `encrypt` makes of so many.

    >>> encrypted_bytes(5) == len(encrypt(bytes(32), b"hello"))
    True
    """
    return len(_MAGIC) + plain_bytes + _TAG_BYTES * max(1, -(-plain_bytes // CHUNK_BYTES))


def decrypt(key: bytes, ciphertext: bytes) -> bytes:
    """Decrypt what `encrypt` made.

    Raises:
        CannotDecrypt: another key, or changed, cut or lengthened ciphertext.
    """
    aead = _aead(key)
    if not ciphertext.startswith(_MAGIC):
        raise CannotDecrypt(
            "not a file that was encrypted in this format", seen=ciphertext, wanted=_MAGIC.decode().strip()
        )
    view = memoryview(ciphertext)[len(_MAGIC) :]
    starts = range(0, max(len(view), 1), CHUNK_BYTES + _TAG_BYTES)
    try:
        return b"".join(
            aead.decrypt(_nonce(i, start == starts[-1]), view[start : start + CHUNK_BYTES + _TAG_BYTES], _MAGIC)
            for i, start in enumerate(starts)
        )
    except InvalidTag as error:
        raise CannotDecrypt("the ciphertext does not open with this key") from error


def encrypt_stream(key: bytes, source: BinaryIO, target: BinaryIO) -> None:
    """Write `encrypt` of all that `source` gives to `target`, holding two chunks at a time."""
    aead = _aead(key)
    target.write(_MAGIC)
    number, chunk = 0, _read(source, CHUNK_BYTES)
    while True:
        following = _read(source, CHUNK_BYTES)
        target.write(aead.encrypt(_nonce(number, not following), chunk, _MAGIC))
        if not following:
            return
        number, chunk = number + 1, following


def decrypt_stream(key: bytes, source: BinaryIO, target: BinaryIO) -> None:
    """Write `decrypt` of all that `source` gives to `target`, holding two chunks at a time.

    Each chunk is authentic when it is written, but whether the end is missing shows at the end only: what was written
    must be thrown away where this raises.

    Raises:
        CannotDecrypt: another key, or changed, cut or lengthened ciphertext.
    """
    aead = _aead(key)
    magic = _read(source, len(_MAGIC))
    if magic != _MAGIC:
        raise CannotDecrypt("not a file that was encrypted in this format", seen=magic, wanted=_MAGIC.decode().strip())
    number, chunk = 0, _read(source, CHUNK_BYTES + _TAG_BYTES)
    while True:
        following = _read(source, CHUNK_BYTES + _TAG_BYTES)
        try:
            target.write(aead.decrypt(_nonce(number, not following), chunk, _MAGIC))
        except InvalidTag as error:
            raise CannotDecrypt("the ciphertext does not open with this key") from error
        if not following:
            return
        number, chunk = number + 1, following


def _read(source: BinaryIO, size: int) -> bytes:
    """`size` bytes, or what is left; a pipe may give fewer at once."""
    parts = bytearray()
    while len(parts) < size and (data := source.read(size - len(parts))):
        parts += data
    return bytes(parts)
