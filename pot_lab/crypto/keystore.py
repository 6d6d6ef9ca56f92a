"""Secret keys at rest: the standard encrypted JSON keystore (version 3) that every Ethereum wallet reads.

scrypt or PBKDF2 from the password, AES-128-CTR over the key, Keccak over both to notice a wrong password (Web3 Secret
Storage Definition). On `cryptography`'s primitives, because the usual library for it would add 15 MB to every
aggregator; tests open its keystores with ours and ours with it.
"""

from __future__ import annotations

import hmac
import json
import os
import uuid
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from pot_lab.crypto.canonical import keccak256
from pot_lab.crypto.identity import BadKey, Identity, format_address, parse_address
from pot_lab.crypto.nested_json import load_json
from pot_lab.errors import Malformed, PotLabError
from pot_lab.files import sync_directory

KEYSTORE_LIMIT_BYTES = 16_384
STANDARD_WORK_FACTOR = 1 << 17
"""scrypt's N for a key that guards real money: about half a second and 128 MiB to open."""
TESTNET_WORK_FACTOR = 1 << 10
"""scrypt's N for throw-away testnet keys, whose password stands beside them."""

_SCRYPT_R, _SCRYPT_P = 8, 1
_DAMAGE = (ValueError, LookupError, TypeError, AttributeError, MemoryError, RecursionError)
_MAX_SCRYPT_N = 1 << 20
_MAX_PBKDF2_ITERATIONS = 10_000_000


class WrongPassword(PotLabError):
    """A keystore did not open with the given password.

    What to do: set `POT_LAB_PASSWORD`, or the `password` file beside the keystore, to its password.
    """


def save_keystore(path: Path, identity: Identity, password: str, *, work_factor: int = STANDARD_WORK_FACTOR) -> None:
    """Write `identity` encrypted under `password`; the file is created with mode 0600 and never overwritten.

    Raises:
        FileExistsError: `path` is there already; a key is never lost to a second one.
    """
    salt, nonce = os.urandom(32), os.urandom(16)
    parameters = {"dklen": 32, "n": work_factor, "r": _SCRYPT_R, "p": _SCRYPT_P, "salt": salt.hex()}
    derived = _derive("scrypt", parameters, password)
    ciphertext = _aes_ctr(derived[:16], nonce, identity.secret)
    content = {
        "version": 3,
        "id": str(uuid.UUID(bytes=os.urandom(16), version=4)),
        "address": format_address(identity.address),
        "crypto": {
            "cipher": "aes-128-ctr",
            "cipherparams": {"iv": nonce.hex()},
            "ciphertext": ciphertext.hex(),
            "kdf": "scrypt",
            "kdfparams": parameters,
            "mac": keccak256(derived[16:] + ciphertext).hex(),
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        sync_directory(path.parent)
    except OSError:  # e.g. a full disk: half a keystore would be in the way of a whole one
        path.unlink(missing_ok=True)
        raise


def load_keystore(path: Path, password: str) -> Identity:
    """Open the keystore at `path`.

    Raises:
        FileNotFoundError: there is no such file.
        Malformed: the file is not a version 3 keystore, is damaged, or names another account than its key's.
        WrongPassword: the password does not open it.
    """
    with path.open("rb") as file:
        raw = file.read(KEYSTORE_LIMIT_BYTES + 1)
    try:
        if len(raw) > KEYSTORE_LIMIT_BYTES:
            raise ValueError(f"longer than {KEYSTORE_LIMIT_BYTES} bytes")
        content = load_json(raw)
        if not isinstance(content, dict) or content.get("version") != 3:
            raise ValueError("not version 3")
        # Some wallets write "Crypto", as the first version of the format did.
        crypto, named = content["crypto" if "crypto" in content else "Crypto"], content.get("address")
        if crypto["cipher"] != "aes-128-ctr":
            raise ValueError(f"unknown cipher {crypto['cipher']!r}")
        nonce, ciphertext, mac = (
            bytes.fromhex(text) for text in (crypto["cipherparams"]["iv"], crypto["ciphertext"], crypto["mac"])
        )
        derived = _derive(crypto["kdf"], crypto["kdfparams"], password)
        if not hmac.compare_digest(keccak256(derived[16:32] + ciphertext), mac):
            raise WrongPassword("the keystore does not open with this password", seen=path.name)
        identity = Identity(_aes_ctr(derived[:16], nonce, ciphertext))
        if named is not None and parse_address("0x" + str(named).removeprefix("0x").lower()) != identity.address:
            raise ValueError(f"it names another account than its key's, {format_address(identity.address)}")
    except (*_DAMAGE, BadKey, Malformed) as error:
        raise Malformed(
            f"not a keystore file: {error!r}", seen=path.name, wanted="an encrypted JSON keystore, version 3"
        ) from error
    return identity


def _derive(kdf: str, parameters: dict[str, Any], password: str) -> bytes:
    """The 32 bytes derived from a password; refuses work factors that no honest keystore has."""
    salt = bytes.fromhex(parameters["salt"])
    if parameters["dklen"] != 32:
        raise ValueError(f"key length {parameters['dklen']!r}")
    if kdf == "scrypt":
        n, r, p = (int(parameters[name]) for name in ("n", "r", "p"))
        if not (2 <= n <= _MAX_SCRYPT_N and 1 <= r <= 16 and 1 <= p <= 16 and n & (n - 1) == 0):
            raise ValueError(f"scrypt work n={n}, r={r}, p={p}")
        return Scrypt(salt=salt, length=32, n=n, r=r, p=p).derive(password.encode())
    if kdf == "pbkdf2" and parameters.get("prf") == "hmac-sha256":
        count = int(parameters["c"])
        if not 1 <= count <= _MAX_PBKDF2_ITERATIONS:
            raise ValueError(f"{count} iterations")
        return PBKDF2HMAC(SHA256(), 32, salt, count).derive(password.encode())
    raise ValueError(f"unknown key derivation {kdf!r}")


def _aes_ctr(key: bytes, nonce: bytes, data: bytes) -> bytes:
    cipher = Cipher(algorithms.AES(key), modes.CTR(nonce)).encryptor()
    return cipher.update(data) + cipher.finalize()
