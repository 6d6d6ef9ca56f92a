"""The researcher's connection to a network: order a training, find orders again, see balances.

    lab = pot_lab.connect()
    order = lab.order(model=net, train=(x, y), test=(xt, yt), reward=25, train_for="10min")

The notebook may be closed once the order is posted: test data releases itself, and `lab.orders()` finds the order from
any kernel.
"""

from __future__ import annotations

import os
import time
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pot_lab.crypto.identity import Identity, format_address
from pot_lab.discovery import find_network, open_account
from pot_lab.errors import PotLabError
from pot_lab.network.chain_access import wallet_of
from pot_lab.network.client.ledger import LedgerClient
from pot_lab.network.config import NetworkConfig
from pot_lab.network.genesis import genesis_of
from pot_lab.notebook import posting
from pot_lab.notebook.order import Order
from pot_lab.notebook.quantities import grains, milliseconds, pot
from pot_lab.protocol.errors import PoolFull
from pot_lab.protocol.records import MICRO, OrderRecord
from pot_lab.protocol.transactions import Put
from pot_lab.store import Store
from pot_lab.testnet.errors import NoTestnet
from pot_lab.testnet.testnet import Testnet

ESCROW_SEEN_S = 120
"""How long the aggregators may take to see an escrow on the chain."""

if TYPE_CHECKING:
    from datetime import timedelta

    from pot_lab.chain.wallet import ChainWallet


def connect(
    network: str | Path | None = None, account: str | Path | Identity | None = None, *, start: bool = True
) -> Lab:
    """Connect to a network.

    Args:
        network: the path of a `network.toml`, or the name of a testnet of this host. By default `$POT_LAB_NETWORK`,
            else the testnet that runs here, else a new local testnet is started (and says so).
        account: an identity, the path of a keystore (its password in `$POT_LAB_PASSWORD`), or the name of one of the
            testnet's accounts; by default `$POT_LAB_ACCOUNT`, else the testnet's `client`.
        start: whether a testnet may be started when none runs.
    Raises:
        NoTestnet: nothing to connect to, and `start` is False.
        BadConfig, Unreachable, UnknownAccount: what was named cannot be used.
    """
    try:
        file, testnet = find_network(network)
    except NoTestnet:
        named = network or os.environ.get("POT_LAB_NETWORK")
        if not start or (named and Path(named).suffix):
            raise
        print("No network runs here: starting a local testnet. Stop it with `pot-lab testnet down`.")
        testnet = Testnet.up(str(named) if named else "local")
        file = testnet.network_file
    name = account or os.environ.get("POT_LAB_ACCOUNT") or "client"
    identity = name if isinstance(name, Identity) else open_account(testnet, name)
    return Lab(NetworkConfig.load(file), identity)


class Lab:
    """A network, an account, and what one can do with them.

    Args:
        config: the network.
        identity: the account that orders and pays.
    """

    def __init__(self, config: NetworkConfig, identity: Identity) -> None:
        self.config = config
        self.genesis = genesis_of(config)
        self.identity = identity
        self.client = LedgerClient(config, identity)
        self.store = Store(config.store_url)
        self._wallet: ChainWallet | None = None

    @property
    def address(self) -> str:
        """The account's address, as wallets show it."""
        return format_address(self.identity.address)

    @property
    def wallet(self) -> ChainWallet:
        """The account on the chain."""
        if self._wallet is None:
            self._wallet = wallet_of(self.config, self.identity)
        return self._wallet

    def order(
        self,
        model: Any,
        train: Any,
        test: Any,
        *,
        reward: str | float | Decimal,
        train_for: str | float | timedelta,
        score: str = "accuracy",
        baseline: float | Fraction | None = None,
        margin: float = 0.0,
        fee: str | float | Decimal | None = None,
        bond: str | float | Decimal | None = None,
        claim_bond: str | float | Decimal | None = None,
        windows: dict[str, str | float | timedelta] | None = None,
        title: str = "",
        tags: tuple[str, ...] = (),
    ) -> Order:
        """Order a training: check, encrypt, upload, post, and pay into escrow.

        Args:
            model: an `nn.Module` (its architecture and first weights).
            train: `(inputs, targets)` that providers get;
                `inputs` is a tuple for a model that takes several.
            test: `(inputs, targets)` that nobody sees before all models are fixed.
            reward: POT for the best model and those who establish it.
            train_for: how long providers may train, e.g. `"10min"`.
            score: a score function of the network.
            baseline: the score per example (e.g. 0.9 for 90 % accuracy) that the winner must beat, by `margin` at
                least.
            fee, bond: POT for scoring losing models, and the client's own bond; the network's minimum by default.
            claim_bond: what a provider stakes on its claim.
            windows: other lengths for windows, by name (`reveal`, `score`, `challenge`, ...).
        Returns: the order, posted and paid; training starts within seconds.
        Raises:
            InsufficientBalance: reward, fee and bond are more than the account has.
            BadArgument, BadQuantity, BadWindows, BadDataset, ...: which argument is wrong, and what would be right;
                nothing was sent.
            PoolFull: the order is paid, and the aggregators did not see its escrow in time; the contract gives it back
                after the order's last date.
        """
        parameters = self.client.network().parameters
        lengths = {name: milliseconds(length) for name, length in (windows or {}).items()}
        cycle = posting.windows_for(milliseconds(train_for), parameters, lengths)
        reward_grains = grains(reward)
        fee_grains = parameters.min_fee_grains if fee is None else grains(fee)
        bond_grains = parameters.min_bond_grains if bond is None else grains(bond)
        base = Fraction(0) if baseline is None else Fraction(baseline).limit_denominator(MICRO)
        terms = {
            "seal_by_s": posting.seal_by_s(cycle, parameters),
            "reward_grains": reward_grains,
            "fee_grains": fee_grains,
            "bond_grains": bond_grains,
            "windows": cycle,
            "claim_bond_grains": parameters.min_claim_bond_grains if claim_bond is None else grains(claim_bond),
            "baseline_total": base.numerator,
            "baseline_count": 0 if baseline is None else base.denominator,
            "margin_micro": round(margin * MICRO),
            "title": title,
            "tags": tuple(tags),
        }
        self._require_balance(reward_grains + fee_grains + bond_grains)
        prepared = posting.prepare(model, train, test, score)
        network_id, members = self.genesis.network_id, self.client.network().members
        fields, key = posting.upload(prepared, self.store, network_id, members)
        record = posting.draft(self.identity.address, network_id, fields, parameters, **terms)
        pay = partial(
            self.wallet.place_order,
            reward_grains,
            fee_grains,
            bond_grains,
            record.seal_by_s,
            record.spec_hash,
            record.nonce,
        )
        try:
            self.client.submit(Put(record))
        except PoolFull:  # of unpaid orders, which cost nothing: pay first, then there is always room
            pay()
            self._put_paid(record)
        else:
            pay()
        return Order(self, record.id, test_key=key)

    def _put_paid(self, record: OrderRecord) -> None:
        """Put an order whose escrow is on the chain, once the ledger has seen that."""
        deadline_s = time.monotonic() + ESCROW_SEEN_S
        while True:
            try:
                self.client.submit(Put(record))
                return
            except PoolFull:
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(0.5)

    def _require_balance(self, wanted_grains: int) -> None:
        from pot_lab.chain.errors import InsufficientBalance

        held = self.wallet.balance_grains()
        if held < wanted_grains:
            raise InsufficientBalance(
                "reward, fee and bond are more than the account has",
                seen=f"{pot(held)} POT",
                wanted=f"at least {pot(wanted_grains)} POT",
            )

    def get(self, order_id: bytes | str) -> Order:
        """An order by its id, from any kernel, whoever posted it.

        Raises:
            UnknownOrder: the ledger has no such order.
        """
        raw = bytes.fromhex(order_id.removeprefix("0x")) if isinstance(order_id, str) else order_id
        self.client.order(raw)
        return Order(self, raw)

    def orders(self, *, everybody: bool = False) -> list[Order]:
        """This account's orders (or everybody's), newest first."""
        return [
            Order(self, summary.id)
            for summary in self.client.orders(client=b"" if everybody else self.identity.address)
        ]

    def balance(self) -> Decimal:
        """POT that the account has on the chain, outside of escrows and stakes."""
        return Decimal(self.wallet.balance_grains()) / 10**9

    def close(self) -> None:
        """End the connection's background thread; orders go on without it."""
        self.client.close()

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Lab(network={self.config.name!r}, account={self.address}, aggregators={self.config.n})"

    def _repr_html_(self) -> str:
        rows = [("network", self.config.name), ("account", self.address), ("aggregators", self.config.n)]
        try:
            rows.append(("balance", f"{pot(self.wallet.balance_grains())} POT"))
        except PotLabError as error:
            rows.append(("balance", f"unknown: {error.message}"))
        cells = "".join(
            f"<tr><th style='text-align:left'>{name}</th><td style='text-align:left'>{value}</td></tr>"
            for name, value in rows
        )
        return f"<table>{cells}</table>"
