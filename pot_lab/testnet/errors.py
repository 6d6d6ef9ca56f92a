"""What can go wrong with a network on this host."""

from __future__ import annotations

from pot_lab.errors import PotLabError


class TestnetError(PotLabError):
    """A local testnet cannot be started, found or stopped."""

    __test__ = False


class TestnetRunning(TestnetError):
    """A testnet of this name is up already, or is being started or stopped.

    What to do: use it, or stop it with `pot-lab testnet down`.
    """


class NoTestnet(TestnetError):
    """No testnet of this name, or none at all, runs on this host.

    What to do: start one with `pot-lab testnet up`, or name a `network.toml`.
    """


class TestnetFailed(TestnetError):
    """A process of the testnet did not come up (its log tells why), or the testnet's folder is damaged.

    What to do: read the log that the message names; `pot-lab testnet up --fresh` begins anew.
    """


class UnknownAccount(PotLabError):
    """No account or keystore has this name.

    What to do: name one of the accounts that the message lists, or the path of a keystore.
    """
