"""What a mining loop must not forget about its orders, salts above all: one JSON file an order, replaced durably.

Everything is written before anything that depends on it is submitted, so that a loop that was killed continues where it
was. Files are read once, when the loop starts; after that the loop is their only writer.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from pot_lab.files import make_private_folder, replace_durably
from pot_lab.protocol.records import OrderId

log = logging.getLogger(__name__)

FILE_NAME = "memory.json"


class OrderMemory(msgspec.Struct, kw_only=True):
    """What every loop keeps of an order.

    Attributes:
        order_id: the order, in hex.
        job_id: the notebook job that works on it; empty until one was started.
        resumed: how often that job was resumed.
        job_over: whether that job is known not to run any more.
        finished: whether the loop is done with the order.
        outcome: why it is done, for people.
    """

    order_id: str
    job_id: str = ""
    resumed: int = 0
    job_over: bool = False
    finished: bool = False
    outcome: str = ""

    @property
    def id(self) -> OrderId:
        """The order's id."""
        return OrderId(bytes.fromhex(self.order_id))


class Commitment(msgspec.Struct, kw_only=True):
    """A model that a provider committed to.

    Attributes:
        file: the weights, in the workspace's `models/`.
        mid, salt: the opening of the commitment, in hex.
        ciphertext, size_bytes: SHA-256 of the encrypted model, in hex, and its length.
        boxes: its key in boxes, canonical bytes in hex.
        at_ms: when it was made, and once submitted when it was submitted, by the host's clock.
        submitted: whether the ledger has answered.
        accepted: whether it took the commitment.
    """

    file: str
    mid: str
    salt: str
    at_ms: int
    ciphertext: str = ""
    size_bytes: int = 0
    boxes: str = ""
    submitted: bool = False
    accepted: bool = False


class ProviderMemory(OrderMemory, kw_only=True):
    """A provider's: whether the notebook still trains, since when the order takes no more models by the host's clock (0
    while it does), whether the model is revealed and in the store, and all commitments, oldest first.
    """

    training: bool = False
    stopped_ms: int = 0
    revealed: bool = False
    stored: bool = False
    commits: list[Commitment] = []


class SaltedScore(msgspec.Struct, kw_only=True):
    """A score that a validator commits to: mid, root and salt in hex, the score, and the transcript's file.

    Attributes:
        top_hash, top_total: hash (in hex) and sum of the transcript's top node.
        committed: whether the ledger has the commitment.
        closed: whether nothing is left to submit for it: it was opened, or the ledger refused to open it.
    """

    mid: str
    total: int
    count: int
    valid: bool
    root: str
    transcript: str
    salt: str
    top_hash: str
    top_total: int
    committed: bool = False
    closed: bool = False


class ValidatorMemory(OrderMemory, kw_only=True):
    """A validator's: its scores with their salts (None until there are any), whether all of them were committed to,
    whether all of those were opened, and whether their transcripts are in the store.
    """

    items: list[SaltedScore] | None = None
    committed: bool = False
    opened: bool = False
    stored: bool = False


class Difference(msgspec.Struct, kw_only=True):
    """A validation that differs from the verifier's own score: validator and mid in hex, total, count and valid."""

    validator: str
    mid: str
    seen: tuple[int, int, bool]


class VerificationReport(msgspec.Struct, kw_only=True):
    """How many opened validations of an order were checked, and those that differ."""

    order_id: str
    checked: int
    differing: list[Difference]


class PlannedChallenge(msgspec.Struct, kw_only=True):
    """A wrong example that a verifier found, and how far its challenge is.

    Attributes:
        mid, validator: whose score of which model, in hex.
        index: the example, from 0.
        transcript: the file with the validator's transcript, relative to the workspace.
        salt: opens the commitment, in hex.
        committed, opened: what the ledger has.
    """

    mid: str
    validator: str
    index: int
    transcript: str
    salt: str
    committed: bool = False
    opened: bool = False


class VerifierMemory(OrderMemory, kw_only=True):
    """A verifier's: its report, once the scores were compared, and its challenges, once it knows which to make."""

    report: VerificationReport | None = None
    challenges: list[PlannedChallenge] | None = None


M = TypeVar("M", bound=OrderMemory)


class Memories(Generic[M]):
    """A loop's memories, on disk and in memory.

    Args:
        folder: the loop's folder; made if missing. An order's own folder below it is its job's workspace.
        kind: the record of this loop's role.
    """

    def __init__(self, folder: Path, kind: type[M]) -> None:
        self.folder = folder
        make_private_folder(folder.parent)  # salts, models that are not revealed yet, opened test data
        make_private_folder(folder)
        self._active: dict[bytes, M] = {}
        self._known: set[str] = set()
        for path in folder.glob(f"*/{FILE_NAME}"):
            self._known.add(path.parent.name)
            try:
                memory = msgspec.json.decode(path.read_bytes(), type=kind)
                order_id = memory.id
            except (OSError, ValueError) as error:
                # The order stays known: were it begun again, its salts would be overwritten.
                log.error("event=memory_unreadable path=%s reason=%r", path, str(error))
                continue
            if not memory.finished:
                self._active[order_id] = memory

    def order_folder(self, order_id: bytes) -> Path:
        """Where this loop keeps everything about one order."""
        return self.folder / order_id.hex()[:24]

    def active(self) -> list[M]:
        """Memories of orders that were begun and not finished, by order id."""
        known = dict(self._active)  # another thread may ask
        return [known[order_id] for order_id in sorted(known)]

    def has(self, order_id: bytes) -> bool:
        """Whether this order was begun, finished or not."""
        return self.order_folder(order_id).name in self._known

    def write(self, memory: M) -> None:
        """Keep a memory; on return it survives a power cut. Raises OSError."""
        folder = self.order_folder(memory.id)
        make_private_folder(folder)
        replace_durably(folder / FILE_NAME, msgspec.json.format(msgspec.json.encode(memory), indent=1), mode=0o600)
        self._known.add(folder.name)
        if memory.finished:
            self._active.pop(memory.id, None)
        else:
            self._active[memory.id] = memory
