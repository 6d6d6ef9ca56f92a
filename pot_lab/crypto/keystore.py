"""Secret keys at rest: the standard encrypted JSON keystore (version 3) that every Ethereum wallet reads."""

from __future__ import annotations

import json
import os
from pathlib import Path

from pot_lab.crypto.identity import BadKey, Identity, format_address, parse_address
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
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
    except OSError:  # e.g. a full disk: half a keystore would be in the way of a whole one
        path.unlink(missing_ok=True)
        raise


def load_keystore(path: Path, password: str) -> Identity:
    """Open the keystore at `path`.

    Raises:
        FileNotFoundError: there is no such file.
        Malformed: the file is no version 3 keystore, is damaged, or names another account than its key's.
        WrongPassword: the password does not open it.
    """
    from eth_keyfile.exceptions import EthKeyfileValueError
    from eth_keyfile.keyfile import decode_keyfile_json

    with path.open("rb") as file:
        raw = file.read(KEYSTORE_LIMIT_BYTES + 1)
    try:
        if len(raw) > KEYSTORE_LIMIT_BYTES:
            raise ValueError(f"longer than {KEYSTORE_LIMIT_BYTES} bytes")
        content = json.loads(raw)
        if not isinstance(content, dict) or content.get("version") != 3:
            raise ValueError("not version 3")
        named = content.get("address")
        identity = Identity(decode_keyfile_json(content, password.encode()))
        if named is not None and parse_address("0x" + str(named).removeprefix("0x").lower()) != identity.address:
            raise ValueError(f"it names another account than its key's, {format_address(identity.address)}")
    except EthKeyfileValueError as error:  # the only one that the library raises here: "MAC mismatch"
        raise WrongPassword("the keystore does not open with this password", seen=path.name) from error
    except (ValueError, KeyError, TypeError, AttributeError, NotImplementedError, BadKey, Malformed) as error:
        raise Malformed(
            f"file is no keystore: {error!r}", seen=path.name, wanted="an encrypted JSON keystore, version 3"
        ) from error
    return identity
