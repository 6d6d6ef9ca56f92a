"""What an order would cost and how long it would take, found out before anything is sent or paid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from statistics import median

from pot_lab.notebook.miners import Miners
from pot_lab.notebook.posting import OrderTerms, PreparedOrder
from pot_lab.notebook.quantities import how_many, pot, seconds_text, size_text
from pot_lab.notebook.tables import Facts, facts_html, facts_text
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.parameters import GRAINS_PER_POT
from pot_lab.protocol.views import OrderSummary

_FEW = 3
"""From so many past orders on, what they took is worth more than the lengths of windows."""


@dataclass(frozen=True, kw_only=True)
class PastOrders:
    """How the network's last orders ended.

    Attributes:
        ended: how many of those looked at have ended.
        won: how many of these ended with a model that was better than asked for.
        rest_ms: how long after its training time an order with a winner ended, the median; None where there was none.
    """

    ended: int
    won: int
    rest_ms: int | None


def past_orders(summaries: Sequence[OrderSummary]) -> PastOrders:
    """What past orders tell; orders that their client took back are left out.

    Args:
        summaries: the network's orders, e.g. the last 100.
    """
    over = [each for each in summaries if each.ended_ms and each.t0_ms]
    won = [each for each in over if each.window is Window.SETTLED]
    rests = [each.ended_ms - each.t0_ms - each.train_ms for each in won]
    return PastOrders(ended=len(over), won=len(won), rest_ms=round(median(rests)) if rests else None)


@dataclass(frozen=True, kw_only=True, repr=False)
class Quote:
    """What an order would cost, who would work on it, and how long it would take.

    Attributes:
        terms: what would be offered, in exact units.
        miners: who would work on it.
        past: how the network's last orders ended.
        balance_grains: what the account has now.
        scoring_grains: what scoring and ordering cost of the reward, also where no model is better than the baseline.
        prepared: the contents, where model and data were given.
        begins_with: the score that the winner would have to beat, in words; empty without model and data.
    """

    terms: OrderTerms
    miners: Miners
    past: PastOrders
    balance_grains: int
    scoring_grains: int
    prepared: PreparedOrder | None = None
    begins_with: str = ""

    @property
    def cost(self) -> Decimal:
        """POT that are spent at most, if a model wins: reward and fee."""
        return Decimal(self.terms.reward_grains + self.terms.fee_grains) / GRAINS_PER_POT

    @property
    def escrow(self) -> Decimal:
        """POT that the account pays at first: reward, fee and bond."""
        return Decimal(self.terms.escrow_grains) / GRAINS_PER_POT

    @property
    def refund(self) -> Decimal:
        """POT that come back if no model is better than the baseline: all but the fee and the scoring."""
        return Decimal(self._reward_back_grains + self.terms.bond_grains) / GRAINS_PER_POT

    @property
    def _reward_back_grains(self) -> int:
        return self.terms.reward_grains - self.scoring_grains

    @property
    def expected_wait_ms(self) -> int:
        """From now to the order's end: as past orders took beyond their training time, else as long as its windows
        may be open.
        """
        windows = self.terms.windows
        if self.past.rest_ms is not None and self.past.won >= _FEW:
            return windows.train_ms + self.past.rest_ms
        names = ("train", "reveal", "release", "score", "open_scores", "challenge")
        return sum(int(getattr(windows, f"{name}_ms")) for name in names)

    @property
    def upload_bytes(self) -> int | None:
        """What would be uploaded; None without model and data."""
        return None if self.prepared is None else self.prepared.upload_bytes

    def __repr__(self) -> str:
        return facts_text("Quote (nothing is sent or paid)", self._facts())

    def _repr_html_(self) -> str:
        return facts_html("Quote (nothing is sent or paid)", self._facts())

    def _facts(self) -> Facts:
        terms, miners, past = self.terms, self.miners, self.past
        back = pot(self._reward_back_grains)
        enough = "" if self.balance_grains >= terms.escrow_grains else ": too little"
        facts = [
            ("pay now", f"{pot(terms.escrow_grains)} POT into escrow (balance {pot(self.balance_grains)} POT{enough})"),
            ("spend", f"{pot(terms.reward_grains)} POT reward, and at most {pot(terms.fee_grains)} POT fee"),
            (
                "comes back",
                f"the bond of {pot(terms.bond_grains)} POT; without a better model {back} POT of the reward",
            ),
            ("miners", _miners_text(miners)),
            ("past orders", f"{past.won} of {past.ended} ended with a better model" if past.ended else "none yet"),
            ("wait", f"about {seconds_text(self.expected_wait_ms)}, at most {seconds_text(terms.windows.longest_ms)}"),
        ]
        if self.begins_with:
            facts.append(("to beat", self.begins_with))
        if self.prepared is not None:
            facts.append(("upload", size_text(self.prepared.upload_bytes)))
        return facts


def _miners_text(miners: Miners) -> str:
    here = "" if miners.providers_here is None else f" ({miners.providers_here} run here)"
    there = "" if miners.validators_here is None else f" ({miners.validators_here} run here)"
    note = "" if miners.starts else "; too few validators or too little stake for it to start"
    if not miners.providers:
        note += "; nobody would train"
    providers, validators = how_many(miners.providers, "provider"), how_many(miners.validators, "validator")
    return f"{providers} registered{here}, {validators}{there}{note}"
