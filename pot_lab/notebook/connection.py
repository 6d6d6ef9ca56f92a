"""An account's connection to a network: its money on the chain and in the ledger, and how the network stands."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pot_lab.crypto.identity import Identity, format_address
from pot_lab.errors import PotLabError
from pot_lab.network.chain_access import wallet_of
from pot_lab.network.client.ledger import LedgerClient
from pot_lab.network.config import NetworkConfig
from pot_lab.network.genesis import genesis_of
from pot_lab.notebook.governance import GovernanceCalls
from pot_lab.notebook.miners import Miners, is_of_this_host, miners_of
from pot_lab.notebook.quantities import pot
from pot_lab.notebook.standing import NetworkStanding, WalletStanding
from pot_lab.notebook.tables import facts_html
from pot_lab.protocol.parameters import GRAINS_PER_POT
from pot_lab.protocol.views import NetworkView

if TYPE_CHECKING:
    from pot_lab.chain.wallet import ChainWallet


class AccountConnection:
    """A network, and an account on it; use it as a context manager, or `close` it.

    Args:
        config: the network.
        identity: the account.
        client: the connection to the ledger; by default a new one.
        wallet: the account on the chain; by default connected when it is first used.
        now_ms: the clock (Unix milliseconds).
    """

    def __init__(
        self,
        config: NetworkConfig,
        identity: Identity,
        *,
        client: LedgerClient | None = None,
        wallet: ChainWallet | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.config = config
        self.genesis = genesis_of(config)
        self.identity = identity
        self.client = client or LedgerClient(config, identity)
        self._wallet = wallet
        self._now_ms = now_ms

    @property
    def address(self) -> str:
        """The account's address, as wallets show it."""
        return format_address(self.identity.address)

    @property
    def chain_wallet(self) -> ChainWallet:
        """The account on the chain: transfers, stakes, claims."""
        if self._wallet is None:
            self._wallet = wallet_of(self.config, self.identity)
        return self._wallet

    @property
    def governance(self) -> GovernanceCalls:
        """The network's parameters, and proposals and votes to change them."""
        return GovernanceCalls(self.client, self.identity)

    def network(self) -> NetworkStanding:
        """How the network stands now, in words: whether it goes on, who is registered, what runs.

        It answers also while the network is stopped.
        """
        read_ms, statuses = self._now_ms(), self.client.status()
        view = miners = None
        with contextlib.suppress(PotLabError, TimeoutError):
            view = self.client.network()
            miners = self._miners(view, view.parameters.min_reward_grains)
        return NetworkStanding(name=self.config.name, statuses=statuses, view=view, miners=miners, read_ms=read_ms)

    def wallet(self) -> WalletStanding:
        """The account's money now: balance, stakes, what is on its way and what it earned. What is due is claimed
        first.

        Raises:
            Unreachable, ChainUnreachable: the network or its chain does not answer.
        """
        self._collect_quietly()
        account = self.client.account(self.identity.address)
        earned = account.earned_grains
        return WalletStanding(
            address=self.address,
            balance_grains=self.chain_wallet.balance_grains(),
            on_its_way_grains=earned - self._claimed_grains() if earned else 0,
            account=account,
            payout_address=format_address(self.chain_wallet.payout_address(self.identity.address)),
            read_ms=self._now_ms(),
        )

    def balance(self) -> Decimal:
        """POT that the account has on the chain, outside of escrows and stakes; what it may claim is claimed first.

        Raises:
            ChainUnreachable: the chain's node does not answer.
        """
        self._collect_quietly()
        return Decimal(self.chain_wallet.balance_grains()) / GRAINS_PER_POT

    def on_its_way(self) -> Decimal:
        """POT of refunds and earnings that the ledger has credited and the chain has not paid out yet.

        Raises:
            Unreachable, ChainUnreachable: the network or its chain does not answer.
        """
        earned = self.client.account(self.identity.address).earned_grains
        return Decimal(earned - self._claimed_grains() if earned else 0) / GRAINS_PER_POT

    def collect(self) -> Decimal:
        """Claim refunds and earnings that a settlement has released.

        `balance`, `orders`, the table of a lab and an order that needs the money do this by themselves.

        Returns: the POT that came home, 0 where nothing was due.
        Raises:
            Unreachable, ChainUnreachable: the network or its chain does not answer.
            ChainReverted: another process claimed it in this moment, or the contract is paused.
        """
        account = self.client.account(self.identity.address)
        due = account.claimable_cumulative_grains
        if not due or (due := due - self._claimed_grains()) <= 0:
            return Decimal(0)
        self.chain_wallet.claim(self.identity.address, account.claimable_cumulative_grains, account.claim_proof)
        return Decimal(due) / GRAINS_PER_POT

    def _claimed_grains(self) -> int:
        return self.chain_wallet.claimed_grains(self.identity.address)

    def _collect_quietly(self) -> None:
        """Collect; what hinders it is no reason to refuse what was asked for, and it is tried again at the next use."""
        with contextlib.suppress(PotLabError, TimeoutError):
            self.collect()

    def _miners(self, network: NetworkView, reward_grains: int) -> Miners:
        network_id = self.genesis.network_id
        return miners_of(network, reward_grains, network_id, here=is_of_this_host(network_id))

    def _require_balance(self, wanted_grains: int) -> None:
        from pot_lab.chain.errors import InsufficientBalance

        held = self.chain_wallet.balance_grains()
        if held < wanted_grains and self.collect():
            held = self.chain_wallet.balance_grains()
        if held < wanted_grains:
            raise InsufficientBalance(
                "reward, fee and bond are more than the account has",
                seen=f"{pot(held)} POT",
                wanted=f"at least {pot(wanted_grains)} POT",
            )

    def close(self) -> None:
        """End the connection's background thread; orders go on without it."""
        self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(network={self.config.name!r}, account={self.address}, aggregators={self.config.n})"
        )

    def _repr_html_(self) -> str:
        facts = [("network", self.config.name), ("account", self.address), ("aggregators", str(self.config.n))]
        self._collect_quietly()
        with contextlib.suppress(PotLabError, TimeoutError):
            if on_its_way := self.on_its_way():
                facts.append(("on its way", f"{on_its_way} POT, paid with the next settlement"))
        try:
            facts.append(("balance", f"{pot(self.chain_wallet.balance_grains())} POT"))
        except PotLabError as error:
            facts.append(("balance", f"unknown: {error.message}"))
        return facts_html("Lab", facts)
