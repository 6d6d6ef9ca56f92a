"""What can go wrong with a network on this host."""

from __future__ import annotations

from pot_lab.errors import PotLabError


class TestnetError(PotLabError):
    """A local testnet cannot be started, found or stopped."""

    __test__ = False


class TestnetRunning(TestnetError):
    """A testnet of this name is up already, or is being started or stopped."""


class NoTestnet(TestnetError):
    """No testnet of this name, or none at all, runs on this host."""


class TestnetFailed(TestnetError):
    """A process of the testnet did not come up (its log tells why), or the testnet's folder is damaged."""


class UnknownAccount(PotLabError):
    """No account or keystore has this name."""
