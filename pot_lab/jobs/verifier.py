"""The verifier's loop: score every model again and compare with what the validators opened.

Carries out PoT.Verify (section 2.4). Scores are exact, so a difference is a proof of error; the report names the
validations that differ. Challenging them in the ledger has its own place in the task cycle.
"""

from __future__ import annotations

import functools
import logging

import msgspec

from pot_lab.files import replace_durably
from pot_lab.jobs.loop import Loop
from pot_lab.jobs.memory import Difference, VerificationReport, VerifierMemory
from pot_lab.jobs.order_files import GATHER_S
from pot_lab.jobs.scorer import files_to_score, lay_out
from pot_lab.jobs.workspace import ScoringResult, read_results
from pot_lab.protocol.cycle import PLACES, Window
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import ClaimScore
from pot_lab.protocol.views import OrderView

log = logging.getLogger(__name__)


class VerifierLoop(Loop[VerifierMemory]):
    """Re-checks every order as soon as its test data is open, so as to be done before the challenge window ends.

    Arguments as of `Loop`.
    """

    role = Role.VERIFIER
    memory_kind = VerifierMemory
    windows = (Window.SCORE, Window.OPEN_SCORES, Window.CHALLENGE)

    def begin_new(self) -> None:
        """Begin every order whose models and test data are there."""
        for summary in self.feed.summaries():
            if not self.has_begun(summary.id):
                view = self.feed.view(summary.id)
                if view is not None and view.window in self.windows:
                    memory = VerifierMemory(order_id=view.id.hex())
                    self.memories.write(memory)
                    self._attempt(memory.id, functools.partial(self._continue, memory))

    def _prepare(self, memory: VerifierMemory, view: OrderView) -> None:
        """Bring the order's files, and begin to score once they are there."""
        claims = [claim for claim in view.claims if claim.mid]
        build = functools.partial(lay_out, view, claims, self.order_folder(view.id))
        window_s = max(GATHER_S, (view.closes_ms - self.clock_ms()) / 1000)
        ready = self.files.prepare(memory.id, files_to_score(view, claims), window_s=window_s, build=build)
        if ready and self.may_start_job(view):
            self.start_job(memory)

    def advance(self, memory: VerifierMemory, view: OrderView) -> None:
        """Compare when the notebook is done and the scores are open; put away when the order has ended."""
        if not memory.job_id:
            if view.window in self.windows:
                self._prepare(memory, view)
            else:
                self.finish(memory, "could not fetch what is to be scored in time")
            return
        if self.job_is_lost(memory):
            self.finish(memory, "could not score")
            return
        results = read_results(self.order_folder(memory.id))
        if results is None or PLACES[view.window] < PLACES[Window.CHALLENGE]:
            return
        if memory.report is None:
            memory.report = compare(view, results)
            text = msgspec.json.format(msgspec.json.encode(memory.report), indent=1)
            replace_durably(self.order_folder(memory.id) / "report.json", text, mode=0o600)
            self.memories.write(memory)
            log.log(
                logging.WARNING if memory.report.differing else logging.INFO,
                "event=verified order=%s checked=%d differing=%d",
                memory.order_id[:12],
                memory.report.checked,
                len(memory.report.differing),
            )
        if view.ended:
            report = memory.report
            self.finish(memory, f"{report.checked} validations checked, {len(report.differing)} differ")


def compare(view: OrderView, results: list[ScoringResult]) -> VerificationReport:
    """Opened validations against this verifier's own scores: how many were checked, and those that differ."""
    own = {
        bytes.fromhex(result.mid): (ClaimScore(result.total, result.count, result.valid), bytes.fromhex(result.root))
        for result in results
    }
    checked, differing = 0, []
    for validation in view.validations:
        score = validation.score
        if score is None or validation.mid not in own:
            continue
        checked += 1
        if (score, validation.transcript_root) != own[validation.mid]:
            differing.append(
                Difference(
                    validator=validation.validator.hex(),
                    mid=validation.mid.hex(),
                    seen=(score.total, score.count, score.valid),
                )
            )
    return VerificationReport(order_id=view.id.hex(), checked=checked, differing=differing)
