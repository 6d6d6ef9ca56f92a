"""Errors of processes and the network between them, each with a name that a user can act on."""

from __future__ import annotations

from collections.abc import Mapping

from pot_lab.errors import PotLabError


class BadConfig(PotLabError):
    """A `network.toml` does not describe a network."""


class BadKeyFile(PotLabError):
    """A key file of an aggregator is missing or invalid, or holds another aggregator's key."""


class NoFreePorts(PotLabError):
    """This machine has too few ports that nobody uses."""


class DataDirLocked(PotLabError):
    """Another process works in this data directory."""


class BadDataDir(PotLabError):
    """A data directory cannot be made or used."""


class DiskFull(PotLabError):
    """The disk took no more; what was acknowledged before is safe, and nothing after it was acknowledged."""


class LogCorrupt(PotLabError):
    """A log is damaged before its end, where votes were already sent: going on without them could contradict them."""


class CallTimeout(PotLabError):
    """A call's result was not there in time; the call itself goes on."""


class ClientClosed(PotLabError):
    """A client was closed, or belongs to another process (it does not survive a fork)."""


class Unreachable(PotLabError):
    """Too few aggregators answered.

    Attributes:
        reasons: what is known of each aggregator, by index.
    """

    def __init__(self, message: str, reasons: Mapping[int, str] | None = None) -> None:
        self.reasons = dict(reasons or {})
        super().__init__(message)


class WrongServerKey(Unreachable):
    """Something answers at an aggregator's address, but not with the key that `network.toml` names."""


class NoAgreement(Unreachable):
    """Enough aggregators answered, but no f+1 of them the same."""


class RemoteError(PotLabError):
    """f+1 aggregators refused with an error code that this release does not know."""
