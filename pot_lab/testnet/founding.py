"""Make a new network: keys, accounts, contracts, network.toml."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

from pot_lab.crypto.identity import Identity
from pot_lab.crypto.keystore import TESTNET_WORK_FACTOR, save_keystore
from pot_lab.network.aggregator.keys_folder import ACCOUNT_FILE, PASSWORD_FILE

TESTNET_PARAMETERS: dict[str, Any] = {
    "update_ms": 2_000,
    "pool_ms": 120_000,
    "settlement_timeout_ms": 30_000,
    "seal_margin_ms": 10_000,
    "min_window_ms": 500,
    "usual_windows_ms": [8_000, 8_000, 90_000, 15_000, 8_000, 5_000, 5_000],
}
"""Shorter waits than a real network's: everybody is on one machine. The score window closes early, so it may be long.
"""


def _make_account(keys: Path) -> Identity:
    identity, password = Identity.generate(), secrets.token_urlsafe(18)
    keys.mkdir(parents=True, exist_ok=True)
    _write_secret(keys / PASSWORD_FILE, password)
    save_keystore(keys / ACCOUNT_FILE, identity, password, work_factor=TESTNET_WORK_FACTOR)
    return identity


def _write_secret(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text + "\n")
