"""One transaction of an account at a time, among all threads and processes of this host.

An account's transactions are numbered in a row, and a permit has a number of its own. Two that read the same number
would make one transaction that replaces the other, or that the contract refuses.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator

from pot_lab import home
from pot_lab.chain.errors import AccountBusy
from pot_lab.files import FileLocked, acquire_lock

_log = logging.getLogger(__name__)


class AccountTurn:
    """Whose turn it is to send transactions of one account on one chain.

    Args:
        chain_id: the chain.
        account: its address, 20 bytes.
        timeout_s: how long to wait for another process.
    """

    def __init__(self, chain_id: int, account: bytes, *, timeout_s: float) -> None:
        self._name = f"{chain_id}-{account.hex()}.lock"
        self._timeout_s = timeout_s
        self._lock = threading.RLock()
        self._depth = 0

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Have the turn for a `with` block, which may hold others of the same object.

        Raises:
            AccountBusy: another process still has it after `timeout_s`.
        """
        with self._lock:
            descriptor = self._acquire() if self._depth == 0 else None
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                if descriptor is not None:
                    os.close(descriptor)

    def _acquire(self) -> int | None:
        folder = home.home() / "locks"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return acquire_lock(folder / self._name, timeout_s=self._timeout_s)
        except FileLocked as error:
            raise AccountBusy(
                "another process sends a transaction of this account",
                seen=f"waited {self._timeout_s:g} s",
                wanted="one transaction of an account at a time",
            ) from error
        except OSError as error:  # no home that can be written, or no locks on it: threads still take turns
            _log.warning("event=no_account_lock reason=%r", str(error))
            return None
