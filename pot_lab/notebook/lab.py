"""The researcher's connection to a network: order a training, find orders again, see balances.

    lab = pot_lab.connect()
    order = lab.order(model=net, train=(x, y), test=(xt, yt), reward=25, train_for="10min")

The notebook may be closed once the order is posted: test data releases itself, and `lab.orders()` finds the order from
any kernel.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from pot_lab.crypto.canonical import HASH_BYTES
from pot_lab.crypto.identity import Identity, format_address
from pot_lab.discovery import find_network, open_account
from pot_lab.errors import PotLabError
from pot_lab.network.chain_access import wallet_of
from pot_lab.network.client.ledger import LedgerClient
from pot_lab.network.config import NetworkConfig
from pot_lab.network.genesis import genesis_of
from pot_lab.notebook import arguments, baselines, posting
from pot_lab.notebook.errors import BadArgument
from pot_lab.notebook.governance import GovernanceCalls
from pot_lab.notebook.miners import Miners, is_of_this_host, miners_of, require_miners
from pot_lab.notebook.order import Order
from pot_lab.notebook.paying import PaymentNotes, Payments
from pot_lab.notebook.quantities import grains, pot, size_text
from pot_lab.notebook.step_line import StepLine
from pot_lab.protocol.parameters import GRAINS_PER_POT
from pot_lab.protocol.records import OrderId
from pot_lab.store import Store
from pot_lab.testnet.errors import NoTestnet
from pot_lab.testnet.testnet import Testnet

if TYPE_CHECKING:
    from datetime import timedelta

    from torch import nn

    from pot_lab.chain.wallet import ChainWallet
    from pot_lab.notebook.check import CheckReport
    from pot_lab.notebook.data import Data
    from pot_lab.protocol.views import NetworkView
    from pot_lab.scoring import ModelArtifact


def connect(
    network: str | Path | None = None, account: str | Path | Identity | None = None, *, start: bool = True
) -> Lab:
    """Connect to a network.

    Args:
        network: the path of a `network.toml`, or the name of a testnet of this host. By default `$POT_LAB_NETWORK`,
            else the testnet that runs here, else a new local testnet is started, with practice miners (and a printed
            line).
        account: an identity, the path of a keystore (its password in `$POT_LAB_PASSWORD`), or the name of one of the
            testnet's accounts; by default `$POT_LAB_ACCOUNT`, else the testnet's `client`.
        start: whether a testnet may be started when none runs, and what has ended of one that runs.
    Returns: the connection; use it as a context manager, or `close` it.
    Raises:
        NoTestnet: there is no network to connect to, and `start` is False.
        BadConfig, Unreachable, UnknownAccount: what was named cannot be used.

    Example:
        >>> lab = pot_lab.connect()  # doctest: +SKIP
        >>> lab.balance()  # doctest: +SKIP
        Decimal('1000')
    """
    try:
        file, testnet = find_network(network)
    except NoTestnet:
        named = network or os.environ.get("POT_LAB_NETWORK")
        if not start or (named and Path(named).suffix):
            raise
        print("No network runs here: starting a local testnet with practice miners.")
        print("It stays up when the notebook closes. Stop it with `pot-lab testnet down`.")
        testnet = Testnet.up(str(named) if named else "local", miners=True, report=lambda step: print(f"  {step}"))
        file = testnet.network_file
    if testnet is not None and start and testnet.missing():
        testnet.bring_back(lambda step: print(f"  {step}"))
    name = account or os.environ.get("POT_LAB_ACCOUNT") or "client"
    identity = name if isinstance(name, Identity) else open_account(testnet, name)
    return Lab(NetworkConfig.load(file), identity)


class Lab:
    """A network, an account, and what one can do with them.

    Args:
        config: the network.
        identity: the account that orders and pays.
        client: the connection to the ledger; by default a new one.
        wallet: the account on the chain; by default connected when it is first used.
        now_ms: the clock (Unix milliseconds) that orders are dated by.
        random_bytes: source of uniformly random bytes for test-data keys.

    Example:
        >>> with Lab(NetworkConfig.load(path), identity) as lab:  # doctest: +SKIP
        ...     lab.balance()
        Decimal('1000')
    """

    def __init__(
        self,
        config: NetworkConfig,
        identity: Identity,
        *,
        client: LedgerClient | None = None,
        wallet: ChainWallet | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.config = config
        self.genesis = genesis_of(config)
        self.identity = identity
        self.client = client or LedgerClient(config, identity)
        self.store = Store(config.store_url, copies=self.client.copies)
        self._wallet = wallet
        self._payments = Payments(
            self.client, lambda: self.wallet, PaymentNotes(self.genesis.network_id, identity.address)
        )
        self._now_ms = now_ms
        self._random_bytes = random_bytes

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

    @property
    def governance(self) -> GovernanceCalls:
        """The network's parameters, and proposals and votes to change them."""
        return GovernanceCalls(self.client, self.identity)

    def order(
        self,
        model: nn.Module | ModelArtifact,
        train: Data,
        test: Data,
        *,
        reward: str | float | Decimal,
        train_for: str | float | timedelta,
        score: str = "accuracy",
        output: str | int | None = None,
        baseline: float | Fraction | None = None,
        margin: float | Fraction = 0.0,
        fee: str | float | Decimal | None = None,
        bond: str | float | Decimal | None = None,
        claim_bond: str | float | Decimal | None = None,
        windows: Mapping[str, str | float | timedelta] | None = None,
        title: str = "",
        tags: Sequence[str] = (),
        without_miners: bool = False,
    ) -> Order:
        """Order a training: check, encrypt, upload, post, and pay into escrow.

        Every argument is checked before anything is sent. The test part is encrypted here; its key is split among the
        aggregators, who release it when all models are fixed.

        Args:
            model: the module to train: its architecture and first weights. Either an `nn.Module` whose `forward` takes
                one tensor or several, [examples, ...], and returns one; or a `ModelArtifact`, which
                `pot_lab.export_model` returns. The module is left as it was, in train or eval mode.
            train: the training data, which providers get. One of

                - `(inputs, targets)`: tensors or NumPy arrays [examples, ...] in float32, float64 or int64, finite;
                  `inputs` is a tuple of them for a model that takes several. `inputs` have the model's number type.
                - a map-style torch `Dataset` of `(input, target)` examples, all of the same shapes;
                - the path of a data file, as `pot_lab.pack_dataset` writes it.
            test: the same for the test data, which nobody sees before all models are fixed.
            reward: POT for the best model and those who establish it: `25`, `"0.5"` or a `Decimal`, at most nine
                decimals.
            train_for: how long providers may train: `"10min"`, `"1h 30min"`, a `timedelta`, or seconds.
            score: a score function by name, e.g. `"accuracy"`, `"top_k_accuracy[k=3]"` or `"mse/1"`
                (scoring-spec.md, "8. Score functions"):

                ========================= ======================= ======================================== ======
                name                      model output            targets                                  better
                ========================= ======================= ======================================== ======
                accuracy                  [examples, classes]     int64 [examples], class numbers          higher
                top_k_accuracy[k=5]       [examples, classes]     int64 [examples], class numbers          higher
                macro_f1[classes=C]       [examples, classes]     int64 [examples], class numbers          higher
                cross_entropy             [examples, classes]     int64 [examples], class numbers          lower
                next_token_loss           [examples, tokens,      int64 [examples, tokens], -100 where     lower
                                          words]                  a token does not count
                perplexity                [examples, tokens,      int64 [examples, tokens], -100 where     lower
                                          words]                  a token does not count
                mse[decimals=6]           [examples, ...]         as the output                            lower
                mae[decimals=6]           [examples, ...]         as the output                            lower
                ========================= ======================= ======================================== ======
            output: which result of the module is scored, where it returns several: the name in a dict, a dataclass or
                a named tuple, such as "logits", or the place in a tuple, from 0. By default `logits` or the only tensor
                of results that have names.
            baseline: the score per example that the winner must be better than, by `margin` at least. By default the
                exact score of the first weights, or of the best constant answer where that is better, so that neither
                can win; a baseline that the first weights are better than is refused. It has the unit of the score
                function: a share for accuracy (0.9 for 90 %), millionths for macro_f1, micro-nats for losses and
                perplexity, 10^-decimals for mse and mae.
            margin: score per example in the same unit, rounded to millionths.
            fee: POT for scoring models that lose; by default the network's minimum.
            bond: POT of the client's own, returned with the order's end; by default the network's minimum for the
                reward, a tenth of it.
            claim_bond: POT that a provider stakes on its claim; by default the most that the network allows for the
                reward: a twentieth of it, and at least 1.
            windows: other lengths than the network's usual ones, by window: `reveal`, `release`, `score`,
                `open_scores`, `challenge`, `open_challenges`, `judge`; each as `train_for`.
            title: what people see in lists, at most 120 printable characters.
            tags: at most 8, of 32 printable characters each.
            without_miners: order also where no provider or no validator is registered.
        Returns: the order, posted and paid; training starts within seconds. Where this very order was paid by a call
            that did not return (a killed kernel), it is that one, and nothing is paid again.
        Raises:
            NoMiners: nobody is registered who could train or score; nothing was sent.
            PaidBefore: another order was paid by such a call; nothing was sent, and the next call places this one.
            InsufficientBalance: reward, fee and bond are more than the account has.
            BadArgument, BadQuantity, BadWindows, BadOrder, RewardTooSmall, UnknownScoreFunction: which argument is
                wrong, and what would be right; nothing was sent.
            UnsupportedOperator, ExportFailed, BatchMixing: the module cannot be scored; nothing was sent.
            BadDataset, ShapeMismatch, DtypeMismatch, Oversize: the data do not fit; nothing was sent.
            StoreFull, LinkDead, TooBig: the store does not accept the data; nothing was ordered.
            Unreachable, ChainUnreachable: the network or its chain does not answer.
            PoolFull: the order is paid, and the aggregators did not see its escrow in time; the contract returns it
                after the order's last date.

        Example:
            >>> x, y = torch.rand(200, 4), torch.randint(3, (200,))
            >>> net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
            >>> order = lab.order(  # doctest: +SKIP
            ...     net, train=(x[:150], y[:150]), test=(x[150:], y[150:]), reward=25, train_for="10min"
            ... )
        """
        from pot_lab.scoring import score_function

        function = score_function(arguments.check_score_name(score))
        arguments.check_labels(title, tags)
        arguments.check_model(model)
        arguments.check_baseline(function.full_name, function.version, baseline, margin)
        step = StepLine("order")
        step("asking the network")
        network = self.client.network()
        arguments.check_money(network.parameters, reward=reward, fee=fee, bond=bond, claim_bond=claim_bond)
        arguments.check_durations(network.parameters, train_for, windows)
        terms = posting.order_terms(
            network.parameters,
            reward=reward,
            train_for=train_for,
            baseline=baseline,
            margin=margin,
            fee=fee,
            bond=bond,
            claim_bond=claim_bond,
            windows=windows,
            title=title,
            tags=tags,
        )
        require_miners(network, grains(reward), self._miners(network, grains(reward)), without=without_miners)
        begun = self._payments.begun
        if not begun:  # else this very order may be the one that the account has paid its money for
            self._require_balance(terms.escrow_grains)
        network_id = self.genesis.network_id
        step("checking model and data, and a step of training")
        prepared = posting.prepare(model, train, test, score, output)
        step("scoring the first weights")
        terms = baselines.with_baseline(terms, baselines.start_of(prepared))
        step("encrypting the test data")
        now_ms, client = self._now_ms(), self.identity.address
        sealed = posting.seal_test(
            prepared, network.members, self._random_bytes, network_id=network_id, client=client, nonce=now_ms
        )
        record = posting.draft(
            prepared,
            sealed,
            terms,
            client=client,
            network_id=network_id,
            parameters=network.parameters,
            uri_of=self.store.uri,
            now_ms=now_ms,
        )
        if begun:
            before = self._payments.paid_before(record)
            if before is not None:
                return self._order(before.order.id, before.test_key)
            self._require_balance(terms.escrow_grains)
        step(f"uploading {size_text(prepared.upload_bytes)}")
        posting.upload(prepared, sealed, record, self.store)
        step(f"posting, and paying {pot(terms.escrow_grains)} POT into escrow")
        self._payments.place(record, sealed.key)
        step.close(f"{record.id.hex()[:12]} is posted, {pot(terms.escrow_grains)} POT in escrow")
        return self._order(record.id, sealed.key)

    def check(
        self,
        model: nn.Module | ModelArtifact,
        train: Data,
        test: Data,
        score: str = "accuracy",
        *,
        output: str | int | None = None,
    ) -> CheckReport:
        """Whether an order of this would be accepted, and what it would begin with, as `pot_lab.check` tells.

        Nothing is sent or paid.
        """
        from pot_lab.notebook.check import check

        return check(model, train, test, score, output=output)

    def _order(self, order_id: OrderId, test_key: bytes = b"") -> Order:
        return Order(self.client, self.store, order_id, test_key=test_key, now_ms=self._now_ms)

    def _miners(self, network: NetworkView, reward_grains: int) -> Miners:
        network_id = self.genesis.network_id
        return miners_of(network, reward_grains, network_id, here=is_of_this_host(network_id))

    def _require_balance(self, wanted_grains: int) -> None:
        from pot_lab.chain.errors import InsufficientBalance

        held = self.wallet.balance_grains()
        if held < wanted_grains and self.collect():
            held = self.wallet.balance_grains()
        if held < wanted_grains:
            raise InsufficientBalance(
                "reward, fee and bond are more than the account has",
                seen=f"{pot(held)} POT",
                wanted=f"at least {pot(wanted_grains)} POT",
            )

    def get(self, order_id: bytes | str) -> Order:
        """An order by its id, from any kernel, whoever posted it.

        Args:
            order_id: 32 bytes, or their 64 hex digits, with or without `0x`.
        Raises:
            BadArgument: it is not an order id.
            UnknownOrder: the ledger has no such order.

        Example:
            >>> lab.get("0x5f1c...").window  # doctest: +SKIP
            <Window.COMMIT: 'commit'>
        """
        try:
            raw = bytes.fromhex(order_id.removeprefix("0x")) if isinstance(order_id, str) else order_id
        except ValueError:
            raw = b""
        if len(raw) != HASH_BYTES:
            raise BadArgument("not an order id", seen=order_id, wanted=f"{HASH_BYTES} bytes or {2 * HASH_BYTES} digits")
        self.client.order(raw)
        return self._order(OrderId(raw))

    def orders(self, *, everybody: bool = False) -> list[Order]:
        """This account's orders, newest first, at most 100.

        Args:
            everybody: list the orders of all accounts.
        Raises:
            Unreachable: too few aggregators answered in time.
        """
        self._collect_quietly()
        found = self.client.orders(client=b"" if everybody else self.identity.address)
        return [self._order(summary.id) for summary in found]

    def balance(self) -> Decimal:
        """POT that the account has on the chain, outside of escrows and stakes; what it may claim is claimed first.

        Raises:
            ChainUnreachable: the chain's node does not answer.
        """
        self._collect_quietly()
        return Decimal(self.wallet.balance_grains()) / GRAINS_PER_POT

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
        self.wallet.claim(self.identity.address, account.claimable_cumulative_grains, account.claim_proof)
        return Decimal(due) / GRAINS_PER_POT

    def _claimed_grains(self) -> int:
        return self.wallet.claimed_grains(self.identity.address)

    def _collect_quietly(self) -> None:
        """Collect; what hinders it is no reason to refuse what was asked for, and it is tried again at the next use."""
        with contextlib.suppress(PotLabError, TimeoutError):
            self.collect()

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
        self._collect_quietly()
        with contextlib.suppress(PotLabError, TimeoutError):
            if on_its_way := self.on_its_way():
                rows.append(("on its way", f"{on_its_way} POT, paid with the next settlement"))
        try:
            rows.append(("balance", f"{pot(self.wallet.balance_grains())} POT"))
        except PotLabError as error:
            rows.append(("balance", f"unknown: {error.message}"))
        cells = "".join(
            f"<tr><th style='text-align:left'>{name}</th><td style='text-align:left'>{value}</td></tr>"
            for name, value in rows
        )
        return f"<table>{cells}</table>"
