"""The validator's loop: score every model it was drawn for, commit, open with transcripts, claim the pay.

Carries out PoT.Validate (section 2.4; Equation 2). Scores are exact, so all honest validators agree to the bit.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Sequence
from typing import TypeVar

from pot_lab.crypto.canonical import Record, encode
from pot_lab.crypto.link import Link
from pot_lab.crypto.merkle import SumNode
from pot_lab.jobs.loop import Loop
from pot_lab.jobs.memory import SaltedScore, ValidatorMemory
from pot_lab.jobs.scorer import files_to_score, lay_out
from pot_lab.jobs.workspace import read_results
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.errors import Refused
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import ClaimScore, ModelId, Salt, validation_commitment
from pot_lab.protocol.transactions import (
    MAX_ITEMS,
    TRANSACTION_LIMIT_BYTES,
    CommitScores,
    OpenedScore,
    OpenScores,
    ScoreCommitment,
)
from pot_lab.protocol.views import ClaimView, OrderView

log = logging.getLogger(__name__)

PART_LIMIT_BYTES = TRANSACTION_LIMIT_BYTES - 1024
"""What the items of one transaction may have together: order id, account, signature and their frames are the rest."""


class ValidatorLoop(Loop[ValidatorMemory]):
    """Scores whatever it is assigned. Arguments as of `Loop`."""

    role = Role.VALIDATOR
    memory_kind = ValidatorMemory
    windows = (Window.SCORE,)
    drawn = True

    def begin_new(self) -> None:
        """Begin every order that is being scored and that this validator was drawn for."""
        for summary in self.feed.summaries():
            if not self.has_begun(summary.id):
                view = self.feed.view(summary.id)
                if view is not None and view.window is Window.SCORE:
                    memory = ValidatorMemory(order_id=view.id.hex())
                    self.memories.write(memory)
                    self._attempt(memory.id, functools.partial(self._continue, memory))

    def _prepare(self, memory: ValidatorMemory, view: OrderView) -> None:
        """Bring the order's files, and begin to score once they are there."""
        claims = self._assigned(view)
        if not claims:
            self.archive(memory, "not drawn")
            return
        build = functools.partial(lay_out, view, claims, self.order_folder(view.id))
        window_s = (view.closes_ms - self.clock_ms()) / 2000
        ready = self.files.prepare(memory.id, files_to_score(view, claims), window_s=window_s, build=build)
        if ready and self.may_start_job(view):
            self.start_job(memory)

    def advance(self, memory: ValidatorMemory, view: OrderView) -> None:
        """Commit once the notebook is done, open when all have committed, claim at the end."""
        if not memory.job_id and view.window is Window.SCORE:
            self._prepare(memory, view)
        elif view.ended:
            if self.paid(view):
                scored = memory.opened and any(item.committed for item in memory.items or [])
                self.finish(memory, "scored" if scored else "did not score", view)
        elif view.window is Window.SCORE and not memory.committed:
            if not self.job_is_lost(memory):
                self._commit(memory, view)
        elif view.window is Window.OPEN_SCORES and memory.items and not memory.opened:
            self._open(memory, view)
        elif memory.opened and not memory.stored:
            self._store(memory)

    def _commit(self, memory: ValidatorMemory, view: OrderView) -> None:
        """Commit to every model, in as many transactions as that takes."""
        results = read_results(self.order_folder(memory.id))
        if results is None:
            return
        if memory.items is None:
            memory.items = [
                SaltedScore(
                    mid=result.mid,
                    total=result.total,
                    count=result.count,
                    valid=result.valid,
                    root=result.root,
                    transcript=result.transcript,
                    salt=self.random_bytes(32).hex(),
                    top_hash=result.top_hash,
                    top_total=result.top_total,
                )
                for result in results
            ]
            self.memories.write(memory)  # salts are on disk before the commitments leave
        known = {v.mid.hex() for v in view.validations if v.validator == self.identity.address}
        for item in memory.items:
            item.committed = item.committed or item.mid in known
        items = [item for item in memory.items if not item.committed]
        assigned = {claim.mid.hex() for claim in self._assigned(view)}  # its seats may have gone to others meanwhile
        items = [item for item in items if item.mid in assigned]
        for part in parts_of([(self._commitment(memory, item), item) for item in items]):
            self.client.submit(CommitScores(memory.id, tuple(commitment for commitment, _ in part)))
            for _, item in part:
                item.committed = True
            self.memories.write(memory)
            log.info("event=scores_committed order=%s models=%d", memory.order_id[:12], len(part))
        memory.committed = True
        self.memories.write(memory)

    def _assigned(self, view: OrderView) -> list[ClaimView]:
        """The claims whose models this validator has a seat for."""
        return [claim for claim in view.claims if self.identity.address in claim.assigned]

    def _commitment(self, memory: ValidatorMemory, item: SaltedScore) -> ScoreCommitment:
        mid, salt = ModelId(bytes.fromhex(item.mid)), Salt(bytes.fromhex(item.salt))
        root = bytes.fromhex(item.root)
        score = ClaimScore(item.total, item.count, item.valid)
        commitment = validation_commitment(
            self.client.network_id, memory.id, mid, self.identity.address, score, root, salt
        )
        return ScoreCommitment(mid, commitment)

    def _open(self, memory: ValidatorMemory, view: OrderView) -> None:
        """Open every score that the ledger has a commitment to; one that is refused keeps no other from being opened.

        Where the store does not take a transcript, its score is opened all the same, and the transcript put into
        custody (`_store`); where there is none, in the window's last quarter: the stake on it is worth more than the
        wait, and the transcript may still come to its link.

        Raises:
            LinkDead, StoreFull, ...: a transcript could not be stored; what can be opened was opened before.
        """
        mine = {v.mid.hex(): v for v in view.validations if v.validator == self.identity.address}
        for item in memory.items or []:
            item.committed = item.mid in mine
            if not item.committed or mine[item.mid].score is not None:
                item.closed = True
        folder = self.order_folder(memory.id)
        items = {folder / item.transcript: item for item in memory.items or [] if not item.closed}
        late = view.closes_ms - self.clock_ms() < view.order.windows.open_scores_ms // 4
        links, failure = self.files.upload(list(items), late=late)
        ready = [(self._opened(items[path], link), items[path]) for path, link in links.items()]
        for part in parts_of(ready):
            self._open_part(memory, part)
        memory.opened = all(item.closed for item in memory.items or [])
        self.memories.write(memory)
        if failure is not None and not memory.opened:
            raise failure

    def _store(self, memory: ValidatorMemory) -> None:
        """See that the transcripts of opened scores are in the store, or in custody."""
        folder = self.order_folder(memory.id)
        paths = [folder / item.transcript for item in memory.items or [] if item.committed]
        links, failure = self.files.upload(paths)
        if failure is not None:
            raise failure
        if len(links) == len(set(paths)):
            memory.stored = True
            self.memories.write(memory)

    def _opened(self, item: SaltedScore, transcript: Link) -> OpenedScore:
        return OpenedScore(
            mid=ModelId(bytes.fromhex(item.mid)),
            score=ClaimScore(item.total, item.count, item.valid),
            transcript_root=bytes.fromhex(item.root),
            transcript=transcript,
            top=SumNode(bytes.fromhex(item.top_hash), item.top_total),
            salt=Salt(bytes.fromhex(item.salt)),
        )

    def _open_part(self, memory: ValidatorMemory, part: list[tuple[OpenedScore, SaltedScore]]) -> None:
        """Open these scores in one transaction; if it is refused, each in its own."""
        try:
            self.client.submit(OpenScores(memory.id, tuple(opened for opened, _ in part)))
            log.info("event=scores_opened order=%s models=%d", memory.order_id[:12], len(part))
        except Refused as error:
            if len(part) > 1:
                for one in part:
                    self._open_part(memory, [one])
                return
            log.warning(
                "event=scores_refused order=%s model=%s reason=%r",
                memory.order_id[:12],
                part[0][1].mid[:12],
                str(error),
            )
        for _, item in part:
            item.closed = True
        self.memories.write(memory)


Item = TypeVar("Item", bound=Record)


def parts_of(
    items: Sequence[tuple[Item, SaltedScore]], limit_bytes: int = PART_LIMIT_BYTES
) -> Iterator[list[tuple[Item, SaltedScore]]]:
    """Scores in their order, in parts whose encoded items stay within `limit_bytes` together, so that each part fits
    one transaction.
    """
    part: list[tuple[Item, SaltedScore]] = []
    size_bytes = 0
    for item in items:
        item_bytes = len(encode(item[0]))
        if part and (size_bytes + item_bytes > limit_bytes or len(part) == MAX_ITEMS):
            yield part
            part, size_bytes = [], 0
        part.append(item)
        size_bytes += item_bytes
    if part:
        yield part
