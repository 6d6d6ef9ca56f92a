"""CURVE keys, which prove who opens a connection before any message is read.

An aggregator's secret key rests in a file that only its user can read; clients make a new key pair each time.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from nacl import bindings

from pot_lab.errors import Malformed
from pot_lab.network.config import is_curve_key
from pot_lab.network.errors import BadKeyFile
from pot_lab.network.z85 import decode_z85, encode_z85

_MAX_KEY_FILE_BYTES = 256


class CurveKeyPair(NamedTuple):
    """A CURVE key pair, both halves 40 characters of Z85."""

    public: str
    secret: str

    @classmethod
    def generate(cls) -> CurveKeyPair:
        """Make a new pair from the operating system's randomness."""
        public, secret = bindings.crypto_box_keypair()
        return cls(encode_z85(public), encode_z85(secret))

    @classmethod
    def from_secret(cls, secret: str) -> CurveKeyPair:
        """The pair of a secret key in Z85; raises BadKeyFile."""
        if not is_curve_key(secret):
            raise BadKeyFile("invalid CURVE secret key", wanted="40 characters of Z85")
        try:
            return cls(encode_z85(bindings.crypto_scalarmult_base(decode_z85(secret))), secret)
        except Malformed as error:
            raise BadKeyFile("invalid CURVE secret key", wanted="40 characters of Z85") from error


def save_curve_key(path: str | os.PathLike[str], pair: CurveKeyPair) -> None:
    """Write the secret key to a new file that only its owner can read; raises FileExistsError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(pair.secret + "\n")


def load_curve_key(path: str | os.PathLike[str]) -> CurveKeyPair:
    """Read a secret key's file.

    Raises:
        BadKeyFile: no such file, or no key in it.
    """
    try:
        with open(path, "rb") as file:
            text = file.read(_MAX_KEY_FILE_BYTES).decode("ascii").strip()
        return CurveKeyPair.from_secret(text)
    except OSError as error:
        raise BadKeyFile(f"cannot read the key file {path}: {error.strerror}") from error
    except (UnicodeDecodeError, BadKeyFile) as error:
        raise BadKeyFile(f"{path} holds no valid CURVE key", wanted="40 characters of Z85") from error
