"""A provider's second look: is the model that is said to be better than its own really better?

Whoever has the best model loses most by a lie of all seats, and it alone knows at once. So a provider scores the model
that displaces its own again, and challenges a wrong score with a bond from its stake (protocol.md, "Disputes").
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pot_lab.cards.order_card import best_claim
from pot_lab.errors import PotLabError
from pot_lab.jobs.loop import LedgerFace
from pot_lab.jobs.memory import VerifierMemory
from pot_lab.jobs.provider import ProviderLoop
from pot_lab.jobs.recipe_jobs import Runner
from pot_lab.jobs.verifier import VerifierLoop
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.errors import InsufficientStake
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import OrderId
from pot_lab.protocol.views import ClaimView, OrderView

log = logging.getLogger(__name__)


class RivalLoop(VerifierLoop):
    """Re-scores the leader of each order that its own account has a revealed claim on, and does not lead.

    Args:
        arguments, options: as of `Loop`.
        own_orders: the orders on which the account has revealed a model.
    """

    role = Role.PROVIDER
    work = "rival"
    windows = (Window.CHALLENGE,)

    def __init__(self, *arguments: Any, own_orders: Callable[[], Iterable[OrderId]], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._own_orders = own_orders

    def prepare_jobs(self) -> None:
        """A notebook may be needed soon where a model of its own is being scored, and else not: it takes memory."""
        if any(True for _ in self._own_orders()) or self.memories.active():
            super().prepare_jobs()

    def begin_new(self) -> None:
        """Begin each of its own orders that another one leads, once scores are open."""
        for order_id in list(self._own_orders()):
            view = None if self.has_begun(order_id) else self.feed.view(order_id)
            if view is not None and view.window in self.windows and self.claims_to_score(view):
                memory = VerifierMemory(order_id=order_id.hex())
                self.memories.write(memory)
                self._attempt(memory.id, functools.partial(self._continue, memory))

    def claims_to_score(self, view: OrderView) -> list[ClaimView]:
        """The claim that leads, if it is another's and there is one of its own."""
        own, best = view.claim_by(self.identity.address), best_claim(view)
        return [best] if own is not None and own.mid and best is not None and best.provider != own.provider else []


@contextmanager
def rivals_watched(
    provider: ProviderLoop, client: LedgerFace, notebook: Path, runner: Runner, home: Path
) -> Iterator[RivalLoop]:
    """Run a `RivalLoop` beside a provider's, on a thread of its own, until the block is left.

    Args:
        provider: whose models are defended.
        client: a ledger client of its account.
        notebook: the recipe that scores.
        runner: starts the notebook's jobs.
        home: `$POT_LAB_HOME`.
    """

    def own_orders() -> list[OrderId]:
        return [memory.id for memory in provider.memories.active() if memory.revealed]

    loop = RivalLoop(client, provider.store, runner, notebook, home, own_orders=own_orders, jobs_at_once=1)
    stop = threading.Event()

    def run() -> None:
        try:
            loop.run(stop)
        except InsufficientStake:
            return  # the provider's own loop is refused for it, and says so
        except PotLabError as error:  # the provider goes on without it
            log.warning("event=rivals_not_watched reason=%r", str(error))

    thread = threading.Thread(target=run, name="pot-lab-rivals", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        stop.set()
        loop.feed.wake()
        thread.join()
