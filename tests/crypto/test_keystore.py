"""Keystores: readable by other wallets and by us, closed to a wrong password, never lost to a second key."""

from __future__ import annotations

import errno
import inspect
import json
import stat
import sys
import uuid
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from eth_account import Account

from pot_lab.crypto.canonical import keccak256
from pot_lab.crypto.identity import Identity, format_address
from pot_lab.crypto.keystore import (
    KEYSTORE_LIMIT_BYTES,
    STANDARD_WORK_FACTOR,
    TESTNET_WORK_FACTOR,
    WrongPassword,
    load_keystore,
    save_keystore,
)
from pot_lab.errors import Malformed

FAST = 2
ALICE = Identity(b"\x0a" * 32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "keys" / "alice.json"
    save_keystore(path, ALICE, "pass word ü", work_factor=FAST)
    return path


def test_a_keystore_opens_with_its_password(path: Path) -> None:
    assert load_keystore(path, "pass word ü").secret == ALICE.secret


def test_another_wallet_opens_ours(path: Path) -> None:
    assert Account.decrypt(path.read_text(), "pass word ü") == ALICE.secret


@pytest.mark.parametrize("kdf", ["scrypt", "pbkdf2"])
def test_we_open_another_wallets(tmp_path: Path, kdf: str) -> None:
    path = tmp_path / "theirs.json"
    path.write_text(json.dumps(Account.encrypt(ALICE.secret, "secret", kdf=kdf, iterations=FAST)))
    assert load_keystore(path, "secret").address == ALICE.address


@pytest.mark.parametrize("address", ["", "0x"])
def test_a_keystore_with_a_capital_letter_is_opened(path: Path, tmp_path: Path, address: str) -> None:
    content = json.loads(path.read_text())
    content["Crypto"] = content.pop("crypto")
    content["address"] = address + content["address"][2:].lower()
    (tmp_path / "other.json").write_text(json.dumps(content))
    assert load_keystore(tmp_path / "other.json", "pass word ü").address == ALICE.address


def test_a_wrong_password_is_named(path: Path) -> None:
    with pytest.raises(WrongPassword, match=r"alice\.json"):
        load_keystore(path, "pass word u")


def test_only_its_owner_may_read_it(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_keystore_is_never_overwritten(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        save_keystore(path, Identity.generate(), "other", work_factor=FAST)
    assert path.read_bytes() == before


def test_a_full_disk_leaves_no_half_a_key_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "alice.json"
    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space"):
        patched.setattr("os.fsync", full)
        save_keystore(path, ALICE, "secret", work_factor=FAST)
    assert list(tmp_path.iterdir()) == []
    save_keystore(path, ALICE, "secret", work_factor=FAST)
    assert load_keystore(path, "secret").secret == ALICE.secret


def test_the_file_shows_the_address_and_not_the_key(path: Path) -> None:
    text = path.read_text()
    assert json.loads(text)["address"] == format_address(ALICE.address)
    assert ALICE.secret.hex() not in text.lower()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b"[]",
        b"null",
        b'"text"',
        b'{"version": 1}',
        b'{"version": 3}',
        b'{"version": 3, "crypto": {}}',
        b'{"version": 3, "crypto": null}',
        b'{"version": 3, "crypto": {"kdf": "none", "mac": ""}}',
        b'{"version": 3, "crypto": {"kdf": "scrypt", "kdfparams": {"n": "x"}}}',
        b"\xff\xfe",
        b" " * (KEYSTORE_LIMIT_BYTES + 1),
    ],
)
def test_what_is_no_keystore_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.json"
    path.write_bytes(content)
    with pytest.raises(Malformed, match=r"odd\.json"):
        load_keystore(path, "secret")


@pytest.mark.parametrize(
    ("field", "value"), [("mac", "00" * 32), ("ciphertext", 7), ("cipher", "rot13"), ("kdf", "none"), ("kdfparams", {})]
)
def test_a_damaged_keystore_is_not_mistaken_for_a_wrong_password(path: Path, field: str, value: object) -> None:
    content = json.loads(path.read_bytes())
    content["crypto"][field] = value
    path.write_text(json.dumps(content))
    with pytest.raises((Malformed, WrongPassword)) as refusal:
        load_keystore(path, "pass word ü")
    assert refusal.type is (WrongPassword if field == "mac" else Malformed)


def test_a_missing_keystore_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_keystore(tmp_path / "none.json", "secret")


def test_a_keystore_that_names_another_address_is_refused(path: Path) -> None:
    content = json.loads(path.read_bytes())
    content["address"] = format_address(Identity(b"\x0b" * 32).address)
    path.write_text(json.dumps(content))
    with pytest.raises(Malformed, match="another account"):
        load_keystore(path, "pass word ü")


@pytest.mark.parametrize(
    ("kdf", "change"),
    [
        ("scrypt", {"n": 1 << 40}),
        ("scrypt", {"n": 3}),
        ("scrypt", {"n": 0}),
        ("scrypt", {"r": 1 << 20}),
        ("scrypt", {"p": 0}),
        ("scrypt", {"dklen": 1 << 30}),
        ("pbkdf2", {"c": 1 << 40}),
        ("pbkdf2", {"c": 0}),
        ("pbkdf2", {"prf": "hmac-md5"}),
    ],
)
def test_work_that_no_honest_keystore_asks_for_is_not_begun(
    tmp_path: Path, kdf: str, change: dict[str, object]
) -> None:
    content = Account.encrypt(ALICE.secret, "secret", kdf=kdf, iterations=FAST)
    content["crypto"]["kdfparams"].update(change)
    path = tmp_path / "heavy.json"
    path.write_text(json.dumps(content))
    with pytest.raises(Malformed, match=r"heavy\.json"):
        load_keystore(path, "secret")


def test_a_file_nested_too_deep_is_no_keystore(tmp_path: Path) -> None:
    path = tmp_path / "deep.json"
    path.write_bytes(b"[" * 10_000)
    before = sys.getrecursionlimit()  # other libraries raise it when they are imported
    sys.setrecursionlimit(1_000)
    try:
        with pytest.raises(Malformed, match=r"deep\.json"):
            load_keystore(path, "secret")
    finally:
        sys.setrecursionlimit(before)


@pytest.mark.parametrize(("r", "p", "accepted"), [(16, 1, True), (17, 1, False), (1, 16, True), (1, 17, False)])
def test_the_bounds_of_scrypts_work_are_exact(tmp_path: Path, r: int, p: int, accepted: bool) -> None:
    salt, nonce = b"\x01" * 32, b"\x02" * 16
    derived = Scrypt(salt=salt, length=32, n=2, r=r, p=p).derive(b"secret")
    cipher = Cipher(algorithms.AES(derived[:16]), modes.CTR(nonce)).encryptor()
    ciphertext = cipher.update(ALICE.secret) + cipher.finalize()
    content = {
        "version": 3,
        "crypto": {
            "cipher": "aes-128-ctr",
            "cipherparams": {"iv": nonce.hex()},
            "ciphertext": ciphertext.hex(),
            "kdf": "scrypt",
            "kdfparams": {"dklen": 32, "n": 2, "r": r, "p": p, "salt": salt.hex()},
            "mac": keccak256(derived[16:] + ciphertext).hex(),
        },
    }
    path = tmp_path / "bound.json"
    path.write_text(json.dumps(content))
    if accepted:
        assert load_keystore(path, "secret").secret == ALICE.secret
    else:
        with pytest.raises(Malformed, match="scrypt work"):
            load_keystore(path, "secret")


@pytest.mark.parametrize(("n", "work"), [(1, "n=1,"), (1 << 21, "n=2097152,")])
def test_scrypts_n_has_bounds(path: Path, n: int, work: str) -> None:
    content = json.loads(path.read_bytes())
    content["crypto"]["kdfparams"]["n"] = n
    path.write_text(json.dumps(content))
    with pytest.raises(Malformed, match=work):
        load_keystore(path, "pass word ü")


@pytest.mark.parametrize(("spaces", "accepted"), [(0, True), (1, False)])
def test_a_file_as_long_as_the_limit_is_read(path: Path, spaces: int, accepted: bool) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw + b" " * (16_384 - len(raw) + spaces))
    if accepted:
        assert load_keystore(path, "pass word ü").secret == ALICE.secret
    else:
        with pytest.raises(Malformed, match="longer than 16384 bytes"):
            load_keystore(path, "pass word ü")


def test_the_file_is_what_the_standard_asks_for(path: Path) -> None:
    content = json.loads(path.read_bytes())
    assert content["version"] == 3 and uuid.UUID(content["id"]).version == 4
    parameters = content["crypto"]["kdfparams"]
    assert {name: parameters[name] for name in ("dklen", "n", "r", "p")} == {"dklen": 32, "n": FAST, "r": 8, "p": 1}
    assert len(bytes.fromhex(parameters["salt"])) == 32
    assert len(bytes.fromhex(content["crypto"]["cipherparams"]["iv"])) == 16


def test_real_keys_get_the_standard_work_and_testnets_keys_little() -> None:
    default = inspect.signature(save_keystore).parameters["work_factor"].default
    assert (default, STANDARD_WORK_FACTOR, TESTNET_WORK_FACTOR) == (131_072, 131_072, 1_024)


def test_an_account_may_be_named_with_or_without_0x_in_any_case_or_not_at_all(path: Path) -> None:
    content = json.loads(path.read_bytes())
    digits = ALICE.address.hex()
    for named in (digits, "0x" + digits, digits.upper(), None):
        content["address"] = named
        path.write_text(json.dumps(content))
        assert load_keystore(path, "pass word ü").secret == ALICE.secret


def test_a_single_iteration_of_pbkdf2_is_enough_to_be_read(tmp_path: Path) -> None:
    path = tmp_path / "weak.json"
    path.write_text(json.dumps(Account.encrypt(ALICE.secret, "secret", kdf="pbkdf2", iterations=1)))
    assert load_keystore(path, "secret").secret == ALICE.secret
    content = json.loads(path.read_text())
    content["crypto"]["kdfparams"]["c"] = 10_000_001
    path.write_text(json.dumps(content))
    with pytest.raises(Malformed, match="10000001 iterations"):
        load_keystore(path, "secret")
