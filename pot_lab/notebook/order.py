"""One order in a notebook: follow it, wait for it, load the model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pot_lab.cards.order_card import MIME, order_card
from pot_lab.crypto.canonical import sha256
from pot_lab.crypto.cipher import decrypt
from pot_lab.crypto.identity import parse_address
from pot_lab.crypto.link import Link
from pot_lab.files import replace_durably
from pot_lab.home import expanded
from pot_lab.network.client.ledger import LedgerClient
from pot_lab.network.errors import Unreachable
from pot_lab.notebook.card import card_html, describe, why_void
from pot_lab.notebook.errors import NoModel, ScoreDiffers
from pot_lab.notebook.step_line import StepLine
from pot_lab.notebook.waiting import waiting_text
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.errors import UnknownOrder
from pot_lab.protocol.parameters import GRAINS_PER_POT
from pot_lab.protocol.records import OrderId, model_id
from pot_lab.protocol.state import OrderHeader
from pot_lab.protocol.transactions import Withdraw
from pot_lab.protocol.views import ClaimView, OrderView, WhyView
from pot_lab.store import Store, WrongHash

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import nn

    from pot_lab.notebook.widgets import OrderCard
    from pot_lab.scoring import Dataset, Score

MODEL_FILES = ("graph.json", "weights.safetensors")
WAIT_SLACK_S = 3_600
"""How much longer than the longest possible cycle `Order.wait` waits by default."""

ANSWER_PATIENCE_S = 300.0
"""How long `Order.wait` goes on while the network does not answer."""
ASK_AGAIN_S = 2.0
KEPT = "the order is kept, and goes on once the network works (a local one: `pot-lab testnet up`)"

DOWNLOAD_LIMIT_BYTES = 4 << 30
DOWNLOAD_TIMEOUT_S = 600.0


class Order:
    """An order that was posted; `Lab.order`, `Lab.get` and `Lab.orders` make these.

    It holds its id and no state, so it can be found again from any kernel.

    Args:
        client: a connection to the network; `withdraw` needs one with the client's identity.
        store: where the order's files are fetched through.
        order_id: its id (32 bytes).
        test_key: the key of the test data (32 bytes), if the client still has it.
        now_ms: the clock that countdowns are shown by (Unix milliseconds).
    """

    def __init__(
        self,
        client: LedgerClient,
        store: Store,
        order_id: OrderId,
        *,
        test_key: bytes = b"",
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.id = order_id
        self._client = client
        self._store = store
        self._test_key = test_key
        self._now_ms = now_ms

    # --- where it stands ----------------------------------------------------------------------------------------
    def view(self) -> OrderView:
        """The order as the ledger has it now: claims, validations, timeline, payouts.

        Raises:
            Unreachable: too few aggregators answered in time.
        """
        return self._client.order(self.id)

    @property
    def window(self) -> Window:
        """The window that the order is in."""
        return self.view().window

    def wait(self, timeout: float | None = None, *, settled: bool = False, progress: bool = True) -> OrderView:
        """Return when the order is sealed (or, with `settled`, paid on the chain), or ended void.

        `await order` waits until it is paid.

        Args:
            timeout: seconds; by default an hour more than the cycle can take.
            settled: wait until the rewards can be claimed on the chain.
            progress: show what goes on in one line, in a notebook or on a terminal.
        Raises:
            TimeoutError: not within the time given; the order goes on.
            Unreachable: the network did not answer for five minutes. The order is kept, and goes on once it works.

        Example:
            >>> view = order.wait(timeout=600)  # doctest: +SKIP
            >>> view.window, view.void_reason  # doctest: +SKIP
            (<Window.FINALIZATION: 'finalization'>, '')
        """
        ends = (Window.SETTLED, Window.VOID) if settled else (Window.FINALIZATION, Window.SETTLED, Window.VOID)
        if timeout is None:
            timeout = self.view().order.windows.longest_ms / 1000 + WAIT_SLACK_S
        line = StepLine(f"order {self.id.hex()[:12]}")

        def is_over(view: OrderView) -> bool:
            if progress:
                line(waiting_text(view))
            return view.window in ends

        view = self._waited(is_over, timeout, line if progress else None)
        if progress:
            line.close(waiting_text(view))
        return view

    def _waited(self, is_over: Callable[[OrderView], bool], timeout_s: float, line: StepLine | None) -> OrderView:
        """Wait, also while the network does not answer for some minutes: a restarted one goes on where it was."""
        ends_s, left_s = time.monotonic() + timeout_s, timeout_s
        gone_since_s: float | None = None

        def answered(view: OrderView) -> bool:
            nonlocal gone_since_s
            gone_since_s = None
            return is_over(view)

        while True:
            try:
                return self._client.wait_for_order(self.id, answered, timeout_s=left_s)
            except Unreachable as error:
                now_s = time.monotonic()
                gone_since_s = now_s if gone_since_s is None else gone_since_s
                if now_s - gone_since_s >= ANSWER_PATIENCE_S or now_s >= ends_s:
                    error.message += f"; {KEPT}"
                    raise
            if line is not None:
                line(f"the network does not answer; {KEPT}")
            time.sleep(ASK_AGAIN_S)
            left_s = max(0.0, ends_s - time.monotonic())

    def __await__(self) -> Generator[Any, None, OrderView]:
        return asyncio.to_thread(self.wait, settled=True).__await__()

    def cancel(self) -> Decimal:
        """Take the order back, as `withdraw`; returns the POT that come home with the next settlement: all of it.

        Raises: as `withdraw`.
        """
        record = self.view().order
        self.withdraw()
        return Decimal(record.reward_grains + record.fee_grains + record.bond_grains) / GRAINS_PER_POT

    def withdraw(self) -> None:
        """Take the order back; possible until a provider has committed to it.

        Raises:
            TooLate: a provider has.
            NotAllowed: another account posted it.
        """
        self._client.submit(Withdraw(self.id))

    def why(self, account: str | bytes | None = None) -> WhyView:
        """Why an account was paid what it was, or was not: in words, with the rule and the transactions.

        Args:
            account: its address; by default the account that is connected.
        Raises:
            UnknownOrder: the ledger keeps only the header of an order that ended long ago.

        Example:
            >>> order.why("0x5aAe...")  # doctest: +SKIP
            the order was sealed; the winner is 0x5aAe...  [protocol.md, Money]
        """
        if account is None:
            identity = self._client.identity
            account = identity.address if identity else self.view().order.client
        return self._client.why(self.id, parse_address(account) if isinstance(account, str) else account)

    # --- what came of it ----------------------------------------------------------------------------------------
    def winner(self) -> ClaimView:
        """The winning claim.

        Raises:
            NoModel: the order ended void, or is not sealed yet.
        """
        return _winning(self.view())

    def model(self, into: nn.Module | None = None) -> nn.Module:
        """The winning model, in eval mode; its files' hashes are checked.

        Args:
            into: the module that was ordered, or another of its architecture: it gets the winner's weights and is
                returned, in the mode it is in. By default a new module is made of the graph.
        Returns: a module that takes the inputs of the ordered module, [examples, ...] in its number type.
        Raises:
            NoModel: there is none, or not yet.
            WrongHash, LinkDead, BadWeights: its files cannot be fetched, or are not what the ledger names.
            BadArgument: `into` has other parameters than the ordered module.

        Example:
            >>> best = order.model()  # doctest: +SKIP
            >>> best(torch.zeros(1, 1, 8, 8)).shape  # doctest: +SKIP
            torch.Size([1, 10])
        """
        from pot_lab.notebook.loading import load_into
        from pot_lab.scoring import load_graph, trainable

        graph, weights = self.model_files()
        if into is not None:
            return load_into(into, load_graph(graph), weights)
        return trainable(load_graph(graph), weights).eval()

    def save(self, folder: str | Path) -> Path:
        """Write the winning model to a folder as `graph.json` and `weights.safetensors`, which any order takes again.

        Args:
            folder: made if it is not there; files in it of these names are replaced.
        Returns: the folder.
        Raises: as `model`; OSError if the folder cannot be written.

        Example:
            >>> order.save("best")  # doctest: +SKIP
            PosixPath('best')
        """
        files = dict(zip(MODEL_FILES, self.model_files(), strict=True))
        place = expanded(folder)
        place.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            replace_durably(place / name, data)
        return place

    def model_files(self) -> tuple[bytes, bytes]:
        """The winning model as `(graph, weights)`: canonical JSON and safetensors, hash-checked.

        Raises: as `model`.
        """
        try:
            view = self.view()
        except UnknownOrder:
            header = self._client.header(self.id)
            if header is None:
                raise
            return self._kept_model_files(header)
        return self._model_files(view)

    def test_data(self) -> Dataset:
        """The test part, once it is released (or at once, where it was ordered and the key is still known).

        Returns: `(inputs, targets)`, tensors as they were ordered; `inputs` is a tuple of tensors for a model that
            takes several.
        Raises:
            NoModel: the key is not released yet.
            WrongHash, LinkDead, CannotDecrypt: the data cannot be fetched, or are not what was ordered.
        """
        return self._test_data(self.view())

    def rescore(self, *, batch_size: int | None = None) -> Score:
        """Score the winning model here and compare with the ledger, to the bit.

        Args:
            batch_size: examples at a time; the score does not depend on it.
        Returns: the exact score: `total` over `count` examples, and the root of its transcript.
        Raises:
            ScoreDiffers: the ledger's score or transcript root is another one.
            NoModel: there is no winning model or no released test data.
        """
        from pot_lab.scoring import score

        view = self.view()
        claim, spec = _winning(view), view.order.score
        inputs, targets = self._test_data(view)
        own = score(self._model_files(view), inputs, targets, f"{spec.name}/{spec.version}", batch_size=batch_size)
        agreed = claim.agreed
        if agreed is None or (own.total, own.count, own.valid, own.root) != (
            agreed.total,
            agreed.count,
            agreed.valid,
            claim.agreed_root,
        ):
            raise ScoreDiffers(
                "the score computed here is not the ledger's", seen=f"{own.total} of {own.count}", wanted=str(agreed)
            )
        return own

    def leaderboard(self) -> pd.DataFrame:
        """All revealed claims, best first.

        Returns: a plain DataFrame indexed by `rank` (from 1), with the columns `provider`, `score` (per example),
            `total`, `count`, `committed_s`, `payout_pot` and `model`.
        """
        from pot_lab.notebook.plots import leaderboard

        return leaderboard(self.view())

    def plot_scores(self, axes: Axes | None = None) -> Figure | Axes:
        """Draw each model's score per example against the time of its commitment, in seconds after the start.

        Args:
            axes: matplotlib axes to draw on; by default a new figure.
        Returns: the axes if given, else the figure, which a notebook shows.
        """
        from pot_lab.notebook.plots import draw_scores

        return draw_scores(self.view(), axes)

    def timeline(self, path: str | Path | None = None) -> Figure:
        """Draw the task cycle: windows, claims and scores over seconds since the order started.

        Args:
            path: where to save the picture (PNG); None to only return it.
        """
        from pot_lab.notebook.plots import draw_timeline

        return draw_timeline(self.view(), path)

    def card(self) -> OrderCard:
        """A live card: a widget that follows the ledger until the order ends or it is closed, without the extension.

        Raises:
            ImportError: anywidget is not installed (the extra `lab` has it).
        """
        from pot_lab.notebook.widgets import OrderCard

        return OrderCard(self._client, self.id, now_ms=self._now_ms)

    # --- how it looks -------------------------------------------------------------------------------------------
    def __repr__(self) -> str:
        return f"Order({self.id.hex()[:12]}…)\n" + describe(self.view(), self._now_ms())

    def _repr_html_(self) -> str:
        return card_html(self.view(), self._now_ms())

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        """What a notebook keeps: data that the extension's card follows the ledger from, with the kernel busy or gone,
        and a still picture for everybody else.
        """
        view, now_ms = self.view(), self._now_ms()
        return {
            MIME: order_card(view, now_ms),
            "text/html": card_html(view, now_ms),
            "text/plain": f"Order({self.id.hex()[:12]}…)\n" + describe(view, now_ms),
        }

    def _model_files(self, view: OrderView) -> tuple[bytes, bytes]:
        claim = _winning(view)
        if claim.ciphertext is None:
            raise NoModel("the winning claim names no model", seen=f"{view.window} window")
        return self._opened(view.order.model, claim.ciphertext, claim.key, claim.mid)

    def _kept_model_files(self, header: OrderHeader) -> tuple[bytes, bytes]:
        """The winning model of an order whose body the ledger has forgotten, from whoever still has a copy."""
        if header.graph is None or header.ciphertext is None:
            raise NoModel("the order ended without a winning model", seen=f"{header.window} window")
        graph, ciphertext = (
            Link(each.digest, each.size_bytes, self._store.uri(each.digest))
            for each in (header.graph, header.ciphertext)
        )
        return self._opened(graph, ciphertext, header.key, header.winner_mid)

    def _opened(self, graph_link: Link, ciphertext: Link, key: bytes, mid: bytes) -> tuple[bytes, bytes]:
        graph, weights = self.fetch(graph_link), decrypt(key, self.fetch(ciphertext))
        if (seen := model_id(graph_link.digest, sha256(weights))) != mid:
            raise WrongHash("the opened model is not the one that was claimed", seen=seen, wanted=mid)
        return graph, weights

    def _test_data(self, view: OrderView) -> Dataset:
        from pot_lab.scoring import unpack_dataset

        key = view.test_key or self._test_key
        if not key:
            raise NoModel(
                "the test data is not released yet", seen=f"{view.window} window", wanted="the score window or later"
            )
        data = decrypt(key, self.fetch(view.order.test.link))
        if (digest := sha256(data)) != view.order.test.plain_digest:
            raise WrongHash("the test data is not what was ordered", seen=digest, wanted=view.order.test.plain_digest)
        return unpack_dataset(data)

    def fetch(self, link: Link) -> bytes:
        """A file that the order's records name, hash-checked.

        Raises:
            WrongHash, LinkDead, TooBig, TooSlow: it cannot be fetched, or is not what the link names.
        """
        return self._store.fetch(link, limit_bytes=DOWNLOAD_LIMIT_BYTES, timeout_s=DOWNLOAD_TIMEOUT_S)


def _winning(view: OrderView) -> ClaimView:
    """The winning claim, whose model is open."""
    claim = view.claim_by(view.winner) if view.winner else None
    if claim is None or not claim.key:
        why = f"it ended void: {why_void(view)}" if view.void_reason else "it is not sealed yet"
        raise NoModel(f"the order has no winning model; {why}", seen=f"{view.window} window")
    return claim
