"""An aggregator's account opens with the password beside it, however an editor has written that."""

from __future__ import annotations

from pathlib import Path

import pytest

from pot_lab.crypto.identity import Identity
from pot_lab.crypto.keystore import save_keystore
from pot_lab.network.aggregator.keys_folder import load_account
from pot_lab.network.errors import BadKeyFile


@pytest.fixture
def account(tmp_path: Path) -> Identity:
    identity = Identity.generate()
    save_keystore(tmp_path / "account.json", identity, "p\u00e4ss", work_factor=1024)
    return identity


@pytest.mark.parametrize("text", ["p\u00e4ss", "p\u00e4ss\n", "\ufeffp\u00e4ss\r\n", "  p\u00e4ss  \n\n"])
def test_a_password_file_of_any_editor_opens_the_account(account: Identity, tmp_path: Path, text: str) -> None:
    (tmp_path / "password").write_bytes(text.encode())
    assert load_account(tmp_path).address == account.address


def test_a_password_file_in_another_encoding_is_named(account: Identity, tmp_path: Path) -> None:
    (tmp_path / "password").write_bytes("p\u00e4ss".encode("latin-1"))
    with pytest.raises(BadKeyFile, match=r"password holds no text .*wanted: a password in UTF-8"):
        load_account(tmp_path)
