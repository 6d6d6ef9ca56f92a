"""The validator's loop: score every model it was drawn for, commit, open with transcripts, claim the pay.

Carries out PoT.Validate (section 2.4; Equation 2). Scores are exact, so all honest validators agree to the bit.
"""

from __future__ import annotations

import json
import logging
import os
from typing import Any

from pot_lab.errors import PotLabError
from pot_lab.jobs.loop import Loop
from pot_lab.jobs.scorer import lay_out
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.errors import Refused
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import ClaimScore, validation_commitment
from pot_lab.protocol.transactions import CommitScores, OpenedScore, OpenScores, ScoreCommitment
from pot_lab.protocol.views import OrderView

log = logging.getLogger(__name__)


class ValidatorLoop(Loop):
    """Scores whatever it is assigned."""

    role = Role.VALIDATOR

    def step(self) -> None:
        """Begin new assignments and go on with those at hand."""
        for summary in self.client.orders():
            if summary.window is Window.SCORE and not self.knows(summary.id):
                self._begin(summary.id)
        for order_id, memory in self.memories():
            self._tend(order_id, memory)

    def _begin(self, order_id: bytes) -> None:
        view = self.client.order(order_id)
        claims = [claim for claim in view.claims if self.identity.address in claim.assigned]
        memory: dict[str, Any] = {"order_id": order_id.hex()}
        self.remember(order_id, memory)
        if not claims:
            self.remember(order_id, {**memory, "finished": True, "outcome": "not drawn"})
            return
        try:
            lay_out(self, view, claims)
        except PotLabError as error:
            log.warning("event=order_unusable order=%s reason=%r", order_id.hex()[:12], str(error))
            self.finish(order_id, memory, f"unusable: {error}")
            return
        memory["job_id"] = self.start_job(order_id, view).id
        self.remember(order_id, memory)

    def _tend(self, order_id: bytes, memory: dict[str, Any]) -> None:
        view = self.view(order_id)
        if view is None:
            self.finish(order_id, memory, "gone from the ledger")
        elif "job_id" not in memory:  # killed between remembering and starting
            memory["job_id"] = self.start_job(order_id, view).id
            self.remember(order_id, memory)
        elif view.ended:
            if (view.window is Window.VOID and not view.payouts) or (view.epoch and self.claim_earnings()):
                self.finish(order_id, memory, "scored" if memory.get("opened") else "did not score")
        elif view.window is Window.SCORE and not memory.get("committed"):
            if not self.revive(memory):
                self._commit(order_id, memory, view)
        elif view.window is Window.OPEN_SCORES and memory.get("committed") and not memory.get("opened"):
            self._open(order_id, memory)

    def _commit(self, order_id: bytes, memory: dict[str, Any], view: OrderView) -> None:
        path = self.order_folder(order_id) / "results.json"
        if not path.exists():
            return
        if "items" not in memory:
            stake = self.client.network().parameters.min_validation_stake_grains
            memory["items"] = [
                {**result, "salt": os.urandom(32).hex(), "stake_grains": stake}
                for result in json.loads(path.read_text())
            ]
            self.remember(order_id, memory)  # salts are on disk before the commitments leave
        done = {v.mid for v in view.validations if v.validator == self.identity.address}
        items = [item for item in memory["items"] if bytes.fromhex(item["mid"]) not in done]
        if items:
            self.client.submit(CommitScores(order_id, tuple(self._commitment(order_id, item) for item in items)))
            log.info("event=scores_committed order=%s models=%d", order_id.hex()[:12], len(items))
        self.remember(order_id, {**memory, "committed": True})

    def _commitment(self, order_id: bytes, item: dict[str, Any]) -> ScoreCommitment:
        mid, root, salt = (bytes.fromhex(item[name]) for name in ("mid", "root", "salt"))
        score = ClaimScore(item["total"], item["count"], item["valid"])
        commitment = validation_commitment(
            self.client.network_id, order_id, mid, self.identity.address, score, root, item["stake_grains"], salt
        )
        return ScoreCommitment(mid, commitment)

    def _open(self, order_id: bytes, memory: dict[str, Any]) -> None:
        folder, items = self.order_folder(order_id), []
        for item in memory["items"]:
            mid, root, salt = (bytes.fromhex(item[name]) for name in ("mid", "root", "salt"))
            transcript = self.store.put((folder / item["transcript"]).read_bytes())
            score = ClaimScore(item["total"], item["count"], item["valid"])
            items.append(
                OpenedScore(
                    mid=mid,
                    score=score,
                    transcript_root=root,
                    transcript=transcript,
                    stake_grains=item["stake_grains"],
                    salt=salt,
                )
            )
        try:
            self.client.submit(OpenScores(order_id, tuple(items)))
            log.info("event=scores_opened order=%s models=%d", order_id.hex()[:12], len(items))
        except Refused as error:
            log.warning("event=scores_refused order=%s reason=%r", order_id.hex()[:12], str(error))
        self.remember(order_id, {**memory, "opened": True})
