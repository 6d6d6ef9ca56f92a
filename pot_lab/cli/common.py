"""What several commands share: which network and account, reading files, interrupts."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pot_lab.errors import PotLabError

if TYPE_CHECKING:
    from pot_lab.crypto.identity import Identity
    from pot_lab.network.config import NetworkConfig
    from pot_lab.notebook.lab import Lab


def _say_aside(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# --- parts -------------------------------------------------------------------------------------------------------
def _lab(chosen: argparse.Namespace) -> Lab:
    from pot_lab.notebook.lab import connect

    return connect(chosen.network, chosen.account, start=False)


def _network_and_account(chosen: argparse.Namespace, usual: str) -> tuple[NetworkConfig, Identity]:
    from pot_lab.discovery import find_network, open_account
    from pot_lab.network.config import NetworkConfig

    file, testnet = find_network(chosen.network)
    account = chosen.account or os.environ.get("POT_LAB_ACCOUNT") or usual
    return NetworkConfig.load(file), open_account(testnet, account)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PotLabError("a file cannot be read", seen=f"{path}: {error.strerror}") from error


def _interrupt_on_sigterm() -> None:
    """End as at Ctrl-C when asked politely, so that everything started is stopped."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
