"""Errors of processes and the network between them, each with a name that a user can act on."""

from __future__ import annotations

from collections.abc import Mapping

from pot_lab.errors import PotLabError


class BadConfig(PotLabError):
    """A `network.toml` does not describe a network.

    What to do: correct the key that the message names; the reference lists all keys.
    """


class BadKeyFile(PotLabError):
    """A key file of an aggregator is missing or invalid, or holds another aggregator's key.

    What to do: put this aggregator's own files into its keys folder; operations.md lists them.
    """


class NoFreePorts(PotLabError):
    """This machine has too few ports that nobody uses.

    What to do: stop other services, or start fewer aggregators.
    """


class DataDirLocked(PotLabError):
    """Another process works in this data directory.

    What to do: stop the other aggregator, or give this one a data directory of its own.
    """


class BadDataDir(PotLabError):
    """A data directory cannot be made or used.

    What to do: check path, owner and permissions.
    """


class DiskFull(PotLabError):
    """The disk took no more; what was acknowledged before is safe, and nothing after it was acknowledged.

    What to do: make room and start the aggregator again; it catches up.
    """


class LogCorrupt(PotLabError):
    """A log is damaged before its end, where votes were already sent: going on without them could contradict them.

    What to do: see operations.md: remove `history.sqlite*` if the message names it, else start with an empty data
    directory.
    """


class CallTimeout(PotLabError):
    """A call's result was not there in time; the call itself goes on.

    What to do: wait longer, or check the network; query for the outcome before you submit again.
    """


class ClientClosed(PotLabError):
    """A client was closed, or belongs to another process (it does not survive a fork).

    What to do: open a client in this process.
    """


class Unreachable(PotLabError):
    """Too few aggregators answered.

    What to do: check `network.toml` and your connection; `pot-lab testnet status` shows a local network.

    Attributes:
        reasons: what is known of each aggregator, by index.
    """

    def __init__(self, message: str, reasons: Mapping[int, str] | None = None) -> None:
        self.reasons = dict(reasons or {})
        super().__init__(message)


class WrongServerKey(Unreachable):
    """Something answers at an aggregator's address, but not with the key that `network.toml` names.

    What to do: get the network's present `network.toml`; if it is present, do not connect.
    """


class NoAgreement(Unreachable):
    """Enough aggregators answered, but no f+1 of them the same.

    What to do: try again; if it stays, fewer than f+1 aggregators are level with each other.
    """


class QueryFailed(PotLabError):
    """Aggregators cannot answer a query because of a fault of their own, which their logs show.

    What to do: ask for something else, and report the query.
    """


class RemoteError(PotLabError):
    """f+1 aggregators refused with an error code that this release does not know.

    What to do: update the package: the aggregators run a newer version.
    """
