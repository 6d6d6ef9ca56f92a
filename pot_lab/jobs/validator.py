"""The validator's loop: score every model it was drawn for, commit, open with transcripts, claim the pay.

Carries out PoT.Validate (section 2.4; Equation 2). Scores are exact, so all honest validators agree to the bit.
"""

from __future__ import annotations

import logging

from pot_lab.errors import PotLabError
from pot_lab.jobs.loop import Loop
from pot_lab.jobs.memory import SaltedScore, ValidatorMemory
from pot_lab.jobs.scorer import lay_out
from pot_lab.jobs.workspace import read_results
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.errors import Refused
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import ClaimScore, ModelId, Salt, validation_commitment
from pot_lab.protocol.transactions import CommitScores, OpenedScore, OpenScores, ScoreCommitment
from pot_lab.protocol.views import OrderView

log = logging.getLogger(__name__)


class ValidatorLoop(Loop[ValidatorMemory]):
    """Scores whatever it is assigned. Arguments as of `Loop`."""

    role = Role.VALIDATOR
    memory_kind = ValidatorMemory

    def begin_new(self) -> None:
        """Begin every order that is being scored and that this validator was drawn for."""
        for summary in self.feed.summaries():
            if summary.window is Window.SCORE and not self.has_begun(summary.id):
                view = self.feed.view(summary.id)
                if view is not None and view.window is Window.SCORE:
                    memory = ValidatorMemory(order_id=view.id.hex())
                    self.memories.write(memory)
                    self._begin(memory, view)

    def _begin(self, memory: ValidatorMemory, view: OrderView) -> None:
        claims = [claim for claim in view.claims if self.identity.address in claim.assigned]
        if not claims:
            self.archive(memory, "not drawn")
            return
        try:
            lay_out(view, claims, self.order_folder(view.id), self.download)
        except PotLabError as error:
            log.warning("event=order_unusable order=%s reason=%r", view.id.hex()[:12], str(error))
            self.finish(memory, f"unusable: {error}")
            return
        self.start_job(memory)

    def advance(self, memory: ValidatorMemory, view: OrderView) -> None:
        """Commit once the notebook is done, open when all have committed, claim at the end."""
        if not memory.job_id and view.window is Window.SCORE:  # killed, or out of room, before the job was started
            self._begin(memory, view)
        elif view.ended:
            if self.paid(view):
                self.finish(memory, "scored" if memory.opened else "did not score")
        elif view.window is Window.SCORE and not memory.committed:
            if not self.job_is_lost(memory):
                self._commit(memory, view)
        elif view.window is Window.OPEN_SCORES and memory.committed and not memory.opened:
            self._open(memory)

    def _commit(self, memory: ValidatorMemory, view: OrderView) -> None:
        results = read_results(self.order_folder(memory.id))
        if results is None:
            return
        if memory.items is None:
            stake = self.client.network().parameters.min_validation_stake_grains
            memory.items = [
                SaltedScore(
                    mid=result.mid,
                    total=result.total,
                    count=result.count,
                    valid=result.valid,
                    root=result.root,
                    transcript=result.transcript,
                    salt=self.random_bytes(32).hex(),
                    stake_grains=stake,
                )
                for result in results
            ]
            self.memories.write(memory)  # salts are on disk before the commitments leave
        done = {v.mid for v in view.validations if v.validator == self.identity.address}
        items = [item for item in memory.items if bytes.fromhex(item.mid) not in done]
        if items:
            self.client.submit(CommitScores(memory.id, tuple(self._commitment(memory, item) for item in items)))
            log.info("event=scores_committed order=%s models=%d", memory.order_id[:12], len(items))
        memory.committed = True
        self.memories.write(memory)

    def _commitment(self, memory: ValidatorMemory, item: SaltedScore) -> ScoreCommitment:
        mid, salt = ModelId(bytes.fromhex(item.mid)), Salt(bytes.fromhex(item.salt))
        root = bytes.fromhex(item.root)
        score = ClaimScore(item.total, item.count, item.valid)
        commitment = validation_commitment(
            self.client.network_id, memory.id, mid, self.identity.address, score, root, item.stake_grains, salt
        )
        return ScoreCommitment(mid, commitment)

    def _open(self, memory: ValidatorMemory) -> None:
        folder, opened = self.order_folder(memory.id), []
        for item in memory.items or []:
            mid, salt = ModelId(bytes.fromhex(item.mid)), Salt(bytes.fromhex(item.salt))
            root = bytes.fromhex(item.root)
            transcript = self.store.put((folder / item.transcript).read_bytes())
            score = ClaimScore(item.total, item.count, item.valid)
            opened.append(
                OpenedScore(
                    mid=mid,
                    score=score,
                    transcript_root=root,
                    transcript=transcript,
                    stake_grains=item.stake_grains,
                    salt=salt,
                )
            )
        try:
            self.client.submit(OpenScores(memory.id, tuple(opened)))
            log.info("event=scores_opened order=%s models=%d", memory.order_id[:12], len(opened))
        except Refused as error:
            log.warning("event=scores_refused order=%s reason=%r", memory.order_id[:12], str(error))
        memory.opened = True
        self.memories.write(memory)
