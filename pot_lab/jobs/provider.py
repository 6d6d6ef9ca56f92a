"""The provider's loop: fetch orders, train, commit to each better model until the deadline, reveal the last, claim the
reward.

Carries out PoT.Claim (section 2.4; Equation 1). Weights stay on this host until the reveal window opens: an earlier
upload would show them.
"""

from __future__ import annotations

import functools
import logging
from pathlib import Path

from pot_lab.crypto.canonical import sha256
from pot_lab.jobs.downloads import Wanted
from pot_lab.jobs.loop import Loop
from pot_lab.jobs.memory import Commitment, ProviderMemory
from pot_lab.jobs.scorer import DATA_LIMIT_BYTES, GRAPH, GRAPH_LIMIT_BYTES, WEIGHTS_LIMIT_BYTES
from pot_lab.jobs.workspace import Workspace
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.errors import AlreadyDone, Refused, TooLate
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import ModelId, Salt, claim_commitment, model_id
from pot_lab.protocol.transactions import Claim, RevealModel
from pot_lab.protocol.views import OrderView

log = logging.getLogger(__name__)

COMMIT_MARGIN_MS = 1_500
"""The notebook stops this long before the deadline, so that its last model is committed in time."""
MIN_COMMIT_INTERVAL_MS = 1_000
GATHERED_ORDERS = 3
"""For how many orders files are fetched at once, so that slow ones do not keep the provider from training."""
LISTED_ORDERS = (20, 500)
"""How many open orders a provider asks for: all that a list has, if it cannot use one of the first."""


class ProviderLoop(Loop[ProviderMemory]):
    """Trains one order at a time, the best paid first. Arguments as of `Loop`."""

    role = Role.PROVIDER
    memory_kind = ProviderMemory

    def begin_new(self) -> None:
        """Begin the best paid order that is open for long enough, unless one is training or the limit is reached."""
        active = self.memories.active()
        if any(memory.training for memory in active):
            return
        if sum(not memory.job_id and not self.files.is_aside(memory.id) for memory in active) >= GATHERED_ORDERS:
            return
        if self.limit is not None and self.finished + len(active) >= self.limit:
            return
        for limit in LISTED_ORDERS:
            orders = self.feed.open_orders(limit)
            if self._begin_first(orders) or len(orders) < limit:
                return

    def _begin_first(self, orders: list[OrderView]) -> bool:
        """Begin the first of these orders that can be used; returns whether one was begun, or put away as unusable."""
        for view in orders:
            own = view.order.client == self.identity.address
            if own or self.has_begun(view.id) or view.closes_ms - self.clock_ms() < 2 * COMMIT_MARGIN_MS:
                continue
            memory = ProviderMemory(order_id=view.id.hex())
            self.memories.write(memory)
            self._attempt(memory.id, functools.partial(self._continue, memory))
            return True
        return False

    def _prepare(self, memory: ProviderMemory, view: OrderView) -> None:
        """Bring the order's files; begin to train once they are there and nothing else trains."""
        if any(other.training for other in self.memories.active()):
            return
        order, folder = view.order, self.order_folder(view.id)
        wanted = [
            Wanted(name=GRAPH, link=order.model, limit_bytes=GRAPH_LIMIT_BYTES),
            Wanted(name="weights.safetensors", link=order.weights, limit_bytes=WEIGHTS_LIMIT_BYTES),
            Wanted(name="train.safetensors", link=order.train, limit_bytes=DATA_LIMIT_BYTES),
        ]
        facts = {
            "order_id": view.id.hex(),
            "title": order.title,
            "score": f"{order.score.name}/{order.score.version}",
            "reward_grains": order.reward_grains,
            "closes_ms": view.closes_ms,
            "stop_training_ms": view.closes_ms - COMMIT_MARGIN_MS,
        }
        left_s = (view.closes_ms - COMMIT_MARGIN_MS - self.clock_ms()) / 1000
        if self.files.prepare(
            memory.id,
            wanted,
            window_s=left_s / 2,
            build=lambda files, _: (Workspace.create(folder, facts, files), None)[1],
        ):
            self.start_job(memory)
            memory.training = True
            self.memories.write(memory)

    def advance(self, memory: ProviderMemory, view: OrderView) -> None:
        """Commit while the order is open, reveal when it is due, claim at the end."""
        if view.window is Window.COMMIT and not memory.job_id:
            self._prepare(memory, view)
            return
        if view.window is Window.COMMIT:
            self._commit_newest(memory, view)
            if self.job_is_lost(memory) and memory.training:
                log.warning("event=job_failed order=%s job=%s", memory.order_id[:12], memory.job_id)
                memory.training = False
                self.memories.write(memory)
            return
        if memory.training:
            memory.training = False
            self.memories.write(memory)
        claim = view.claim_by(self.identity.address)
        if view.window is Window.REVEAL and claim is not None and not claim.mid:
            self._reveal(memory, claim.commitment)
        elif view.ended:
            if self.paid(view):
                won = view.winner == self.identity.address
                self.finish(memory, "won" if won else view.void_reason or "not the best")
        elif view.window is not Window.REVEAL and claim is None:
            self.finish(memory, "no claim")

    def _commit_newest(self, memory: ProviderMemory, view: OrderView) -> None:
        models = submitted_models(self.order_folder(memory.id))
        if not models:
            return
        newest, last = models[-1], memory.commits[-1] if memory.commits else None
        now_ms = self.clock_ms()
        if last is not None:
            if last.file == newest.name and last.submitted:
                return
            if now_ms - last.at_ms < MIN_COMMIT_INTERVAL_MS and view.closes_ms - now_ms > COMMIT_MARGIN_MS:
                return
        if last is None or last.file != newest.name:
            mid = model_id(view.order.model.digest, sha256(newest.read_bytes()))
            salt = self.random_bytes(32)
            last = Commitment(file=newest.name, mid=mid.hex(), salt=salt.hex(), at_ms=now_ms)
            memory.commits.append(last)
            self.memories.write(memory)  # the salt is on disk before the commitment leaves
        try:
            self.client.submit(Claim(memory.id, self._commitment(memory, last)))
            log.info("event=committed order=%s model=%s", memory.order_id[:12], last.mid[:12])
        except TooLate:
            log.info("event=commit_too_late order=%s", memory.order_id[:12])
        except Refused as error:
            log.warning("event=commit_refused order=%s reason=%r", memory.order_id[:12], str(error))
        last.submitted, last.at_ms = True, self.clock_ms()
        self.memories.write(memory)

    def _reveal(self, memory: ProviderMemory, commitment: bytes) -> None:
        """Open the commitment that the ledger has, which is the last one that came in time."""
        for commit in reversed(memory.commits):
            if self._commitment(memory, commit) != commitment:
                continue
            link = self.store.put((self.order_folder(memory.id) / "models" / commit.file).read_bytes())
            try:
                self.client.submit(
                    RevealModel(
                        order_id=memory.id,
                        mid=ModelId(bytes.fromhex(commit.mid)),
                        weights=link,
                        salt=Salt(bytes.fromhex(commit.salt)),
                    )
                )
                log.info("event=revealed order=%s model=%s", memory.order_id[:12], commit.mid[:12])
            except AlreadyDone:
                pass
            return
        log.error("event=salt_lost order=%s", memory.order_id[:12])

    def _commitment(self, memory: ProviderMemory, commit: Commitment) -> bytes:
        mid, salt = ModelId(bytes.fromhex(commit.mid)), Salt(bytes.fromhex(commit.salt))
        return claim_commitment(self.client.network_id, memory.id, self.identity.address, mid, salt)


def submitted_models(folder: Path) -> list[Path]:
    """Models that the notebook has submitted to its workspace, oldest first."""
    return sorted((folder / "models").glob("*.safetensors"))
