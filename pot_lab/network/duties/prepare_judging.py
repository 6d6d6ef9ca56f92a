"""Open the test data and models that have to be judged: whether they are what was promised, and by one example where
scores are in dispute.

A judgement reads one row of the opened data by its Merkle tree, so its cost does not grow with the data; opening and
checking them does, and is done here, by a helper process, as soon as the key is known or a dispute can be foreseen
(protocol.md, "Judging"). What was opened lies in a folder for each file, and goes with the question. Nothing here
waits.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from pot_lab.files import make_private_folder
from pot_lab.judging import CheckTestData, ExampleRow, Finding, JudgeBody, Judgement, JudgePool, OpenSealed
from pot_lab.judging.records import not_judged
from pot_lab.network.duties.duty import log

FIRST_RETRY_MS = 1_000
LONGEST_RETRY_MS = 60_000
LOOK_EVERY_MS = 1_000
BASE_WALL_S = 120.0
LEAST_BYTES_PER_S = 5 << 20
OPENED_BYTES = 64 << 30
"""How much opened test data an aggregator has at once; further orders wait."""
JUDGING_FOLDER = "judging"
"""In an aggregator's data."""
_GONE = ".gone."
DATA_FILE, TREE_FILE = "test.safetensors", "test.tree"


class DisputedTest(NamedTuple):
    """The test data of one order, and what they must be: paths of this host's copies of ciphertext and graph, SHA-256
    of the ciphertext, the released key, and of the opened data length in bytes, SHA-256, Merkle root and number of
    examples.
    """

    ciphertext: Path
    digest: bytes
    key: bytes
    plain_bytes: int
    plain_digest: bytes
    root: bytes
    examples: int
    graph: Path
    graph_digest: bytes
    function: str


class OpenedModel(NamedTuple):
    """A model and what it must be: path of this host's copy of the ciphertext, its SHA-256, the released key, the most
    bytes that the model can have, the graph's SHA-256, and the model's id.
    """

    ciphertext: Path
    digest: bytes
    key: bytes
    plain_bytes: int
    graph_digest: bytes
    mid: bytes


class _Opening:
    """How far one file is."""

    def __init__(self, test: DisputedTest | OpenedModel, folder: Path) -> None:
        self.test, self.folder = test, folder
        self.opened = False
        self.verdict: Judgement | None = None
        self.asked = False
        self.failures = 0
        self.again_ms = 0

    @property
    def row(self) -> ExampleRow:
        """What a judgement reads an example from."""
        return ExampleRow(path=str(self.folder / DATA_FILE), tree=str(self.folder / TREE_FILE))

    @property
    def is_right(self) -> bool:
        """Whether it is open and what was promised."""
        return self.verdict is not None and self.verdict.finding is Finding.RIGHT

    @property
    def is_last(self) -> bool:
        """Whether what is to be done next decides: a model only has to open, test data are checked then."""
        return self.opened or isinstance(self.test, OpenedModel)

    @property
    def question(self) -> JudgeBody:
        """What is to be done next."""
        test, row = self.test, self.row
        if isinstance(test, OpenedModel) or not self.opened:
            return OpenSealed(
                ciphertext=str(test.ciphertext),
                digest=test.digest,
                key=test.key,
                target=row.path,
                limit_bytes=test.plain_bytes,
                promised=test.mid if isinstance(test, OpenedModel) else test.plain_digest,
                graph_digest=test.graph_digest if isinstance(test, OpenedModel) else b"",
            )
        return CheckTestData(
            path=row.path,
            root=test.root,
            examples=test.examples,
            schema=None,
            graph=str(test.graph),
            graph_digest=test.graph_digest,
            function=test.function,
            tree=row.tree,
        )


class DueTests(Protocol):
    """Which files shall be open."""

    def note(self, events: Sequence[bytes]) -> None:
        """A batch caused these events."""

    def due(self) -> Mapping[bytes, DisputedTest | OpenedModel]:
        """Which these are now: test data by order id, models by another name of their own."""

    def is_one_near(self) -> bool:
        """Whether a file will be due within seconds."""


class PrepareJudging:
    """Keeps the test data and models open that have to be judged, or may have to be judged with.

    Args:
        due: which those are.
        root: the folder for what is opened; what an earlier process left there is removed.
        pool: the helpers, of which nobody else collects.
        limit_bytes: how much may be open at once.
    """

    def __init__(self, due: DueTests, root: Path, pool: JudgePool, *, limit_bytes: int = OPENED_BYTES) -> None:
        self._due, self._root, self._pool, self._limit_bytes = due, root, pool, limit_bytes
        self._openings: dict[bytes, _Opening] = {}
        self._look_ms = 0
        self._number = 0
        self._begun = False

    def row_of(self, order_id: bytes) -> ExampleRow | None:
        """Where a judgement reads this order's examples; None while they are not open or not what was promised."""
        opening = self._openings.get(order_id)
        if opening is None or not isinstance(opening.test, DisputedTest):
            return None
        return opening.row if opening.is_right else None

    def model_of(self, name: bytes) -> str | None:
        """The path of an opened model; None while it is not open or not what was promised."""
        opening = self._openings.get(name)
        if opening is None or not isinstance(opening.test, OpenedModel) or not opening.is_right:
            return None
        return opening.row.path

    def rows(self) -> dict[bytes, ExampleRow]:
        """The orders whose test data are open and what was promised, and where."""
        return {order_id: row for order_id in self._openings if (row := self.row_of(order_id)) is not None}

    def verdict_of(self, name: bytes) -> Judgement | None:
        """Whether the file of this name is what was promised; None while that is not known."""
        opening = self._openings.get(name)
        return None if opening is None else opening.verdict

    def on_batch(self, sequence: int, time_ms: int, events: tuple[bytes, ...]) -> None:
        """Look at the ledger with the next poll."""
        self._due.note(events)
        self._look_ms = 0

    def poll(self, now_ms: int) -> list[bytes]:
        """Open what is due, remove what is not any more; submits nothing."""
        if not self._begun:
            self._begun = True
            for left in (self._root, *self._root.parent.glob(f"{_GONE}{self._root.name}.*")):
                self._remove(left)
        self._collect(now_ms)
        if now_ms >= self._look_ms:
            self._look_ms = now_ms + LOOK_EVERY_MS
            due = self._due.due()
            for order_id in self._openings.keys() - due.keys():
                self._remove(self._openings.pop(order_id).folder)
            self._begin(due)
            if self._due.is_one_near():
                self._pool.prepare()
        for order_id, opening in self._openings.items():
            if opening.verdict is None and not opening.asked and now_ms >= opening.again_ms:
                self._ask(order_id, opening, now_ms)
        return []

    def close(self) -> None:
        """End the helpers. Called when the aggregator stops."""
        self._pool.close()

    def _begin(self, due: Mapping[bytes, DisputedTest | OpenedModel]) -> None:
        taken_bytes = sum(each.test.plain_bytes for each in self._openings.values())
        for order_id, test in due.items():
            if order_id not in self._openings and taken_bytes + test.plain_bytes <= self._limit_bytes:
                taken_bytes += test.plain_bytes
                # A folder of its own for each opening: what an earlier one left may still be on its way out.
                self._number += 1
                self._openings[order_id] = _Opening(test, self._root / f"{order_id.hex()[:64]}.{self._number}")

    def _ask(self, order_id: bytes, opening: _Opening, now_ms: int) -> None:
        row = opening.row
        try:
            make_private_folder(opening.folder)
            for path in (Path(row.tree), *(() if opening.opened else (Path(row.path),))):
                path.unlink(missing_ok=True)  # a helper that was killed leaves a beginning
        except OSError as error:
            self._again(order_id, opening, not_judged("NoFolder", str(error)), now_ms)
            return
        opening.asked = True
        wall_s = BASE_WALL_S + opening.test.plain_bytes / LEAST_BYTES_PER_S
        self._pool.submit((order_id, opening.folder), opening.question, wall_s=wall_s)

    def _collect(self, now_ms: int) -> None:
        for key, judgement in self._pool.collect():
            opening = self._openings.get(key[0]) if isinstance(key, tuple) else None
            if opening is None or not isinstance(key, tuple) or opening.folder != key[1]:
                continue
            opening.asked = False
            if judgement.finding is Finding.WRONG or (opening.is_last and judgement.finding is Finding.RIGHT):
                opening.verdict = judgement
                what = "model" if isinstance(opening.test, OpenedModel) else "test_data"
                log.info("event=%s_opened order=%s finding=%s", what, key[0].hex()[:16], judgement.finding)
            elif judgement.finding is Finding.RIGHT:
                opening.opened = True
            else:
                self._again(key[0], opening, judgement, now_ms)

    def _again(self, order_id: bytes, opening: _Opening, judgement: Judgement, now_ms: int) -> None:
        """It could not be done here: again later, and later."""
        opening.again_ms = now_ms + min(LONGEST_RETRY_MS, FIRST_RETRY_MS << min(opening.failures, 16))
        opening.failures += 1
        log.warning(
            "event=not_opened order=%s code=%s reason=%r",
            order_id.hex()[:16],
            judgement.code,
            judgement.reason,
        )

    def _remove(self, folder: Path) -> None:
        """Remove a folder on a thread: large files take their time. It is moved away first, so that the same name may
        be used again at once.
        """
        self._number += 1
        moved = folder.with_name(f"{_GONE}{folder.name}.{os.getpid()}.{self._number}")
        with contextlib.suppress(FileNotFoundError):
            folder.rename(moved)
            threading.Thread(
                target=shutil.rmtree, args=(moved,), kwargs={"ignore_errors": True}, name="judging-prune", daemon=True
            ).start()
