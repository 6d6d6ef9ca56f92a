"""Encrypted files open whole or not at all."""

from __future__ import annotations

import io
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pot_lab.crypto import cipher
from pot_lab.crypto.cipher import CHUNK_BYTES, CannotDecrypt, decrypt, decrypt_stream, encrypt, encrypt_stream
from pot_lab.errors import Malformed

KEY, OTHER = b"\x01" * 32, b"\x02" * 32
HEADER, TAG = len(b"pot-lab/cipher/1\n"), 16


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> int:
    """The same construction with chunks of 16 bytes, so that many fit a test."""
    monkeypatch.setattr(cipher, "CHUNK_BYTES", 16)
    return 16


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES])
def test_a_file_of_any_size_comes_back(size: int) -> None:
    plaintext = bytes(i & 255 for i in range(256)) * (size // 256) + b"x" * (size % 256)
    ciphertext = encrypt(KEY, plaintext)
    assert decrypt(KEY, ciphertext) == plaintext
    assert len(ciphertext) == HEADER + size + TAG * max(1, -(-size // CHUNK_BYTES))


@given(st.binary(max_size=200), st.data())
def test_a_changed_byte_anywhere_is_seen(plaintext: bytes, data: st.DataObject) -> None:
    ciphertext = bytearray(encrypt(KEY, plaintext))
    ciphertext[data.draw(st.integers(0, len(ciphertext) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CannotDecrypt):
        decrypt(KEY, bytes(ciphertext))


def test_another_key_does_not_open_it() -> None:
    with pytest.raises(CannotDecrypt):
        decrypt(OTHER, encrypt(KEY, b"data"))


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 48, 100])
def test_no_cut_reordering_repetition_or_addition_opens(small_chunks: int, size: int) -> None:
    ciphertext = encrypt(KEY, bytes(range(size)))
    assert decrypt(KEY, ciphertext) == bytes(range(size))
    header, body = ciphertext[:HEADER], ciphertext[HEADER:]
    step = small_chunks + TAG
    chunks = [body[i : i + step] for i in range(0, len(body), step)]
    wrong = [ciphertext[:end] for end in range(len(ciphertext))]
    wrong += [header + b"".join(chunks[:end]) for end in range(len(chunks))]
    wrong += [header + b"".join(chunks[:i] + chunks[i + 1 :]) for i in range(len(chunks))]
    wrong += [ciphertext + chunk for chunk in [*chunks, b"\x00", bytes(step)]]
    wrong += [
        header + b"".join([*chunks[:i], chunks[i + 1], chunks[i], *chunks[i + 2 :]]) for i in range(len(chunks) - 1)
    ]
    longer = encrypt(KEY, bytes(range(size)) + b"y" * (2 * small_chunks))
    wrong.append(longer[:HEADER] + b"".join(chunks) + longer[len(ciphertext) :])
    for bad in wrong:
        with pytest.raises(CannotDecrypt):
            decrypt(KEY, bad)


@pytest.mark.parametrize("key", [b"", b"\x01" * 31, b"\x01" * 33])
def test_a_key_of_another_length_is_refused(key: bytes) -> None:
    with pytest.raises(Malformed):
        encrypt(key, b"data")
    with pytest.raises(Malformed):
        decrypt(key, encrypt(KEY, b"data"))


def test_known_bytes() -> None:
    assert encrypt(KEY, b"data").hex() == "706f742d6c61622f6369706865722f310a7139f449631c3be0273256139f21875f6a928b4f"


class Pieces(io.BytesIO):
    """A stream that gives a few bytes at a time, as a pipe does."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(size or 0, 300_007))


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES])
def test_streams_give_the_same_bytes(size: int) -> None:
    key, plain = bytes(range(32)), random.Random(size).randbytes(size)
    made, opened = io.BytesIO(), io.BytesIO()
    encrypt_stream(key, Pieces(plain), made)
    assert made.getvalue() == encrypt(key, plain)
    decrypt_stream(key, Pieces(made.getvalue()), opened)
    assert opened.getvalue() == plain


@pytest.mark.parametrize("cut", [0, 5, 17, 40, CHUNK_BYTES + 33, CHUNK_BYTES + 50, -1])
def test_a_stream_that_was_cut_changed_or_lengthened_does_not_decrypt(cut: int) -> None:
    key = bytes(range(32))
    whole = encrypt(key, bytes(CHUNK_BYTES + 100))
    changed = bytearray(whole)
    changed[cut] ^= 1
    for wrong in (whole[:cut], bytes(changed), whole + b"\0", b""):
        with pytest.raises(CannotDecrypt):
            decrypt_stream(key, io.BytesIO(wrong), io.BytesIO())
    with pytest.raises(CannotDecrypt):
        decrypt_stream(bytes(32), io.BytesIO(whole), io.BytesIO())


@pytest.mark.parametrize("size_bytes", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_how_long_a_ciphertext_is_follows_from_its_plaintext(size_bytes: int) -> None:
    assert len(encrypt(KEY, bytes(size_bytes))) == cipher.encrypted_bytes(size_bytes)
