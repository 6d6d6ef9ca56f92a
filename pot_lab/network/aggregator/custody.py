"""An aggregator's custody: the duty that keeps blobs, the folder they are in, and the process that serves them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from pot_lab.agreement.application import Seat
from pot_lab.crypto.identity import Address
from pot_lab.errors import PotLabError
from pot_lab.network.config import AggregatorEntry, NetworkConfig
from pot_lab.network.duties.custody import CustodyDuty
from pot_lab.network.duties.custody_keeper import CustodyKeeper
from pot_lab.network.duties.custody_ledger import OrdersCustody
from pot_lab.network.duties.signer import TransactionSigner
from pot_lab.network.seats import entry_of
from pot_lab.network.zmtp.listener import bind_host
from pot_lab.protocol.ledger import Ledger
from pot_lab.store.addresses import is_private_place
from pot_lab.store.custody import Custody, CustodyLimits
from pot_lab.store.custody_process import CustodyProcess, ServingPlace
from pot_lab.store.link_fetcher import FetchLimits, LinkFetcher

CUSTODY_FOLDER = "custody"


class AggregatorCustody:
    """What an aggregator holds for others, in `data`/custody.

    Args:
        config: the network.
        data: the aggregator's folder.
        ledger: this replica's ledger.
        signer: this aggregator's keys.
        limits: of the folder.
        wake: makes the aggregator's loop poll its duties soon.
    Attributes:
        duty: keeps the blobs, and attests them.
    """

    def __init__(
        self,
        config: NetworkConfig,
        data: Path,
        ledger: Callable[[], Ledger],
        signer: TransactionSigner,
        *,
        limits: CustodyLimits,
        wake: Callable[[], None],
    ) -> None:
        self._config, self._ledger, self._limits = config, ledger, limits
        self._root = data / CUSTODY_FOLDER
        self._process: CustodyProcess | None = None
        wanted = OrdersCustody(ledger, signer, self.copy_at)
        self.duty = CustodyDuty(wanted, wanted.attest, self._open, wake)

    def serve(self, entry: Callable[[], AggregatorEntry]) -> None:
        """Serve the folder from now on where the aggregator's seat says."""

        def place() -> ServingPlace:
            now = entry()
            return ServingPlace(bind_host(now.host), now.custody_port)

        self._process = CustodyProcess(self._root, place, limits=self._limits)
        self._process.start()

    def stop(self) -> None:
        """End serving."""
        if self._process is not None:
            self._process.stop()

    def copy_at(self, account: Address) -> str:
        """Where the member with this account serves its custody; empty where that is not known."""
        for index, seat in enumerate(self._ledger().state.aggregators):
            if seat.account == account:
                with contextlib.suppress(PotLabError):
                    return entry_of(index, Seat(seat.key, seat.contact), self._config).custody_url
        return ""

    def _open(self) -> CustodyKeeper:
        custody = Custody(self._root, self._limits)
        custody.sweep()
        fetching = FetchLimits(total_bytes=self._limits.total_bytes)
        fetcher = LinkFetcher(self._root, private_links=may_be_private(self._config), limits=fetching)
        return CustodyKeeper(custody, fetcher)


def may_be_private(config: NetworkConfig) -> bool:
    """Whether links may lead to private addresses: as `network.toml` says, or else where the store itself is at one."""
    if config.private_links is not None:
        return config.private_links
    return bool(config.store_url) and is_private_place(config.store_url)
