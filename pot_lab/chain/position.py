"""A watcher's position on disk: a restarted aggregator reads only what is new (chain.md, "Ledger and chain")."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from pot_lab.chain.contract import Contracts
from pot_lab.chain.watcher import Position
from pot_lab.crypto.canonical import Record, decode, encode
from pot_lab.errors import PotLabError
from pot_lab.files import replace_durably

_log = logging.getLogger(__name__)
_LIMIT_BYTES: Final = 1_024


class SavedPosition(Record, frozen=True, kw_only=True):
    """A position, and whose: that of a watcher of another network's contracts is worth nothing here."""

    chain_id: int
    settlement: bytes
    first_block: int
    position: Position


class PositionFile:
    """Keeps one watcher's position in a file. What is missing, damaged or another network's is no position: the watcher
    then begins at the contracts' first block, which costs time and nothing else.

    Args:
        path: the file; its folder is made when it is not there.
        contracts: whose events are watched.
    """

    def __init__(self, path: Path, contracts: Contracts) -> None:
        self._path, self._contracts = path, contracts

    def load(self) -> Position | None:
        """The position that was saved last, if it can be used."""
        try:
            with self._path.open("rb") as file:
                saved = decode(file.read(_LIMIT_BYTES + 1), SavedPosition, limit_bytes=_LIMIT_BYTES)
        except FileNotFoundError:
            return None
        except (OSError, PotLabError) as error:
            _log.warning("event=chain_position_unusable reason=%r", str(error))
            return None
        position = saved.position
        sensible = position.next_block >= saved.first_block and position.events >= 0 and len(position.last_hash) == 32
        if not sensible or saved != self._saved(position):
            _log.warning("event=chain_position_unusable reason=%r", "it is of other contracts, or of no block")
            return None
        return position

    def save(self, position: Position) -> None:
        """Replace what is saved; a disk that refuses is logged, and costs reading again after the next restart."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            replace_durably(self._path, encode(self._saved(position)))
        except OSError as error:
            _log.warning("event=chain_position_not_saved reason=%r", str(error))

    def forget(self) -> None:
        """Remove the file, so that the next watcher begins at the contracts' first block."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("event=chain_position_not_removed reason=%r", str(error))

    def _saved(self, position: Position) -> SavedPosition:
        return SavedPosition(
            chain_id=self._contracts.chain_id,
            settlement=bytes(self._contracts.settlement),
            first_block=self._contracts.first_block,
            position=position,
        )
