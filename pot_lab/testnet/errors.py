"""What can go wrong with a network on this host."""

from __future__ import annotations

from collections.abc import Callable

from pot_lab.errors import PotLabError

Say = Callable[[str], None]


class TestnetError(PotLabError):
    """A local testnet cannot be started, found or stopped."""

    __test__ = False


class TestnetRunning(TestnetError):
    """A testnet of this name is up already."""


class NoTestnet(TestnetError):
    """No testnet runs here."""


class TestnetFailed(TestnetError):
    """A process of the testnet did not come up; its log says why."""


class UnknownAccount(PotLabError):
    """No account or keystore answers to this name."""
