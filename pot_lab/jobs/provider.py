"""The provider's loop: fetch orders, train, commit to each better model until the deadline, reveal the last, claim the
reward.

Carries out PoT.Claim (section 2.4; Equation 1). Weights stay on this host until the reveal window opens: an earlier
upload would show them.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from pot_lab.crypto.canonical import sha256
from pot_lab.errors import PotLabError
from pot_lab.jobs.loop import Loop, milliseconds_now
from pot_lab.jobs.workspace import Workspace
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.errors import AlreadyDone, Refused, TooLate
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import claim_commitment, model_id
from pot_lab.protocol.transactions import Claim, RevealModel
from pot_lab.protocol.views import OrderView

log = logging.getLogger(__name__)

COMMIT_MARGIN_MS = 1_500
"""The notebook stops this long before the deadline, so that its last model is committed in time."""
MIN_COMMIT_INTERVAL_MS = 1_000


class ProviderLoop(Loop):
    """Trains one order at a time, the best paid first."""

    role = Role.PROVIDER

    def step(self) -> None:
        """Do what is due for the orders at hand, and take the next one when there is none."""
        active = self.memories()
        for order_id, memory in active:
            self._tend(order_id, memory)
        if not any(memory.get("training") for _, memory in self.memories()):
            if self.limit is not None and self.finished + len(active) >= self.limit:
                return
            self._take_next()

    def _take_next(self) -> None:
        for view in self.client.fetch_orders(20):
            mine = view.order.client == self.identity.address
            if mine or self.knows(view.id) or view.closes_ms - milliseconds_now() < 2 * COMMIT_MARGIN_MS:
                continue
            try:
                self._begin(view)
            except PotLabError as error:
                log.warning("event=order_unusable order=%s reason=%r", view.id.hex()[:12], str(error))
                self.remember(view.id, {"order_id": view.id.hex()})
                self.finish(view.id, {"order_id": view.id.hex()}, f"unusable: {error}")
            return

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
        memory: dict[str, Any] = {"order_id": view.id.hex(), "training": True, "commits": []}
        memory["job_id"] = self.start_job(view.id, view).id
        self.remember(view.id, memory)

    def _tend(self, order_id: bytes, memory: dict[str, Any]) -> None:
        view = self.view(order_id)
        if view is None:
            self.finish(order_id, memory, "gone from the ledger")
            return
        if view.window is Window.COMMIT:
            self._commit_newest(order_id, memory, view)
            if self.revive(memory) and memory.get("training"):
                log.warning("event=job_failed order=%s job=%s", order_id.hex()[:12], memory["job_id"])
                self.remember(order_id, {**memory, "training": False})
            return
        if memory.get("training"):
            memory["training"] = False
            self.remember(order_id, memory)
        claim = view.claim_by(self.identity.address)
        if view.window is Window.REVEAL and claim is not None and not claim.mid:
            self._reveal(order_id, memory, claim.commitment)
        elif view.ended:
            done = view.window is Window.VOID and not view.payouts
            if done or (view.epoch and self.claim_earnings()):
                won = view.winner == self.identity.address
                self.finish(order_id, memory, "won" if won else view.void_reason or "not the best")
        elif view.window is not Window.REVEAL and claim is None:
            self.finish(order_id, memory, "no claim")

    def _commit_newest(self, order_id: bytes, memory: dict[str, Any], view: OrderView) -> None:
        folder = self.order_folder(order_id)
        models = submitted_models(folder)
        commits = memory["commits"]
        now_ms = milliseconds_now()
        if not models or (commits and commits[-1]["file"] == models[-1].name and commits[-1]["said"]):
            return
        if (
            commits
            and now_ms - commits[-1]["at_ms"] < MIN_COMMIT_INTERVAL_MS
            and view.closes_ms - now_ms > COMMIT_MARGIN_MS
        ):
            return
        if not commits or commits[-1]["file"] != models[-1].name:
            weights_digest = sha256(models[-1].read_bytes())
            mid = model_id(view.order.model.digest, weights_digest)
            commits.append(
                {
                    "file": models[-1].name,
                    "mid": mid.hex(),
                    "salt": os.urandom(32).hex(),
                    "at_ms": now_ms,
                    "said": False,
                }
            )
            self.remember(order_id, memory)  # the salt is on disk before the commitment leaves
        last = commits[-1]
        try:
            self.client.submit(Claim(order_id, self._commitment(order_id, last)))
            log.info("event=committed order=%s model=%s", order_id.hex()[:12], last["mid"][:12])
        except TooLate:
            log.info("event=commit_too_late order=%s", order_id.hex()[:12])
        except Refused as error:
            log.warning("event=commit_refused order=%s reason=%r", order_id.hex()[:12], str(error))
        last["said"], last["at_ms"] = True, milliseconds_now()
        self.remember(order_id, memory)

    def _reveal(self, order_id: bytes, memory: dict[str, Any], commitment: bytes) -> None:
        """Open the commitment that the ledger has, which is the last one that came in time."""
        for commit in reversed(memory["commits"]):
            if self._commitment(order_id, commit) == commitment:
                weights = (self.order_folder(order_id) / "models" / commit["file"]).read_bytes()
                link = self.store.put(weights)
                try:
                    self.client.submit(
                        RevealModel(
                            order_id=order_id,
                            mid=bytes.fromhex(commit["mid"]),
                            weights=link,
                            salt=bytes.fromhex(commit["salt"]),
                        )
                    )
                    log.info("event=revealed order=%s model=%s", order_id.hex()[:12], commit["mid"][:12])
                except AlreadyDone:
                    pass
                return
        log.error("event=salt_lost order=%s", order_id.hex()[:12])

    def _commitment(self, order_id: bytes, commit: dict[str, Any]) -> bytes:
        mid, salt = bytes.fromhex(commit["mid"]), bytes.fromhex(commit["salt"])
        return claim_commitment(self.client.network_id, order_id, self.identity.address, mid, salt)


def submitted_models(folder: Path) -> list[Path]:
    """Models that the notebook has handed over, oldest first."""
    return sorted((folder / "models").glob("*.safetensors"))
