"""What can go wrong between processes, each with the name a user can act on."""

from __future__ import annotations

from collections.abc import Mapping

from pot_lab.errors import PotLabError


class BadConfig(PotLabError):
    """A `network.toml` does not describe a network."""


class BadKeyFile(PotLabError):
    """A file that should hold an aggregator's CURVE key does not, or holds another's."""


class PortTaken(PotLabError):
    """Another process listens where this one should."""


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


class Busy(PotLabError):
    """An aggregator has no room for this client's request now; the client tries again later."""


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
    """f+1 aggregators refused for a reason whose name this program does not know."""


MAX_TEXT = 2_000


def error_to_wire(error: PotLabError) -> tuple[str, str, str, str]:
    """An error as code, message, seen and wanted: four texts of bounded length."""
    values = (value.hex() if isinstance(value, bytes) else value for value in (error.seen, error.wanted))
    seen, wanted = ("" if value is None else str(value)[:MAX_TEXT] for value in values)
    return error.code, error.message[:MAX_TEXT], seen, wanted


def error_from_wire(code: str, message: str, seen: str, wanted: str) -> PotLabError:
    """Turn a refusal that f+1 aggregators gave into the error class of that name."""
    known = _subclasses(PotLabError).get(code)
    error = PotLabError.__new__(known or RemoteError)
    text = message if known is not None else f"{code}: {message}"
    PotLabError.__init__(error, text, seen=seen or None, wanted=wanted or None)
    return error


def _subclasses(root: type[PotLabError]) -> dict[str, type[PotLabError]]:
    """Errors of this package by name; what others derive from them must not take a rule's name."""
    found = {root.__name__: root}
    for child in root.__subclasses__():
        if child.__module__.startswith("pot_lab."):
            found.update(_subclasses(child))
    return found
