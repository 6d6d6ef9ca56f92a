"""How the network and the account stand, as a notebook shows them: in words first, and stamped when they were read."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from pot_lab.agreement.quorum import quorum
from pot_lab.network.client.calls import AggregatorStatus
from pot_lab.notebook.miners import Miners
from pot_lab.notebook.quantities import how_many, pot
from pot_lab.notebook.tables import Facts, facts_html, facts_text
from pot_lab.protocol.parameters import GRAINS_PER_POT, Role
from pot_lab.protocol.views import AccountView, NetworkView


@dataclass(frozen=True, kw_only=True, repr=False)
class NetworkStanding:
    """A network as it was when it was asked.

    Attributes:
        name: its name.
        statuses: what each aggregator answered.
        view: the ledger's view; None where too few aggregators answered.
        miners: who is registered, and who runs here; None as `view`.
        read_ms: when it was asked (Unix milliseconds).
    """

    name: str
    statuses: Sequence[AggregatorStatus]
    view: NetworkView | None
    miners: Miners | None
    read_ms: int

    @property
    def reachable(self) -> int:
        """How many aggregators answered."""
        return sum(status.reachable for status in self.statuses)

    @property
    def needed(self) -> int:
        """How many must work for the network to go on."""
        return quorum(len(self.statuses))

    @property
    def is_live(self) -> bool:
        """Whether enough aggregators answered for the network to go on."""
        return self.reachable >= self.needed

    @property
    def words(self) -> str:
        """How it is, in one sentence."""
        counts = f"{self.reachable} of {len(self.statuses)} aggregators answer, {self.needed} are needed"
        if not self.is_live:
            return f"Stopped: {counts}"
        return f"Live: {counts}" if self.reachable < len(self.statuses) else f"Live: all {self.reachable} answer"

    def __repr__(self) -> str:
        return facts_text(f"Network {self.name}", self._facts())

    def _repr_html_(self) -> str:
        return facts_html(f"Network {self.name}", self._facts())

    def _facts(self) -> Facts:
        facts = [("state", self.words)]
        if self.view is not None and self.miners is not None:
            here = self.miners.providers_here
            running = "" if here is None else f"; {here} and {self.miners.validators_here} run on this host"
            providers = how_many(self.view.providers, "provider")
            counts = f"{providers}, {how_many(self.view.validators, 'validator')} registered{running}"
            facts += [("miners", counts), ("orders", f"{self.view.orders_live} running")]
        if not self.is_live:
            facts.append(("next step", "`pot-lab testnet up` starts what is missing of a network of this host"))
        return [*facts, ("as of", time.strftime("%H:%M:%S", time.localtime(self.read_ms / 1000)))]


@dataclass(frozen=True, kw_only=True, repr=False)
class WalletStanding:
    """An account's money as it was when it was asked.

    Attributes:
        address: the account.
        balance_grains: what it has on the chain.
        on_its_way_grains: credited by the ledger, and not paid out yet.
        account: the ledger's view: stakes, earnings, forfeits.
        payout_address: where its payouts go: the account itself, unless it said otherwise.
        read_ms: when it was asked (Unix milliseconds).
    """

    address: str
    balance_grains: int
    on_its_way_grains: int
    account: AccountView
    payout_address: str
    read_ms: int

    @property
    def balance(self) -> Decimal:
        """POT on the chain, outside of escrows and stakes."""
        return Decimal(self.balance_grains) / GRAINS_PER_POT

    @property
    def on_its_way(self) -> Decimal:
        """POT that the next settlements bring home."""
        return Decimal(self.on_its_way_grains) / GRAINS_PER_POT

    @property
    def stakes(self) -> dict[str, Decimal]:
        """POT at stake, by role."""
        staked = {Role(each.role).name.lower(): each.bonded_grains for each in self.account.stakes}
        return {name: Decimal(grains) / GRAINS_PER_POT for name, grains in staked.items() if grains}

    def __repr__(self) -> str:
        return facts_text(f"Wallet {self.address}", self._facts())

    def _repr_html_(self) -> str:
        return facts_html(f"Wallet {self.address}", self._facts())

    def _facts(self) -> Facts:
        facts = [("balance", f"{pot(self.balance_grains)} POT")]
        if self.on_its_way_grains:
            facts.append(("on its way", f"{pot(self.on_its_way_grains)} POT, paid with the next settlement"))
        for each in self.account.stakes:
            name = Role(each.role).name.lower()
            for what, grains in (
                ("stake", each.bonded_grains), ("locked", each.locked_grains), ("unbonds", each.unbonding_grains),
                ("slashed", each.slashed_grains),
            ):  # fmt: skip
                if grains:
                    facts.append((what, f"{pot(grains)} POT as {name}"))
        facts.append(("earned", f"{pot(self.account.earned_grains)} POT in all, refunds included"))
        if self.payout_address != self.address:
            facts.append(("payouts", f"go to {self.payout_address}"))
        return [*facts, ("as of", time.strftime("%H:%M:%S", time.localtime(self.read_ms / 1000)))]
