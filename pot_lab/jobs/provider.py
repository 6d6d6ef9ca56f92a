"""The provider's loop: fetch orders, train, commit to each better model until the deadline, reveal the last, claim the
reward.

Carries out PoT.Claim (section 2.4; Equation 1). Each model is encrypted before it is committed to, its key sealed to
the aggregators; the plain weights never leave this host (protocol.md, "Sealed models").
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pot_lab.agreement.quorum import correct
from pot_lab.crypto.canonical import Digest, decode, encode
from pot_lab.crypto.cipher import KEY_BYTES, encrypt_stream
from pot_lab.crypto.sealed_model import BoxHolder, KeyBoxes, model_binding, seal_key
from pot_lab.errors import PotLabError
from pot_lab.files import move_durably
from pot_lab.jobs.downloads import Wanted
from pot_lab.jobs.loop import Loop
from pot_lab.jobs.memory import Commitment, ProviderMemory
from pot_lab.jobs.recipe_jobs import AT_ONCE
from pot_lab.jobs.scorer import DATA_LIMIT_BYTES, GRAPH, GRAPH_LIMIT_BYTES, WEIGHTS_LIMIT_BYTES
from pot_lab.jobs.terms import FAR_UPLOAD_BYTES_PER_S, NEAR_UPLOAD_BYTES_PER_S, Terms, passing_objection, training_bytes
from pot_lab.jobs.workspace import Workspace
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.errors import AlreadyDone, Refused, TooLate
from pot_lab.protocol.parameters import GRAINS_PER_POT, Role
from pot_lab.protocol.records import HeldBlob, ModelId, Salt, claim_commitment, model_id
from pot_lab.protocol.transactions import TRANSACTION_LIMIT_BYTES, Claim, RevealModel
from pot_lab.protocol.views import OrderView
from pot_lab.store.addresses import is_private_place

log = logging.getLogger(__name__)

COMMIT_MARGIN_MS = 1_500
"""The notebook stops this long before the deadline, so that its last model is committed in time."""
MIN_COMMIT_INTERVAL_MS = 1_000
LOOK_AGAIN_MS = 5_000
"""How often an order is looked at again that this provider cannot work on now."""
PASSED_ORDERS = 10_000
STOP_GRACE_MS = 10_000
"""How long a notebook may go on after its order takes no more models; then it is ended, since it holds the device."""
GATHERED_ORDERS = 3
"""For how many orders files are fetched at once, so that slow ones do not keep the provider from training."""
LISTED_ORDERS = (20, 500)
"""How many open orders a provider asks for: all that a list has, if it cannot use one of the first."""


class ProviderLoop(Loop[ProviderMemory]):
    """Trains orders, the best paid first.

    Args:
        arguments, options: as of `Loop`; `jobs_at_once` is 1 where it is not given.
        terms: what it asks of an order.
    """

    role = Role.PROVIDER
    memory_kind = ProviderMemory

    def __init__(self, *arguments: Any, terms: Terms | None = None, **options: Any) -> None:
        self._at_once: int = options.pop("jobs_at_once", 1)
        # A notebook of an order that is over may take a moment to end: it shall not keep the next from starting.
        super().__init__(*arguments, jobs_at_once=max(AT_ONCE, 2 * self._at_once), **options)
        if terms is None:
            near = is_private_place(self.store.url)
            terms = Terms(upload_bytes_per_s=NEAR_UPLOAD_BYTES_PER_S if near else FAR_UPLOAD_BYTES_PER_S)
        self.terms = terms
        self._passed: dict[bytes, int | None] = {}  # orders that do not suit, and when to look again, if ever

    def begin_new(self) -> None:
        """Begin the best paid order that is open for long enough, unless enough are training or the limit is
        reached."""
        active = self.memories.active()
        if self._is_busy():
            return
        if sum(not memory.job_id and not self.files.is_aside(memory.id) for memory in active) >= GATHERED_ORDERS:
            return
        if self.limit is not None and self.finished + len(active) >= self.limit:
            return
        for limit in LISTED_ORDERS:
            orders = self.feed.open_orders(limit)
            if self._begin_first(orders) or len(orders) < limit:
                return

    def _is_busy(self) -> bool:
        return sum(memory.training for memory in self.memories.active()) >= self._at_once

    def _begin_first(self, orders: list[OrderView]) -> bool:
        """Begin the first of these orders that can be used; returns whether one was begun, or put away as unusable."""
        for view in orders:
            own = view.order.client == self.identity.address
            if own or self.has_begun(view.id) or view.closes_ms - self.clock_ms() < 2 * COMMIT_MARGIN_MS:
                continue
            if not self._suits(view):
                continue
            memory = ProviderMemory(order_id=view.id.hex())
            self.memories.write(memory)
            self._attempt(memory.id, functools.partial(self._continue, memory))
            return True
        return False

    def _suits(self, view: OrderView) -> bool:
        """Whether the order is worth its files; what speaks against it is logged once."""
        now_ms = self.clock_ms()
        if view.id in self._passed:
            again_ms = self._passed[view.id]
            if again_ms is None or now_ms < again_ms:
                return False
        reason = self.terms.objection(view.order, self.client.network().parameters)
        again_ms = None
        if reason is None:
            account = self.client.account(self.identity.address)
            free = next((max(0, s.bonded_grains - s.locked_grains) for s in account.stakes if s.role == self.role), 0)
            grains, size_bytes = self._promised()
            reason = passing_objection(view, free - grains, size_bytes)
            again_ms = now_ms + LOOK_AGAIN_MS
        if reason is None:
            self._passed.pop(view.id, None)
            return True
        if view.id not in self._passed:
            log.info("event=order_passed_over order=%s reason=%r", view.id.hex()[:12], reason)
        if len(self._passed) >= PASSED_ORDERS:
            self._passed.pop(next(iter(self._passed)))
        self._passed[view.id] = again_ms
        return False

    def _promised(self) -> tuple[int, int]:
        """What the orders at hand may still take: of the free stake, in grains, for claims that are to come, and of the
        memory, in bytes, where the notebook runs or will."""
        grains = size_bytes = 0
        for memory in self.memories.active():
            view = self.feed.view(memory.id)
            if view is None or view.window is not Window.COMMIT:
                continue
            grains += view.next_bond_grains * (view.claim_by(self.identity.address) is None)
            size_bytes += training_bytes(view.order)
        return grains, size_bytes

    def _prepare(self, memory: ProviderMemory, view: OrderView) -> None:
        """Bring the order's files; begin to train once they are there and a place is free."""
        if self._is_busy():
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

        def build(files: Mapping[str, Path], failures: Mapping[str, PotLabError]) -> None:
            Workspace.create(folder, facts, files)

        left_s = (view.closes_ms - COMMIT_MARGIN_MS - self.clock_ms()) / 1000
        ready = self.files.prepare(memory.id, wanted, window_s=left_s / 2, build=build)
        if ready and self.may_start_job(view):
            memory.training = True  # written with the job's id, so that a loop that is killed does not train two
            try:
                self.start_job(memory)
            except BaseException:
                memory.training = False
                raise

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
        if memory.training or (memory.job_id and not memory.stopped_ms):
            memory.training, memory.stopped_ms = False, self.clock_ms()
            self.memories.write(memory)
        if self.clock_ms() - memory.stopped_ms > STOP_GRACE_MS:
            self.end_job(memory)
        claim = view.claim_by(self.identity.address)
        if claim is not None and claim.mid:
            memory.revealed = True
        if view.window is Window.REVEAL and claim is not None and not claim.mid:
            self._reveal(memory, view, claim.commitment)
        elif claim is not None and claim.mid and not memory.stored and not view.ended:
            self._store(memory, claim.mid)
        elif view.ended:
            if self.paid(view):
                won = view.winner == self.identity.address
                outcome = "won" if won else view.void_reason or "not the best"
                self.finish(memory, self._bond_lost(memory, view) or outcome, view)
        elif view.window is not Window.REVEAL and claim is None:
            self.finish(memory, self._bond_lost(memory, view) or "no claim")

    def _bond_lost(self, memory: ProviderMemory, view: OrderView) -> str:
        """What a claim cost that was not revealed in its window, which is logged; empty if it cost nothing."""
        closed = any(span.name == Window.REVEAL and span.closed_ms for span in view.timeline)
        if not closed or memory.revealed or not any(commit.accepted for commit in memory.commits):
            return ""
        bond = view.order.claim_bond_grains / GRAINS_PER_POT
        outcome = f"bond of {bond:g} POT lost: the model was not revealed in time"
        log.warning("event=bond_lost order=%s reason=%r", memory.order_id[:12], outcome)
        return outcome

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
            digest = _digest_of(newest)
            mid, salt = model_id(view.order.model.digest, digest), self.random_bytes(32)
            last = Commitment(file=newest.name, mid=mid.hex(), salt=salt.hex(), at_ms=now_ms)
            last.submitted = digest == view.order.weights.digest
            if not last.submitted:
                self._seal(memory, last, newest)
            memory.commits.append(last)
            self.memories.write(memory)  # the salt is on disk before the commitment leaves
        if last.submitted:  # a claim would only cost its bond
            log.warning("event=untrained_model order=%s file=%s", memory.order_id[:12], last.file)
            return
        try:
            self.client.submit(Claim(memory.id, self._commitment(memory, last)))
            last.accepted = True
            self._drop_before(memory, last.file)
            log.info("event=committed order=%s model=%s", memory.order_id[:12], last.mid[:12])
        except TooLate:
            log.info("event=commit_too_late order=%s", memory.order_id[:12])
        except Refused as error:
            log.warning("event=commit_refused order=%s reason=%r", memory.order_id[:12], str(error))
        last.submitted, last.at_ms = True, self.clock_ms()
        self.memories.write(memory)

    def _seal(self, memory: ProviderMemory, commit: Commitment, model: Path) -> None:
        """Encrypt a model beside itself, and seal the key to the aggregators that hold the order's test key."""
        key, target = self.random_bytes(KEY_BYTES), sealed_path(model)
        beginning = target.with_name(f".{target.name}.tmp")
        descriptor = os.open(beginning, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as sealed, model.open("rb") as source:
            encrypt_stream(key, source, sealed)
        move_durably(beginning, target)
        digest = _digest_of(target)
        binding = model_binding(self.client.network_id, memory.id, self.identity.address, digest)
        holders = [BoxHolder(each.address, each.sealing_public) for each in self.client.holders(memory.id)]
        boxes = seal_key(key, binding, holders, correct(len(holders)), self.random_bytes)
        commit.ciphertext, commit.size_bytes = digest.hex(), target.stat().st_size
        commit.boxes = encode(boxes).hex()

    def _drop_before(self, memory: ProviderMemory, file: str) -> None:
        """Remove the models before the one that the ledger has: it takes the last that came in time, so that they are
        never revealed. Each is as large as the order's weights."""
        for path in submitted_models(self.order_folder(memory.id)):
            if path.name < file:
                path.unlink(missing_ok=True)
                sealed_path(path).unlink(missing_ok=True)

    def _reveal(self, memory: ProviderMemory, view: OrderView, commitment: bytes) -> None:
        """Open the commitment that the ledger has, which is the last one that came in time.

        Where the store does not take the model, it is revealed all the same, and put into custody (`_store`); where
        there is none, in the window's last quarter: the bond is worth more than the wait, and the model may still come
        to its link.
        """
        late = view.closes_ms - self.clock_ms() < view.order.windows.reveal_ms // 4
        for commit in reversed(memory.commits):
            if self._commitment(memory, commit) != commitment:
                continue
            path = sealed_path(self.order_folder(memory.id) / "models" / commit.file)
            links, failure = self.files.upload([path], late=late)
            if path not in links and failure is not None:
                raise failure
            if path not in links:  # on its way: the loop is woken when it is there
                return
            try:
                self.client.submit(
                    RevealModel(
                        order_id=memory.id,
                        mid=ModelId(bytes.fromhex(commit.mid)),
                        ciphertext=links[path],
                        boxes=_boxes_of(commit),
                        salt=Salt(bytes.fromhex(commit.salt)),
                    )
                )
                log.info("event=revealed order=%s model=%s", memory.order_id[:12], commit.mid[:12])
            except AlreadyDone:
                pass
            memory.revealed = True
            self.memories.write(memory)
            return
        log.error("event=salt_lost order=%s", memory.order_id[:12])

    def _store(self, memory: ProviderMemory, mid: bytes) -> None:
        """See that the model that was revealed is in the store, or in custody."""
        files = [commit.file for commit in memory.commits if commit.mid == mid.hex()]
        paths = [sealed_path(self.order_folder(memory.id) / "models" / name) for name in files[-1:]]
        links, failure = self.files.upload(paths)
        if failure is not None:
            raise failure
        if len(links) == len(paths):
            memory.stored = True
            self.memories.write(memory)

    def _commitment(self, memory: ProviderMemory, commit: Commitment) -> bytes:
        mid, salt = ModelId(bytes.fromhex(commit.mid)), Salt(bytes.fromhex(commit.salt))
        if not commit.boxes:  # never submitted
            return b""
        ciphertext = HeldBlob(bytes.fromhex(commit.ciphertext), commit.size_bytes)
        return claim_commitment(
            self.client.network_id, memory.id, self.identity.address, mid, ciphertext, _boxes_of(commit).root, salt
        )


def sealed_path(model: Path) -> Path:
    """Where the ciphertext of a model lies that the notebook has submitted."""
    return model.with_name(f"{model.name}.encrypted")


def _boxes_of(commit: Commitment) -> KeyBoxes:
    return decode(bytes.fromhex(commit.boxes), KeyBoxes, limit_bytes=TRANSACTION_LIMIT_BYTES)


def _digest_of(path: Path) -> Digest:
    with path.open("rb") as file:
        return Digest(hashlib.file_digest(file, "sha256").digest())


def submitted_models(folder: Path) -> list[Path]:
    """Models that the notebook has submitted to its workspace, oldest first."""
    return sorted((folder / "models").glob("*.safetensors"))
