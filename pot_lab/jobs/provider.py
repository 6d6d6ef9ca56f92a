"""The provider's loop: fetch orders, train, commit to each better model until the deadline, reveal the last, claim the
reward.

Carries out PoT.Claim (section 2.4; Equation 1). Weights stay on this host until the reveal window opens: an earlier
upload would show them.
"""

from __future__ import annotations

import logging
from pathlib import Path

from pot_lab.crypto.canonical import sha256
from pot_lab.errors import PotLabError
from pot_lab.jobs.loop import Loop
from pot_lab.jobs.memory import Commitment, ProviderMemory
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
            try:
                self._begin(view)
            except PotLabError as error:
                log.warning("event=order_unusable order=%s reason=%r", view.id.hex()[:12], str(error))
                self.finish(ProviderMemory(order_id=view.id.hex()), f"unusable: {error}")
            return True
        return False

    def _begin(self, view: OrderView) -> None:
        order = view.order
        files = {
            "graph.json": self.download(order.model),
            "weights.safetensors": self.download(order.weights),
            "train.safetensors": self.download(order.train),
        }
        facts = {
            "order_id": view.id.hex(),
            "title": order.title,
            "score": f"{order.score.name}/{order.score.version}",
            "reward_grains": order.reward_grains,
            "closes_ms": view.closes_ms,
            "stop_training_ms": view.closes_ms - COMMIT_MARGIN_MS,
        }
        Workspace.create(self.order_folder(view.id), facts, files)
        self.start_job(ProviderMemory(order_id=view.id.hex(), training=True))

    def advance(self, memory: ProviderMemory, view: OrderView) -> None:
        """Commit while the order is open, reveal when it is due, claim at the end."""
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
