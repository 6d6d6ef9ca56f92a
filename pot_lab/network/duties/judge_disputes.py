"""Give verdicts on disputed scores: have the disputed example run again by a helper, and say what it found (section
3.3.3; protocol.md, "Disputes").

A challenged leaf is judged by itself. Where scores of a model differ, their transcripts say where: at the first
difference of two of them one is wrong, and which one, the example says. So a score whose leaf is wrong at its first
difference from another is wrong, and one that is right at its first difference from each of the others is right. Each
step is a question to a helper, whose answer is kept as long as the dispute; nothing here waits.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from pot_lab.crypto.canonical import encode, sha256
from pot_lab.crypto.identity import Address
from pot_lab.crypto.merkle import SumProof
from pot_lab.judging import (
    CheckTranscript,
    ExampleRow,
    Finding,
    FirstDifference,
    JudgeBody,
    JudgeExample,
    Judgement,
    JudgePool,
)
from pot_lab.judging.records import TranscriptFile
from pot_lab.network.duties.disputed_orders import sealed_name
from pot_lab.network.duties.duty import REPEAT_AFTER_MS, log
from pot_lab.network.duties.signer import TransactionSigner
from pot_lab.protocol.cycle import TABLE
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.orders.accepting import may_judge
from pot_lab.protocol.orders.scores import OpenedScores, opened_as
from pot_lab.protocol.records import OrderId
from pot_lab.protocol.state import Dispute, OrderState
from pot_lab.protocol.transactions import Verdict

FIRST_RETRY_MS = 1_000
LONGEST_RETRY_MS = 60_000
LEAST_WALL_S = 120.0


class _Unknown(enum.Enum):
    """Why there is no answer now."""

    YET = "yet"
    """It is being found out, or this aggregator does not hold what it takes."""
    NEVER = "never"
    """There is no such transcript: all files that were named are others."""


class JudgeDisputes:
    """Submits this aggregator's verdicts.

    Args:
        ledger: this replica's ledger.
        signer: signs them.
        rows: the orders whose test data are open, and where.
        model_of: where an opened model is, by `disputed_orders.sealed_name`.
        custody: the folder with this aggregator's blobs.
        pool: the helpers, of which nobody else collects.
    """

    def __init__(
        self,
        ledger: Callable[[], Ledger],
        signer: TransactionSigner,
        rows: Callable[[], Mapping[bytes, ExampleRow]],
        model_of: Callable[[bytes], str | None],
        custody: Path,
        pool: JudgePool,
    ) -> None:
        self._ledger, self._signer, self._custody, self._pool = ledger, signer, custody, pool
        self._rows, self._model_of = rows, model_of
        self._answers: dict[bytes, dict[bytes, Judgement]] = {}
        self._asked: set[tuple[bytes, bytes]] = set()
        self._retry: dict[tuple[bytes, bytes], tuple[int, int]] = {}  # how often it was not judged, and when again
        self._submitted_ms: dict[bytes, int] = {}
        self._now_ms, self._turn = 0, 0

    def on_batch(self, sequence: int, time_ms: int, events: tuple[bytes, ...]) -> None:
        """Nothing to do: `poll` reads the ledger."""

    def poll(self, now_ms: int) -> list[bytes]:
        """Verdicts that are not in the ledger yet, unless submitted lately; asks what is not known. Does not wait."""
        self._now_ms = now_ms
        rows = self._rows()
        self._answers = {order_id: self._answers.get(order_id, {}) for order_id in rows}
        self._retry = {key: retry for key, retry in self._retry.items() if key[0] in rows}
        self._collect()
        account, requests, open_disputes = self._own_account(), list[bytes](), set[bytes]()
        for order_id, row in rows.items():
            order = self._ledger().state.orders.get(OrderId(order_id))
            if order is None or account is None or not may_judge(order, account):
                continue
            for self._turn, dispute in by_turn(order):
                if dispute.right is None and account not in dispute.votes:
                    open_disputes.add(dispute.name)
                    verdict = self._verdict(order_id, order, dispute, row)
                    if isinstance(verdict, bool):
                        requests += self._submit(order_id, order, dispute, right=verdict)
        self._submitted_ms = {name: at for name, at in self._submitted_ms.items() if name in open_disputes}
        return requests

    def close(self) -> None:
        """End the helpers. Called when the aggregator stops."""
        self._pool.close()

    def _own_account(self) -> Address | None:
        book = self._ledger().book
        index = book.members.get(Address(self._signer.identity.address))
        return None if index is None else book.state.aggregators[index].account

    def _submit(self, order_id: bytes, order: OrderState, dispute: Dispute, *, right: bool) -> list[bytes]:
        last_ms = self._submitted_ms.get(dispute.name, self._now_ms - REPEAT_AFTER_MS)
        if "verdict" not in TABLE[order.window].accepts or self._now_ms - last_ms < REPEAT_AFTER_MS:
            return []
        self._submitted_ms[dispute.name] = self._now_ms
        return [self._signer.sign(Verdict(OrderId(order_id), dispute.name, right))]

    # --- what is found ----------------------------------------------------------------------------------------
    def _verdict(self, order_id: bytes, order: OrderState, dispute: Dispute, row: ExampleRow) -> bool | _Unknown:
        """Whether a disputed score is right, as far as it is known."""
        own = OpenedScores(dispute.mid, dispute.score, dispute.root)
        if dispute.shown is not None:
            shown = dispute.shown
            return self._is_right(order_id, order, own, row, shown.leaf, shown.leaves_total, shown.proof)
        mine = self._transcript(order_id, order, own)
        if mine is _Unknown.NEVER:
            return False
        if isinstance(mine, _Unknown):
            return mine
        unknown = False
        for other in sorted(_scores_of(order, dispute.mid) - {own}, key=lambda each: (each.root, encode(each.score))):
            theirs = self._transcript(order_id, order, other)
            if theirs is _Unknown.NEVER:
                continue
            found = theirs if isinstance(theirs, _Unknown) else self._against(order_id, order, own, row, mine, theirs)
            if found is False:
                return False
            unknown = unknown or isinstance(found, _Unknown)
        return _Unknown.YET if unknown else True

    def _against(
        self,
        order_id: bytes,
        order: OrderState,
        own: OpenedScores,
        row: ExampleRow,
        mine: TranscriptFile,
        theirs: TranscriptFile,
    ) -> bool | _Unknown:
        """Whether a score is right where its transcript differs first from another."""
        function, examples = _function_of(order), order.order.test.examples
        body = FirstDifference(first=mine, second=theirs, examples=examples, function=function)
        judgement = self._ask(order_id, order, body)
        if judgement is None:
            return _Unknown.YET
        if judgement.difference is None:
            return True
        leaf = judgement.difference.first
        return self._is_right(order_id, order, own, row, leaf.leaf, leaf.leaves_total, leaf.proof)

    def _is_right(
        self,
        order_id: bytes,
        order: OrderState,
        own: OpenedScores,
        row: ExampleRow,
        leaf: int,
        leaves_total: int,
        proof: SumProof,
    ) -> bool | _Unknown:
        """Whether one leaf of a score's transcript is what the model gives; right, too, where it proves nothing."""
        graph, weights = self._held(order.order.model.digest), self._model_of(sealed_name(OrderId(order_id), own.mid))
        if graph is None or weights is None:
            return _Unknown.YET
        body = JudgeExample(
            graph=graph,
            weights=weights,
            mid=own.mid,
            function=_function_of(order),
            test_root=order.order.test.root,
            examples=order.order.test.examples,
            example=row,
            transcript_root=own.root,
            leaves_total=leaves_total,
            valid=own.score.valid,
            leaf=leaf,
            proof=proof,
        )
        judgement = self._ask(order_id, order, body)
        return _Unknown.YET if judgement is None else judgement.finding is not Finding.WRONG

    def _transcript(self, order_id: bytes, order: OrderState, opened: OpenedScores) -> TranscriptFile | _Unknown:
        """A file that is the transcript of a score. Those who opened the same score may have named different files, and
        one of them another's: one that is right will do.
        """
        digests = {
            each.transcript.digest
            for each in order.validations
            if opened_as(each) == opened and each.transcript is not None
        }
        unknown = _Unknown.NEVER
        for digest in sorted(digests):
            path = self._held(digest)
            file = TranscriptFile(path=path or "", root=opened.root)
            body = CheckTranscript(
                path=file.path,
                root=opened.root,
                leaves_total=None,
                examples=order.order.test.examples,
                function=_function_of(order),
                valid=opened.score.valid,
                total=opened.score.total,
            )
            judgement = self._ask(order_id, order, body) if path is not None else None
            if judgement is None:
                unknown = _Unknown.YET
            elif judgement.finding is Finding.RIGHT:
                return file
        return unknown

    def _held(self, digest: bytes) -> str | None:
        path = self._custody / digest.hex()
        return str(path) if path.is_file() else None

    # --- helpers ----------------------------------------------------------------------------------------------
    def _ask(self, order_id: bytes, order: OrderState, body: JudgeBody) -> Judgement | None:
        """The answer to a question, once it is there."""
        name = sha256(encode(body))
        answer, key = self._answers[order_id].get(name), (order_id, name)
        if answer is None and key not in self._asked and self._now_ms >= self._retry.get(key, (0, 0))[1]:
            self._asked.add(key)
            self._pool.submit(key, body, wall_s=max(LEAST_WALL_S, order.order.windows.judge_ms / 1000), turn=self._turn)
        return answer

    def _collect(self) -> None:
        for key, judgement in self._pool.collect():
            if not isinstance(key, tuple) or key not in self._asked:
                continue
            self._asked.discard(key)
            answers = self._answers.get(key[0])
            if answers is None:
                continue
            if judgement.finding is not Finding.NOT_JUDGED:
                answers[key[1]] = judgement
                continue
            failures = self._retry.get(key, (0, 0))[0]
            self._retry[key] = failures + 1, self._now_ms + min(LONGEST_RETRY_MS, FIRST_RETRY_MS << min(failures, 16))
            log.warning(
                "event=dispute_not_judged order=%s code=%s reason=%r",
                key[0].hex()[:16],
                judgement.code,
                judgement.reason,
            )


def _function_of(order: OrderState) -> str:
    return f"{order.order.score.name}/{order.order.score.version}"


def _scores_of(order: OrderState, mid: bytes) -> set[OpenedScores]:
    """The different scores that were opened for a model."""
    return {opened for each in order.validations if (opened := opened_as(each)) is not None and opened.mid == mid}


def by_turn(order: OrderState) -> list[tuple[int, Dispute]]:
    """The order's disputes with the turn of each, lowest first: how many earlier ones its challenger has, and how many
    there are of the same score.

    One wrong leaf is enough to drop a score. So whoever shows hundreds of its own accomplices' lies, which costs
    nothing, keeps no helper from the one challenge of somebody else.
    """
    challengers, scores = Counter[Address](), Counter[OpenedScores]()
    turns: list[tuple[int, Dispute]] = []
    for dispute in order.disputes:
        opened = OpenedScores(dispute.mid, dispute.score, dispute.root)
        turns.append((challengers[dispute.challenger] * bool(dispute.challenger) + scores[opened], dispute))
        challengers[dispute.challenger] += 1
        scores[opened] += 1
    return sorted(turns, key=lambda each: each[0])
