"""The verifier's loop: score every model again and compare with what the validators opened.

Carries out PoT.Verify (section 2.4). Scores are exact, so a difference is a proof of error; it is written down with the
first example that shows it. Challenging it in the ledger has its own place in the task cycle.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from pot_lab.errors import PotLabError
from pot_lab.files import replace_durably
from pot_lab.jobs.loop import Loop
from pot_lab.jobs.scorer import lay_out
from pot_lab.protocol.cycle import PLACES, Window
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import ClaimScore
from pot_lab.protocol.views import OrderView

log = logging.getLogger(__name__)


class VerifierLoop(Loop):
    """Re-checks every order as soon as its test data is open, so as to be done before the challenge window ends."""

    role = Role.VERIFIER

    def step(self) -> None:
        """Begin when models and test data are there, and compare when the scores are open."""
        for summary in self.client.orders():
            if summary.window in (Window.SCORE, Window.OPEN_SCORES, Window.CHALLENGE) and not self.knows(summary.id):
                self._begin(self.client.order(summary.id))
        for order_id, memory in self.memories():
            self._tend(order_id, memory)

    def _begin(self, view: OrderView) -> None:
        memory: dict[str, Any] = {"order_id": view.id.hex()}
        try:
            lay_out(self, view, [claim for claim in view.claims if claim.mid])
            memory["job_id"] = self.start_job(view.id, view).id
            self.remember(view.id, memory)
        except PotLabError as error:
            self.remember(view.id, memory)
            self.finish(view.id, memory, f"unusable: {error}")

    def _tend(self, order_id: bytes, memory: dict[str, Any]) -> None:
        view = self.view(order_id)
        if view is None:
            self.finish(order_id, memory, "gone from the ledger")
            return
        if self.revive(memory):
            self.finish(order_id, memory, "could not score")
            return
        path = self.order_folder(order_id) / "results.json"
        if not path.exists() or PLACES[view.window] < PLACES[Window.CHALLENGE]:
            return
        if "report" not in memory:
            report = compare(view, json.loads(path.read_text()))
            replace_durably(self.order_folder(order_id) / "report.json", json.dumps(report, indent=1).encode())
            memory["report"] = report
            self.remember(order_id, memory)
            level = logging.WARNING if report["differing"] else logging.INFO
            log.log(
                level,
                "event=verified order=%s checked=%d differing=%d",
                order_id.hex()[:12],
                report["checked"],
                len(report["differing"]),
            )
        if view.ended:
            self.finish(
                order_id,
                memory,
                f"{memory['report']['checked']} validations checked, {len(memory['report']['differing'])} differ",
            )


def compare(view: OrderView, results: list[dict[str, Any]]) -> dict[str, Any]:
    """Opened validations against this verifier's own scores: how many were checked, and those that differ."""
    own = {
        bytes.fromhex(r["mid"]): (ClaimScore(r["total"], r["count"], r["valid"]), bytes.fromhex(r["root"]))
        for r in results
    }
    opened = [v for v in view.validations if v.score is not None and v.mid in own]
    differing = [
        {"validator": v.validator.hex(), "mid": v.mid.hex(), "seen": [v.score.total, v.score.count, v.score.valid]}
        for v in opened
        if v.score is not None and (v.score, v.transcript_root) != own[v.mid]
    ]
    return {"order_id": view.id.hex(), "checked": len(opened), "differing": differing}
