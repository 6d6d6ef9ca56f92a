"""Claiming on the chain what an account earned, once the ledger has a confirmed settlement for it (section 3.3)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from pot_lab.errors import PotLabError
from pot_lab.jobs.earnings_book import EarningsBook
from pot_lab.protocol.views import AccountView

log = logging.getLogger(__name__)

RETRY_MS = 5_000


class Claimer(Protocol):
    """What claiming needs of a chain wallet."""

    def claim(self, account: bytes, cumulative_grains: int, proof: list[bytes]) -> object:
        """Claim up to `cumulative_grains` for `account`, with the Merkle proof of its leaf."""


class Earnings:
    """An account's claims.

    Args:
        address: the account.
        read_account: reads its AccountView from the ledger.
        make_claimer: opens a chain wallet; None to leave earnings on the chain.
        clock_ms: the host's clock, in milliseconds.
        book: where it is noted what each order paid.
    """

    def __init__(
        self,
        address: bytes,
        read_account: Callable[[bytes], AccountView],
        make_claimer: Callable[[], Claimer] | None,
        clock_ms: Callable[[], int],
        book: EarningsBook,
    ) -> None:
        self.book = book
        self._address = address
        self._read_account = read_account
        self._make_claimer = make_claimer
        self._clock_ms = clock_ms
        self._failed_ms: int | None = None

    def claim(self) -> bool:
        """Claim what the last settlement lets this account claim; after a failure at most once in RETRY_MS.

        Returns: whether it is done, or there is nothing to claim, or nobody claims.
        """
        if self._make_claimer is None:
            return True
        if self._failed_ms is not None and 0 <= self._clock_ms() - self._failed_ms < RETRY_MS:
            return False
        view = self._read_account(self._address)
        grains: int = view.claimable_cumulative_grains
        proof: Sequence[bytes] = view.claim_proof
        if not grains:
            return True
        try:
            self._make_claimer().claim(self._address, grains, list(proof))
        except PotLabError as error:
            log.info("event=not_claimed reason=%r", str(error))
            self._failed_ms = self._clock_ms()
            return "NothingToClaim" in str(error)
        self._failed_ms = None
        log.info("event=claimed cumulative_grains=%d", grains)
        return True
