"""The folder with an aggregator's keys.

account.json   encrypted keystore of the aggregator's account
password       opens it (or `$POT_LAB_PASSWORD`)
curve.key      CURVE secret key (Z85)
sealing.key    X25519 secret key (hex), to open key shares
next/          the same four for a change of keys, put there before it is submitted; the first ones stay, since
               shares may still be sealed to them
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import msgspec

from pot_lab.crypto.identity import Identity
from pot_lab.crypto.keystore import STANDARD_WORK_FACTOR, load_keystore, save_keystore
from pot_lab.crypto.sealed_box import SealingKey
from pot_lab.errors import PotLabError
from pot_lab.files import make_private_folder
from pot_lab.network.errors import BadKeyFile
from pot_lab.network.keys import CurveKeyPair, load_curve_key, save_curve_key

ACCOUNT_FILE, PASSWORD_FILE, CURVE_FILE, SEALING_FILE = "account.json", "password", "curve.key", "sealing.key"
NEXT_FOLDER = "next"


def load_sealing_key(path: Path) -> SealingKey:
    """Read an X25519 secret key from a file of 64 hex digits; raises BadKeyFile."""
    try:
        return SealingKey.from_secret(bytes.fromhex(path.read_text().strip()))
    except OSError as error:
        raise BadKeyFile(f"cannot read the key file {path}: {error.strerror}") from error
    except (ValueError, PotLabError) as error:
        raise BadKeyFile(f"{path} holds no sealing key", wanted="64 hex digits") from error


def load_account(keys: Path) -> Identity:
    """Open the account in a keys folder with the password beside it, or `$POT_LAB_PASSWORD`; raises BadKeyFile."""
    password_file = keys / PASSWORD_FILE
    try:
        if password_file.is_file():
            password: str | None = password_file.read_text(encoding="utf-8-sig").strip()  # Notepad writes a mark first
        else:
            password = os.environ.get("POT_LAB_PASSWORD")
        if password is None:
            raise BadKeyFile(f"no password for {keys / ACCOUNT_FILE}", wanted=f"{password_file} or $POT_LAB_PASSWORD")
        return load_keystore(keys / ACCOUNT_FILE, password)
    except OSError as error:
        raise BadKeyFile(f"cannot read the keystore {keys / ACCOUNT_FILE}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadKeyFile(f"{password_file} holds no text", seen=str(error), wanted="a password in UTF-8") from error


class AggregatorKeys(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of one aggregator.

    Attributes:
        identity: its account, which signs its votes.
        curve: its CURVE keys.
        sealing: its X25519 key.
    """

    identity: Identity
    curve: CurveKeyPair
    sealing: SealingKey


def load_keys(folder: Path) -> list[AggregatorKeys]:
    """The keys in a folder, and after them those of `next/` if it holds an account; raises BadKeyFile."""
    folders = [folder]
    if (folder / NEXT_FOLDER / ACCOUNT_FILE).is_file():
        folders.append(folder / NEXT_FOLDER)
    return [
        AggregatorKeys(
            identity=load_account(each),
            curve=load_curve_key(each / CURVE_FILE),
            sealing=load_sealing_key(each / SEALING_FILE),
        )
        for each in folders
    ]


def make_account(folder: Path, *, work_factor: int = STANDARD_WORK_FACTOR) -> Identity:
    """Make an account with a random password beside it, both for this user alone; raises FileExistsError."""
    identity, password = Identity.generate(), secrets.token_urlsafe(18)
    make_private_folder(folder)
    _write_secret(folder / PASSWORD_FILE, password)
    save_keystore(folder / ACCOUNT_FILE, identity, password, work_factor=work_factor)
    return identity


def make_aggregator_keys(folder: Path, *, work_factor: int = STANDARD_WORK_FACTOR) -> AggregatorKeys:
    """Make all keys of an aggregator in a folder that has none; raises FileExistsError."""
    identity = make_account(folder, work_factor=work_factor)
    made = AggregatorKeys(identity=identity, curve=CurveKeyPair.generate(), sealing=SealingKey.generate())
    save_curve_key(folder / CURVE_FILE, made.curve)
    _write_secret(folder / SEALING_FILE, made.sealing.secret.hex())
    return made


def _write_secret(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text + "\n")
