"""The verifier's loop: score every model again, compare with what the validators opened, and challenge what is wrong.

Carries out PoT.Verify (section 2.4) and Challenge (section 3.3.3). Scores are exact, so a difference is a proof of
error. Where opened scores of a model differ from each other the ledger disputes them by itself; where all agree on a
wrong one, the loop looks for the first wrong example in a validator's transcript, commits to it and shows it.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from pot_lab.crypto.identity import Address
from pot_lab.errors import PotLabError
from pot_lab.files import make_private_folder, replace_durably
from pot_lab.jobs.downloads import Wanted
from pot_lab.jobs.loop import Loop
from pot_lab.jobs.memory import Difference, PlannedChallenge, VerificationReport, VerifierMemory
from pot_lab.jobs.order_files import GATHER_S
from pot_lab.jobs.scorer import files_to_score, lay_out
from pot_lab.jobs.workspace import ScoringResult, read_results
from pot_lab.protocol.cycle import PLACES, Window
from pot_lab.protocol.errors import AlreadyDone
from pot_lab.protocol.orders.disputes import CHALLENGES_PER_ACCOUNT
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import ClaimScore, ModelId, Salt, challenge_commitment, validation_id
from pot_lab.protocol.transactions import Challenge, OpenChallenge
from pot_lab.protocol.views import ClaimView, OrderView, ValidationView

log = logging.getLogger(__name__)

CHALLENGING = (Window.CHALLENGE, Window.OPEN_CHALLENGES)
TRANSCRIPT_HEADER_BYTES = 256
"""What a transcript may have beside eight bytes an example."""


class VerifierLoop(Loop[VerifierMemory]):
    """Re-checks every order as soon as its test data is open, so as to be done before the challenge window ends.

    Arguments as of `Loop`.
    """

    role = Role.VERIFIER
    memory_kind = VerifierMemory
    windows: tuple[Window, ...] = (Window.SCORE, Window.OPEN_SCORES, Window.CHALLENGE)

    def begin_new(self) -> None:
        """Begin every order whose models and test data are there."""
        for summary in self.feed.summaries():
            if not self.has_begun(summary.id):
                view = self.feed.view(summary.id)
                if view is not None and view.window in self.windows:
                    memory = VerifierMemory(order_id=view.id.hex())
                    self.memories.write(memory)
                    self._attempt(memory.id, functools.partial(self._continue, memory))

    def claims_to_score(self, view: OrderView) -> list[ClaimView]:
        """The claims whose models are scored again."""
        return [claim for claim in view.claims if claim.mid]

    def _prepare(self, memory: VerifierMemory, view: OrderView) -> None:
        """Bring the order's files, and begin to score once they are there."""
        claims = self.claims_to_score(view)
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
        if memory.report.differing and view.window in CHALLENGING:
            self._challenge(memory, view, results)
        if view.ended:
            report, made = memory.report, [each for each in memory.challenges or [] if each.opened]
            if made and not self.paid(view):
                return
            found = f"{report.checked} validations checked, {len(report.differing)} differ"
            self.finish(memory, f"{found}, {len(made)} challenged" if made else found, view)

    # --- challenges -----------------------------------------------------------------------------------------------
    def _challenge(self, memory: VerifierMemory, view: OrderView, results: list[ScoringResult]) -> None:
        """Commit to wrong examples in the challenge window, show them in the next."""
        if memory.challenges is None and view.window is Window.CHALLENGE:
            self._plan(memory, view, results)
        for planned in memory.challenges or []:
            if view.window is Window.CHALLENGE and not planned.committed:
                self._commit(memory, planned)
            elif view.window is Window.OPEN_CHALLENGES and planned.committed and not planned.opened:
                self._show(memory, view, planned)

    def _plan(self, memory: VerifierMemory, view: OrderView, results: list[ScoringResult]) -> None:
        """Fetch a transcript of each wrong score that all validators agree on, and find its first wrong example."""
        suspects = unanimous(view, memory.report.differing if memory.report else [])
        folder, fetching = self.order_folder(memory.id), memory.id + b"/transcripts"
        limit_bytes = TRANSCRIPT_HEADER_BYTES + 8 * view.order.test.examples
        wanted = [
            Wanted(name=_transcript_of(each), link=each.transcript, limit_bytes=limit_bytes, required=False)
            for each in suspects
            if each.transcript is not None and each.transcript.size_bytes <= limit_bytes
        ]
        window_s = max(1.0, (view.closes_ms - self.clock_ms()) / 2000)
        if wanted and not self.files.prepare(
            fetching, wanted, window_s=window_s, build=functools.partial(_keep_transcripts, folder)
        ):
            return
        self.files.forget(fetching)
        own = {bytes.fromhex(result.mid): result for result in results}
        planned: dict[str, PlannedChallenge] = {}
        for each in suspects:
            name, mid = _transcript_of(each), each.mid.hex()
            index = wrong_example(folder / name, each, folder / own[each.mid].transcript)
            if index is not None and mid not in planned:
                planned[mid] = PlannedChallenge(
                    mid=mid,
                    validator=each.validator.hex(),
                    index=index,
                    transcript=name,
                    salt=self.random_bytes(32).hex(),
                )
        memory.challenges = list(planned.values())[:CHALLENGES_PER_ACCOUNT]
        self.memories.write(memory)  # salts are on disk before the commitments leave

    def _commit(self, memory: VerifierMemory, planned: PlannedChallenge) -> None:
        vid = validation_id(
            self.client.network_id, memory.id, ModelId(bytes.fromhex(planned.mid)), _account(planned.validator)
        )
        commitment = challenge_commitment(
            self.client.network_id, memory.id, self.identity.address, vid, planned.index, _salt(planned)
        )
        with contextlib.suppress(AlreadyDone):
            self.client.submit(Challenge(memory.id, int(self.role), commitment))
        planned.committed = True
        self.memories.write(memory)
        log.info("event=challenge_committed order=%s model=%s", memory.order_id[:12], planned.mid[:12])

    def _show(self, memory: VerifierMemory, view: OrderView, planned: PlannedChallenge) -> None:
        from pot_lab.scoring.transcript import parse_transcript  # imports torch, which a loop needs for nothing else

        data = (self.order_folder(memory.id) / planned.transcript).read_bytes()
        transcript = parse_transcript(data, count=view.order.test.examples)
        with contextlib.suppress(AlreadyDone):
            self.client.submit(
                OpenChallenge(
                    order_id=memory.id,
                    mid=ModelId(bytes.fromhex(planned.mid)),
                    validator=_account(planned.validator),
                    leaf=int(transcript.values[planned.index]),
                    leaves_total=transcript.tree.total,
                    proof=transcript.proof(planned.index),
                    salt=_salt(planned),
                )
            )
        planned.opened = True
        self.memories.write(memory)
        log.info(
            "event=challenge_opened order=%s model=%s example=%d",
            memory.order_id[:12],
            planned.mid[:12],
            planned.index,
        )


def unanimous(view: OrderView, differing: Sequence[Difference]) -> list[ValidationView]:
    """Of the validations that differ from the verifier's scores those of models that all validators score alike; of
    others the ledger finds out by itself.
    """
    roots: dict[bytes, set[tuple[bytes, ClaimScore]]] = {}
    for each in view.validations:
        if each.score is not None:
            roots.setdefault(each.mid, set()).add((each.transcript_root, each.score))
    named = {(each.mid, each.validator) for each in differing}
    return [
        each
        for each in view.validations
        if (each.mid.hex(), each.validator.hex()) in named and len(roots.get(each.mid, ())) == 1
    ]


def wrong_example(path: Path, validation: ValidationView, own: Path) -> int | None:
    """The first example where a validator's transcript contradicts the verifier's own; None where it is not there, not
    the one that was opened, or equal: a transcript that nobody can have proves nothing.
    """
    from pot_lab.scoring.transcript import first_difference, parse_transcript  # imports torch

    if validation.score is None:
        return None
    count = validation.score.count
    try:
        theirs = parse_transcript(path.read_bytes(), count=count)
        mine = parse_transcript(own.read_bytes(), count=count)
    except (PotLabError, OSError) as error:
        log.warning("event=transcript_unusable validator=%s reason=%r", validation.validator.hex()[:12], str(error))
        return None
    return first_difference(theirs, mine) if theirs.root == validation.transcript_root else None


def _transcript_of(validation: ValidationView) -> str:
    return f"opened/{validation.mid.hex()}.{validation.validator.hex()}"


def _keep_transcripts(folder: Path, files: Mapping[str, Path], failures: Mapping[str, PotLabError]) -> None:
    for name, path in files.items():
        make_private_folder((folder / name).parent)
        replace_durably(folder / name, path.read_bytes(), mode=0o600)
    for name, error in failures.items():
        log.warning("event=transcript_not_there file=%s reason=%r", name, str(error))


def _account(text: str) -> Address:
    return Address(bytes.fromhex(text))


def _salt(planned: PlannedChallenge) -> Salt:
    return Salt(bytes.fromhex(planned.salt))


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
