"""Who would do an order's work: what the ledger knows of providers and validators, and what runs on this host.

The ledger knows who is registered, not who is at work. On a testnet of this host the loops' locks tell that too.
"""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import dataclass

from pot_lab import home
from pot_lab.errors import PotLabError
from pot_lab.files import is_locked
from pot_lab.notebook.errors import NoMiners
from pot_lab.notebook.quantities import pot
from pot_lab.protocol.parameters import LOCKS_TO_START
from pot_lab.protocol.views import NetworkView

ROLES = ("provider", "validator", "verifier")


@dataclass(frozen=True, kw_only=True)
class Miners:
    """Providers and validators of a network.

    Attributes:
        providers, validators: how many are registered in the ledger.
        providers_here, validators_here: how many loops of this network run on this host; None for a network that is no
            testnet of this host, where nobody can tell.
        starts: whether validators enough are registered for an order of the reward that was asked about to start.
    """

    providers: int
    validators: int
    providers_here: int | None
    validators_here: int | None
    starts: bool


def loops_here(network_id: bytes) -> dict[str, int]:
    """How many mining loops of this network run on this host, by role; those with another `$POT_LAB_HOME` aside."""
    work = home.home() / "work"
    return {role: sum(map(is_locked, work.glob(f"{role}-*-{network_id.hex()[:12]}/.lock"))) for role in ROLES}


def is_of_this_host(network_id: bytes) -> bool:
    """Whether the network is a testnet of this host's home, so that its miners run here."""
    from pot_lab.network.config import NetworkConfig

    for file in home.networks().glob("*/network.toml"):
        with contextlib.suppress(PotLabError):  # a damaged neighbour
            if NetworkConfig.load(file).network_id == network_id:
                return True
    return False


def miners_of(network: NetworkView, reward_grains: int, network_id: bytes, *, here: bool) -> Miners:
    """Who would work on an order of this reward.

    Args:
        network: the ledger's view.
        reward_grains: what the order pays.
        network_id: the network (32 bytes).
        here: whether it is a testnet of this host.
    """
    parameters = network.parameters
    stake = LOCKS_TO_START * parameters.score_lock_grains(reward_grains)
    loops = loops_here(network_id) if here else {}
    return Miners(
        providers=network.providers,
        validators=network.validators,
        providers_here=loops.get("provider"),
        validators_here=loops.get("validator"),
        starts=network.validators >= parameters.min_validators and network.validator_stake_grains >= stake,
    )


def require_miners(network: NetworkView, reward_grains: int, miners: Miners, *, without: bool = False) -> None:
    """Refuse an order that nobody could work on, before it is paid; warn where it may have to wait.

    Args:
        network: the ledger's view.
        reward_grains: what the order pays.
        miners: as `miners_of` found them.
        without: warn instead of refusing.
    Raises:
        NoMiners: no provider or no validator is registered: the order would end void.
    """
    counts = {"provider": miners.providers, "validator": miners.validators}
    if missing := [role for role, count in counts.items() if not count]:
        what = f"no {' and no '.join(missing)} is registered in this network, so the order would end void"
        todo = ", ".join(f"`pot-lab mine {role}`" for role in missing)
        if not without:
            raise NoMiners(
                what,
                seen=f"{miners.providers} providers and {miners.validators} validators",
                wanted=f"{todo}, or `pot-lab testnet up --miners` for practice miners of a local testnet; "
                "`without_miners=True` orders all the same",
            )
        warnings.warn(f"{what} unless one comes in time. Start one with {todo}.", stacklevel=4)
    elif not miners.starts:
        parameters = network.parameters
        stake = LOCKS_TO_START * parameters.score_lock_grains(reward_grains)
        warnings.warn(
            f"an order of {pot(reward_grains)} POT starts when {parameters.min_validators} validators with stakes of "
            f"{pot(stake)} POT together are registered, and there are {network.validators} with "
            f"{pot(network.validator_stake_grains)} POT: it waits for more, at most "
            f"{parameters.pool_ms / 1_000:g} s, and then all of its money comes back. A smaller reward needs less.",
            stacklevel=4,
        )
    elif asleep := [
        role
        for role, count in (("provider", miners.providers_here), ("validator", miners.validators_here))
        if count == 0
    ]:
        todo = "`pot-lab testnet up --miners`, or " + ", ".join(f"`pot-lab mine {role}`" for role in asleep)
        warnings.warn(
            f"{' and '.join(f'{role}s' for role in asleep)} are registered, and none runs on this host now: the order "
            f"ends void unless one starts in time. Start practice miners with {todo}.",
            stacklevel=4,
        )
