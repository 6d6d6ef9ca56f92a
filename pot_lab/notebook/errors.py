"""Errors of the researcher's side."""

from __future__ import annotations

from pot_lab.errors import PotLabError


class BadArgument(PotLabError):
    """An argument of `Lab.order` cannot be used as it is.

    What to do: pass what the message wants; nothing was sent or paid.
    """


class BadQuantity(PotLabError):
    """A duration, an amount of POT or a score cannot be read.

    What to do: write a number with a unit, such as `10min`, or POT with at most 9 decimals.
    """


class NoModel(PotLabError):
    """The order has no winning model or no released test data, or not yet.

    What to do: wait until the order is sealed (`order.wait()`); a void order has none.
    """


class ScoreDiffers(PotLabError):
    """A score computed here is not the one that the ledger agreed on: one of the two machines is wrong.

    What to do: run `pot_lab.scoring.run_self_test()` here; if it passes, report the order.
    """


class PaidBefore(PotLabError):
    """Another order of this account was paid by a call that did not return, e.g. because its kernel was killed.

    What to do: that order runs: `lab.get` with its id gives it. Call again to place the new one besides it.
    """


class NoMiners(PotLabError):
    """No provider or no validator is registered in the network, so an order would end void; nothing was sent or paid.

    What to do: start practice miners with `pot-lab testnet up --miners`, or miners with `pot-lab mine`. Pass
    `without_miners=True` if they come in time.
    """


class NoSuchOrder(PotLabError):
    """No order's id begins with these digits.

    What to do: `lab.orders()` and `pot-lab orders` list what there is.
    """


class AmbiguousOrder(PotLabError):
    """The ids of several orders begin with these digits.

    What to do: give more digits of the id; the message lists the candidates.
    """
