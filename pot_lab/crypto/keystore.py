"""Secret keys at rest: the standard encrypted JSON keystore (version 3) that every Ethereum wallet reads."""

from __future__ import annotations

import json
import os
from pathlib import Path

from pot_lab.crypto.identity import Identity, format_address
from pot_lab.errors import Malformed, PotLabError

KEYSTORE_LIMIT_BYTES = 16_384
STANDARD_WORK_FACTOR = 1 << 17
"""scrypt's N for a key that guards real money: about half a second and 128 MiB to open."""
TESTNET_WORK_FACTOR = 1 << 10
"""scrypt's N for throw-away testnet keys, whose password stands beside them."""


class WrongPassword(PotLabError):
    """A keystore did not open with the given password."""


def save_keystore(path: Path, identity: Identity, password: str, *, work_factor: int = STANDARD_WORK_FACTOR) -> None:
    """Write `identity` encrypted under `password`; the file is created with mode 0600 and never overwritten.

    Raises:
        FileExistsError: `path` is there already; a key is never lost to a second one.
    """
    from eth_keyfile.keyfile import create_keyfile_json

    content = create_keyfile_json(identity.secret, password.encode(), version=3, kdf="scrypt", iterations=work_factor)
    content["address"] = format_address(identity.address)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(content, file)


def load_keystore(path: Path, password: str) -> Identity:
    """Open the keystore at `path`.

    Raises:
        FileNotFoundError: there is no such file.
        Malformed: the file is no version 3 keystore.
        WrongPassword: the password does not open it.
    """
    from eth_keyfile.keyfile import decode_keyfile_json

    with path.open("rb") as file:
        raw = file.read(KEYSTORE_LIMIT_BYTES + 1)
    try:
        if len(raw) > KEYSTORE_LIMIT_BYTES:
            raise ValueError(f"longer than {KEYSTORE_LIMIT_BYTES} bytes")
        content = json.loads(raw)
        if content["version"] != 3 or "crypto" not in content:
            raise ValueError("not version 3")
    except (ValueError, KeyError, TypeError) as error:
        raise Malformed(
            f"file is no keystore: {error}", seen=path.name, wanted="an encrypted JSON keystore, version 3"
        ) from error
    try:
        return Identity(decode_keyfile_json(content, password.encode()))
    except ValueError as error:
        raise WrongPassword("the keystore does not open with this password", seen=path.name) from error
