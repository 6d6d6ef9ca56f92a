"""The researcher's connection to a network: order a training, find orders again, see balances.

    lab = pot_lab.connect()
    order = lab.order(model=net, train=(x, y), test=(xt, yt), reward=25, train_for="10min")

The notebook may be closed once the order is posted: test data releases itself, and `lab.orders()` finds the order from
any kernel.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from pot_lab import interrupts
from pot_lab.cards.scores import score_text
from pot_lab.crypto.identity import Identity
from pot_lab.discovery import find_network, open_account
from pot_lab.network.client.ledger import LedgerClient
from pot_lab.network.config import NetworkConfig
from pot_lab.notebook import arguments, baselines, posting
from pot_lab.notebook.connection import AccountConnection
from pot_lab.notebook.error_cards import show_errors_short
from pot_lab.notebook.errors import BadArgument
from pot_lab.notebook.miners import require_miners
from pot_lab.notebook.offers import OrderArguments, check_labels_and_score, terms_of
from pot_lab.notebook.order import Order
from pot_lab.notebook.order_ids import SEARCHED_ORDERS, match_order_id
from pot_lab.notebook.order_list import OrderList
from pot_lab.notebook.paying import PaymentNotes, Payments
from pot_lab.notebook.quantities import pot, size_text
from pot_lab.notebook.quoting import Quote, past_orders
from pot_lab.notebook.step_line import StepLine
from pot_lab.protocol.errors import UnknownOrder
from pot_lab.protocol.records import OrderId
from pot_lab.store import Store
from pot_lab.testnet.errors import NoTestnet
from pot_lab.testnet.testnet import Testnet

if TYPE_CHECKING:
    from datetime import timedelta

    import pandas as pd
    from torch import nn

    from pot_lab.chain.wallet import ChainWallet
    from pot_lab.notebook.check import CheckReport
    from pot_lab.notebook.data import Data
    from pot_lab.notebook.order_form import OrderFormWidget
    from pot_lab.scoring import ModelArtifact


DEFAULT_NAME = "local"
"""Of the testnet that is started where none is."""


def connect(
    network: str | Path | None = None, account: str | Path | Identity | None = None, *, start: bool = True
) -> Lab:
    """Connect to a network.

    Args:
        network: the path of a `network.toml`, or the name of a testnet of this host; a stopped one is started. By
            default `$POT_LAB_NETWORK`, else the testnet that runs here, else a new local testnet is started, with
            practice miners (and a printed line).
        account: an identity, the path of a keystore (its password in `$POT_LAB_PASSWORD`), or the name of one of the
            testnet's accounts; by default `$POT_LAB_ACCOUNT`, else the testnet's `client`.
        start: whether a testnet may be started when none runs, and what has ended of one that runs.
    Returns: the connection; use it as a context manager, or `close` it.
    Raises:
        NoTestnet: there is no file or testnet of this name; or none at all, and `start` is False.
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
        if not start or (named and not _may_be_started(str(named))):
            raise
        print("No network runs here: starting a local testnet with practice miners.")
        print("It stays up when the notebook closes. Stop it with `pot-lab testnet down`.")
        testnet = Testnet.up(str(named or DEFAULT_NAME), miners=True, report=lambda step: print(f"  {step}"))
        file = testnet.network_file
    if testnet is not None and start and testnet.missing():
        testnet.bring_back(lambda step: print(f"  {step}"))
    name = account or os.environ.get("POT_LAB_ACCOUNT") or "client"
    identity = name if isinstance(name, Identity) else open_account(testnet, name)
    show_errors_short()
    return Lab(NetworkConfig.load(file), identity)


def _may_be_started(name: str) -> bool:
    """Whether a name is a stopped testnet's, or that of new ones: another is a slip, and founds no network."""
    return name == DEFAULT_NAME or any(net.name == name for net in Testnet.all())


class Lab(AccountConnection):
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
        super().__init__(config, identity, client=client, wallet=wallet, now_ms=now_ms)
        self.store = Store(config.store_url, copies=self.client.copies)
        self._payments = Payments(
            self.client, lambda: self.chain_wallet, PaymentNotes(self.genesis.network_id, identity.address)
        )
        self._random_bytes = random_bytes

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
                - `(table, "column")` with the name of the target's column, or the path of a folder of images;
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
                r2, scaled_mae            [examples, ...]         as the output                            lower
                quantile_loss[permille=P] [examples, ...]         as the output                            lower
                brier                     [examples, classes]     int64 [examples], class numbers          lower
                weighted_accuracy         [examples, classes]     int64 [examples, 2], class and weight    higher
                weighted_cross_entropy    [examples, classes]     int64 [examples, 2], class and weight    lower
                token_accuracy            [examples, tokens,      int64 [examples, tokens], -100 where     higher
                                          words]                  a token does not count
                mean_iou                  [examples, classes,     int64 [examples, places, ...], -100      higher
                                          places, ...]            where a place does not count
                auc                       [examples, 2 or 1]      int64 [examples], 0 or 1                 higher
                ndcg[k=10]                [examples, items]       int64 [examples, items], grades          higher
                multilabel_micro_f1       [examples, labels]      int64 [examples, labels], 0 or 1         higher
                multilabel_macro_f1       [examples, labels]      int64 [examples, labels], 0 or 1         higher
                [labels=L]
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
        given = OrderArguments(
            reward=reward,
            train_for=train_for,
            score=score,
            output=output,
            baseline=baseline,
            margin=margin,
            fee=fee,
            bond=bond,
            claim_bond=claim_bond,
            windows=windows,
            title=title,
            tags=tags,
        )
        check_labels_and_score(given)
        arguments.check_model(model)
        with interrupts.noticed() as not_interrupted:
            step = StepLine("order")
            step("asking the network")
            network = self.client.network()
            terms = terms_of(network.parameters, given)
            require_miners(
                network, terms.reward_grains, self._miners(network, terms.reward_grains), without=without_miners
            )
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
            not_interrupted()  # else Ctrl-C in a callback of torch, which drops exceptions, would be paid for
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

    def get(self, order_id: bytes | str) -> Order:
        """An order by its id, from any kernel, whoever posted it.

        Args:
            order_id: 32 bytes, or their 64 hex digits, with or without `0x`, or so many of the first digits that they
                are no other order's.
        Raises:
            BadArgument: it is not an order id.
            NoSuchOrder, AmbiguousOrder: no order's id begins so, or several do.
            UnknownOrder: the ledger has no such order.

        Example:
            >>> lab.get("0x5f1c...").window  # doctest: +SKIP
            <Window.COMMIT: 'commit'>
        """
        raw = match_order_id(order_id, lambda: [each.id for each in self.client.orders(SEARCHED_ORDERS)])
        try:
            self.client.order(raw)
        except UnknownOrder:
            if self.client.header(raw) is None:  # else its body is forgotten, and its model can still be had
                raise
        return self._order(OrderId(raw))

    def orders(self, *, everybody: bool = False) -> OrderList:
        """This account's orders, newest first, at most 100: a list that a notebook shows as a table.

        Args:
            everybody: list the orders of all accounts.
        Raises:
            Unreachable: too few aggregators answered in time.
        """
        self._collect_quietly()
        found = self.client.orders(client=b"" if everybody else self.identity.address)
        orders = [self._order(summary.id) for summary in found]
        return OrderList(orders, found, self.identity.address, self._now_ms())

    def compare(self, orders: Iterable[Order | bytes | str]) -> pd.DataFrame:
        """Orders beside each other, one row each: what each was to beat, its best model, what it took and cost.

        Args:
            orders: orders, or their ids.
        Raises:
            BadArgument, UnknownOrder: one of them is no order of this network.

        Example:
            >>> lab.compare(lab.orders())[["title", "to_beat", "best"]]  # doctest: +SKIP
        """
        from pot_lab.notebook.order_list import compare

        return compare([(each if isinstance(each, Order) else self.get(each)).view() for each in orders])

    def quote(
        self,
        model: nn.Module | ModelArtifact | None = None,
        train: Data | None = None,
        test: Data | None = None,
        **terms: Unpack[OrderArguments],
    ) -> Quote:
        """What an order would cost and bring back, who would work on it, and how long it would take.

        Nothing is sent or paid. Without model and data only the terms are looked at.

        Args:
            model, train, test: as `order` takes them; all three or none.
            terms: the other arguments of `order`; `reward` and `train_for` are needed.
        Raises:
            BadArgument, BadQuantity, ...: as `order`.

        Example:
            >>> lab.quote(reward=25, train_for="10min").refund  # doctest: +SKIP
            Decimal('27.5')
        """
        given = [each is not None for each in (model, train, test)]
        if any(given) != all(given):
            raise BadArgument("a quote needs model, train and test, or none of them", seen=f"{sum(given)} of 3")
        network = self.client.network()
        offered = terms_of(network.parameters, terms)
        prepared, begins_with = None, ""
        if model is not None and train is not None and test is not None:
            arguments.check_model(model)
            prepared = posting.prepare(model, train, test, terms.get("score", "accuracy"), terms.get("output"))
            offered = baselines.with_baseline(offered, baselines.start_of(prepared))
            begins_with = score_text(prepared.score, offered.baseline_total, offered.baseline_count)
        return Quote(
            terms=offered,
            miners=self._miners(network, offered.reward_grains),
            past=past_orders(self.client.orders()),
            balance_grains=self.chain_wallet.balance_grains(),
            scoring_grains=network.parameters.scoring_grains(offered.reward_grains),
            prepared=prepared,
            begins_with=begins_with,
        )

    def order_form(self, model: nn.Module | ModelArtifact, train: Data, test: Data, **terms: Any) -> OrderFormWidget:
        """A form in the notebook to price and post an order of this model; nothing is paid before the cost was seen.

        Args:
            model, train, test: as `order` takes them.
            terms: other arguments of `order`: what the fields begin with, and what has no field.
        Raises:
            ImportError: ipywidgets is not installed (the extra `lab` has it).

        Example:
            >>> lab.order_form(net, (x, y), (x_test, y_test), reward=25)  # doctest: +SKIP
        """
        from functools import partial

        from pot_lab.notebook.order_form import OrderFormWidget

        return OrderFormWidget(partial(self.quote, model, train, test), partial(self.order, model, train, test), terms)

    def again(
        self, order: Order | bytes | str, *, test: Data | None = None, from_winner: bool = True, **changes: Any
    ) -> Order:
        """Order again: an earlier order's model, training data and terms.

        Args:
            order: the earlier order, or its id.
            test: test data that nobody has seen. The earlier ones are taken only while they are secret and this kernel
                knows their key.
            from_winner: begin with the winner's weights, if a model won; else with the first ones.
            changes: arguments of `order` that differ, e.g. `reward` or `train_for`.
        Raises:
            BadArgument: test data are missing, since the earlier ones are public or unknown.
            WrongHash, LinkDead: the earlier order's files cannot be fetched any more.
        """
        from pot_lab.notebook.again import order_again

        earlier = order if isinstance(order, Order) else self.get(order)
        return order_again(self.order, earlier, test, from_winner=from_winner, changes=changes)
