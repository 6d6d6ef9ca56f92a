"""Why a blob could not be stored or fetched: one error for each thing that may be wrong with a link or a store."""

from __future__ import annotations

from pot_lab.errors import PotLabError


class LinkDead(PotLabError):
    """Nothing answers at the link's address, or what answers has no such blob."""


class WrongHash(PotLabError):
    """The bytes at the link are not the bytes that the link names."""


class TooBig(PotLabError):
    """The blob is larger than the caller or the store accepts; refused before any of it was read."""


class TooSlow(PotLabError):
    """The whole transfer did not end within its time."""


class StoreFull(PotLabError):
    """The store, or the disk below it, has no room for the blob; nothing was written."""


class MissingExtra(PotLabError):
    """The link's kind of address needs an optional package; the message names the extra to install."""


class UnusableAddress(PotLabError):
    """The address is of a kind that links may not have."""


class StoreBusy(PotLabError):
    """Another server serves this folder already."""
