"""One order in a notebook: watch it, wait for it, take the model."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from pot_lab.crypto.canonical import sha256
from pot_lab.crypto.cipher import decrypt
from pot_lab.errors import PotLabError
from pot_lab.jobs.loop import DOWNLOAD_LIMIT_BYTES, DOWNLOAD_TIMEOUT_S
from pot_lab.notebook.card import card_html, describe
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.views import ClaimView, OrderView

if TYPE_CHECKING:
    import pandas as pd

    from pot_lab.notebook.lab import Lab
    from pot_lab.scoring import Score


class NoModel(PotLabError):
    """The order has no winning model, or not yet."""


class ScoreDiffers(PotLabError):
    """A score computed here is not the one that the ledger agreed on: one of the two machines is wrong."""


class Order:
    """An order of a `Lab`; holds nothing but its id, so it can be found again from anywhere."""

    def __init__(self, lab: Lab, order_id: bytes, *, test_key: bytes = b"") -> None:
        self._lab = lab
        self.id = order_id
        self._test_key = test_key

    # --- where it stands ----------------------------------------------------------------------------------------
    def view(self) -> OrderView:
        """Everything the ledger says about the order, now."""
        return self._lab.client.order(self.id)

    @property
    def window(self) -> Window:
        """The window that the order is in."""
        return self.view().window

    def wait(self, timeout: float | None = None, *, settled: bool = False) -> OrderView:
        """Return when the order is sealed (or, with `settled`, paid on the chain) or ended void.

        Args:
            timeout: seconds; by default as long as the cycle can take.
        Raises:
            TimeoutError: not within the time given.
        """
        ends = (Window.SETTLED, Window.VOID) if settled else (Window.FINALIZATION, Window.SETTLED, Window.VOID)
        if timeout is None:
            timeout = self.view().order.windows.longest_ms / 1000 + 3600
        return self._lab.client.wait_for_order(self.id, lambda view: view.window in ends, timeout_s=timeout)

    def __await__(self) -> Generator[Any, None, OrderView]:
        return asyncio.to_thread(self.wait).__await__()

    def withdraw(self) -> None:
        """Take the order back; only before a provider has committed to it.

        Raises:
            TooLate: somebody has.
        """
        from pot_lab.protocol.transactions import Withdraw

        self._lab.client.submit(Withdraw(self.id))

    # --- what came of it ----------------------------------------------------------------------------------------
    def winner(self) -> ClaimView:
        """The winning claim.

        Raises:
            NoModel: the order ended void, or is not sealed yet.
        """
        view = self.view()
        claim = view.claim_by(view.winner) if view.winner else None
        if claim is None or claim.weights is None:
            why = f"it ended void: {view.void_reason}" if view.void_reason else "it is not sealed yet"
            raise NoModel(f"the order has no winning model; {why}", seen=f"{view.window} window")
        return claim

    def model(self) -> Any:
        """The winning model as an `nn.Module` in eval mode; its files' hashes and its id are checked.

        Raises:
            NoModel: there is none (yet).
            WrongHash, LinkDead, BadWeights: its files cannot be had, or are not what the ledger names.
        """
        from pot_lab.scoring import load_graph, trainable

        graph, weights = self.model_files()
        return trainable(load_graph(graph), weights).eval()

    def model_files(self) -> tuple[bytes, bytes]:
        """The winning model as `(graph JSON, weights safetensors)`, hash-checked."""
        claim, order = self.winner(), self.view().order
        assert claim.weights is not None
        return self._fetch(order.model), self._fetch(claim.weights)

    def test_data(self) -> tuple[Any, Any]:
        """The test part as tensors, once it is released (or at once, for the client that still holds the key).

        Raises:
            NoModel: the key is not released yet.
        """
        from pot_lab.scoring import unpack_dataset

        view = self.view()
        key = view.test_key or self._test_key
        if not key:
            raise NoModel(
                "the test data is not released yet", seen=f"{view.window} window", wanted="the score window or later"
            )
        data = decrypt(key, self._fetch(view.order.test.link))
        assert sha256(data) == view.order.test.plain_digest, "the test data is not what was ordered"
        return unpack_dataset(data)

    def rescore(self, *, batch_size: int | None = None) -> Score:
        """Score the winning model here and compare with the ledger, to the bit.

        Raises:
            ScoreDiffers: the ledger's score or transcript root is another one.
        """
        from pot_lab.scoring import score

        claim, spec = self.winner(), self.view().order.score
        inputs, targets = self.test_data()
        own = score(self.model_files(), inputs, targets, f"{spec.name}/{spec.version}", batch_size=batch_size)
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
        """All revealed claims, best first: rank, provider, score per example, total, count, commit time, payout in POT.

        `.plot()` draws score against time of commitment.
        """
        from pot_lab.notebook.plots import Leaderboard

        return Leaderboard.of(self.view())

    def timeline(self, path: str | None = None) -> Any:
        """A picture of the task cycle: windows, claims, scores. Returns the matplotlib figure, and saves it if a path
        is given.
        """
        from pot_lab.notebook.plots import draw_timeline

        return draw_timeline(self.view(), path)

    def card(self) -> Any:
        """A live card: an ipywidget that follows the ledger."""
        from pot_lab.notebook.widgets import OrderCard

        return OrderCard(self)

    # --- how it looks -------------------------------------------------------------------------------------------
    def __repr__(self) -> str:
        return f"Order({self.id.hex()[:12]}…)\n" + describe(self.view())

    def _repr_html_(self) -> str:
        return card_html(self.view())

    def _ipython_display_(self) -> None:
        from IPython.display import display

        try:
            display(self.card().widget)
        except ImportError:  # no ipywidgets here: a still picture of the card
            display({"text/html": self._repr_html_(), "text/plain": repr(self)}, raw=True)

    def _fetch(self, link: Any) -> bytes:
        return self._lab.store.fetch(link, limit_bytes=DOWNLOAD_LIMIT_BYTES, timeout_s=DOWNLOAD_TIMEOUT_S)
