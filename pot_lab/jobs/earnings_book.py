"""What a miner's orders paid: a line for each, kept beside its orders, when jobs and orders are long gone.

work/<role>-<account>-<network>/earnings.jsonl, some 300 bytes an order; its owner is the miner, and nothing ends it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from pot_lab.files import make_private_folder

FILE_NAME = "earnings.jsonl"
LINE_LIMIT_BYTES = 1 << 14


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An order that a miner is done with.

    Attributes:
        ended_ms: when, by the host's clock (Unix milliseconds).
        order_id: the order, in hex.
        outcome: how it went, for people.
        grains: what it paid this account, in 10^-9 POT; a bond that was lost is not subtracted, `outcome` tells it.
        reasons: what for, as the ledger's payouts say.
        worked_s: how long its notebook ran, in seconds.
    """

    ended_ms: int
    order_id: str
    outcome: str
    grains: int = 0
    reasons: tuple[str, ...] = ()
    worked_s: float = 0.0


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """Several orders together: their day (or "all"), how many they are, how many of them paid, how much in grains, and
    how long notebooks ran, in hours.
    """

    name: str
    orders: int
    paid: int
    grains: int
    hours: float

    @property
    def grains_per_hour(self) -> float | None:
        """Grains for each hour that a notebook ran; None where none did."""
        return self.grains / self.hours if self.hours else None


class EarningsBook:
    """One account's earnings in one role.

    Args:
        folder: the loop's folder, whose name says role, account and network.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def append(self, entry: Entry) -> None:
        """Write one line; on return it survives a power cut. Raises OSError."""
        make_private_folder(self.folder)
        descriptor = os.open(self.folder / FILE_NAME, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, msgspec.json.encode(entry) + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def entries(self, since_ms: int = 0) -> list[Entry]:
        """What was written, oldest first; a line that a power cut tore is left out.

        Args:
            since_ms: leave out what ended before.
        """
        found = []
        try:
            with (self.folder / FILE_NAME).open("rb") as file:
                while line := file.readline(LINE_LIMIT_BYTES):
                    try:
                        entry = msgspec.json.decode(line, type=Entry)
                    except msgspec.MsgspecError:
                        continue
                    if entry.ended_ms >= since_ms:
                        found.append(entry)
        except FileNotFoundError:
            pass
        return found


def books(home: Path) -> list[EarningsBook]:
    """The books of a home, of every role, account and network that has one, by name."""
    return [EarningsBook(path.parent) for path in sorted((home / "work").glob(f"*/{FILE_NAME}"))]


def by_day(entries: Iterable[Entry]) -> list[Period]:
    """The entries by the day on which they ended, in the host's time zone, oldest first."""
    days: dict[str, list[Entry]] = {}
    for entry in entries:
        days.setdefault(time.strftime("%Y-%m-%d", time.localtime(entry.ended_ms / 1000)), []).append(entry)
    return [period(day, days[day]) for day in sorted(days)]


def period(name: str, entries: Iterable[Entry]) -> Period:
    """The entries together.

    >>> period("all", [Entry(ended_ms=0, order_id="", outcome="won", grains=6, worked_s=1800)]).grains_per_hour
    12.0
    """
    listed = list(entries)
    return Period(
        name=name,
        orders=len(listed),
        paid=sum(entry.grains > 0 for entry in listed),
        grains=sum(entry.grains for entry in listed),
        hours=sum(entry.worked_s for entry in listed) / 3600,
    )
