"""What a job's notebook works on: a folder that its supervisor filled, and into which it puts its results.

The notebook holds no key and uses no network. The supervisor downloads and checks data, signs and submits; the notebook
trains or scores. So a miner's own recipe needs these few calls only, and a mistake in it can cost no more than the job.

    order.json         the order's facts, in plain JSON (title, score function, deadline, ...)
    graph.json         the model's graph            weights.safetensors   its initial weights
    train.safetensors  training data (provider)     test.safetensors      opened test data (validator, verifier)
    models/            models made (provider) or to be scored (validator): safetensors
    submitted.jsonl    one line for each model that was submitted
    results.json       scores (validator, verifier)
    transcripts/       per-example results
    checkpoints/       whatever the trainer needs to resume
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from pot_lab.errors import PotLabError
from pot_lab.files import make_private_folder, move_durably, replace_durably


class BadWorkspace(PotLabError):
    """A folder is not the workspace that the notebook needs, or its files are not what they should be.

    What to do: run the notebook by `pot-lab mine`, which fills the folder.
    """


Hex32 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class ScoringResult(msgspec.Struct, kw_only=True):
    """One model's score, as `results.json` holds it.

    Attributes:
        mid, root, top_hash: the model's id, the transcript's root and the hash of its tree's top node, 32 bytes in hex.
        total, count, valid: the score, see `ClaimScore`.
        top_total: the sum of the transcript's leaves.
        transcript: the transcript's file, relative to the workspace.
        error: why the model is not usable, or None.
    """

    mid: Hex32
    total: int
    count: int
    valid: bool
    root: Hex32
    top_hash: Hex32
    top_total: int
    transcript: str
    error: str | None = None


def read_results(folder: Path) -> list[ScoringResult] | None:
    """A scoring job's results; None while there are none.

    Raises:
        BadWorkspace: `results.json` does not hold what `ScoringTask.score_all` writes.
    """
    try:
        raw = (folder / "results.json").read_bytes()
    except FileNotFoundError:
        return None
    try:
        return msgspec.json.decode(raw, type=list[ScoringResult])
    except msgspec.DecodeError as error:
        raise BadWorkspace(
            "the notebook's results cannot be read", seen=f"{folder / 'results.json'}: {error}"
        ) from error


class Workspace:
    """A job's folder, read by the notebook and by its supervisor.

    Attributes:
        folder: where it is.
        order: the facts in `order.json`.

    Raises:
        BadWorkspace: the folder has no readable `order.json`.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        try:
            self.order: dict[str, Any] = json.loads((self.folder / "order.json").read_text())
        except (OSError, ValueError) as error:
            raise BadWorkspace(
                "the folder is not a job's workspace", seen=str(folder), wanted="a folder with order.json"
            ) from error

    @classmethod
    def create(cls, folder: Path, order: dict[str, Any], files: Mapping[str, bytes | Path]) -> Workspace:
        """Lay out a workspace; `order.json` is written last, so an incomplete workspace has none.

        Args:
            folder: the workspace's folder; made if missing.
            order: facts for the notebook, JSON values.
            files: contents, or files of the same disk to link to, by path below the folder.
        """
        make_private_folder(folder)
        for name, content in files.items():
            path = folder / name
            make_private_folder(path.parent)
            if isinstance(content, bytes):
                replace_durably(path, content, mode=0o600)
            else:
                _link_or_copy(content, path)
        replace_durably(folder / "order.json", json.dumps(order, indent=1).encode(), mode=0o600)
        return cls(folder)

    def read(self, name: str) -> bytes:
        """The bytes of one file, by its path below the folder. Raises OSError."""
        return (self.folder / name).read_bytes()

    @property
    def graph(self) -> bytes:
        """The order's model graph: canonical JSON."""
        return self.read("graph.json")


def _link_or_copy(source: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name[:32]}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            os.link(source, temporary)
        except OSError:  # another disk, or one without links
            shutil.copyfile(source, temporary)
            temporary.chmod(0o600)
        move_durably(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


class TrainingTask(Workspace):
    """A provider's job: train the order's model until the deadline, submitting each time it got better.

    Example:
        >>> task = TrainingTask(workspace)
        >>> inputs, targets = task.train_data()
        >>> task.submit(task.weights, validation_score=0.5, step=1)
    """

    @property
    def seconds_left(self) -> float:
        """Seconds until the last moment at which a submission is sure to be committed."""
        return float(self.order["stop_training_ms"]) / 1000 - time.time()

    @property
    def weights(self) -> bytes:
        """Initial weights: safetensors."""
        return self.read("weights.safetensors")

    def train_data(self) -> tuple[Any, Any]:
        """Training examples as tensors `(inputs, targets)`, checked against the limits of a stranger's file; `inputs`
        is a tuple where the model has several. They lie in memory-mapped pages, so they may be larger than memory, and
        changes to them never reach the file."""
        from pot_lab.scoring import DatasetFile
        from pot_lab.scoring.dataset import Dataset, unpack_dataset
        from pot_lab.scoring.errors import BadDataset

        try:
            file = DatasetFile(self.folder / "train.safetensors")
        except BadDataset:  # whole, a file may be good that cannot be mapped: its tensors begin at odd places
            return unpack_dataset(self.read("train.safetensors"))
        file.check_finite()
        return Dataset(file.inputs, file.targets)

    @property
    def checkpoints(self) -> Path:
        """A folder that a resumed job finds as its predecessor left it."""
        folder = self.folder / "checkpoints"
        make_private_folder(folder)
        return folder

    def submit(self, weights: bytes, validation_score: float, step: int) -> None:
        """Submit a better model to the supervisor, which commits to it at once.

        Args:
            weights: safetensors with the graph's tensors.
            validation_score: the provider's own estimate, for its records only.
            step: the training step that the model comes from.
        """
        folder = self.folder / "models"
        make_private_folder(folder)
        newest = max((int(path.stem) for path in folder.glob("*.safetensors") if path.stem.isdecimal()), default=0)
        name = f"{newest + 1:05d}.safetensors"  # the supervisor removes those that are out of use, never the newest
        replace_durably(folder / name, weights, mode=0o600)
        line = {
            "file": name,
            "validation_score": float(validation_score),
            "step": int(step),
            "time_ms": time.time_ns() // 1_000_000,
        }
        with open(os.open(self.folder / "submitted.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a") as log:
            log.write(json.dumps(line) + "\n")

    def record_evidence(self, evidence: dict[str, Any]) -> None:
        """Keep what the model was trained with: device, precision, versions, seeds, time."""
        replace_durably(self.folder / "evidence.json", json.dumps(evidence, indent=1, default=str).encode(), mode=0o600)


class ScoringTask(Workspace):
    """A validator's or verifier's job: score every model of the order exactly, on the opened test data."""

    def test_data(self) -> Any:
        """The test examples as a `DatasetFile`, whose `inputs` and `targets` are read where they are looked at."""
        from pot_lab.scoring import DatasetFile

        return DatasetFile(self.folder / "test.safetensors")

    def score_all(self, on_scored: Callable[[int, int, dict[str, Any]], None] | None = None) -> list[dict[str, Any]]:
        """Check this machine's arithmetic, score all models, and write results and transcripts for the supervisor.

        Test data are read a batch at a time, so memory does not grow with them. A model whose file is no usable set of
        weights gets an invalid score, which ranks last; that too is the same on every machine.

        Args:
            on_scored: called with (how many are done, of how many, the result).
        Returns: one dictionary for each model: mid, total, count, valid, root (hex), transcript (file), error.
        Raises:
            SelfTestFailed: this machine's arithmetic is not exact; it must not score.
            BadWorkspace, BadDataset, ...: the test data are not what the order promised; nobody can score with them.
        """
        from pot_lab.scoring import exact_model, load_graph, score_opened, unusable_score
        from pot_lab.scoring.self_test import run_self_test

        run_self_test()
        data = self.test_data()
        root = data.root().hex()
        if root != self.order["test_root"]:
            raise BadWorkspace(
                "the test data do not hash to the order's root", seen=root, wanted=self.order["test_root"]
            )
        function, graph = self.order["score"], load_graph(self.graph)
        data.check(graph, function)  # what is wrong here is the client's fault, not a model's
        mids, results = self.order["models"], []
        oversize: dict[str, str] = self.order.get("oversize", {})
        make_private_folder(self.folder / "transcripts")
        for done, mid in enumerate(mids, 1):
            try:
                if mid in oversize:
                    raise BadWorkspace("the model's file is larger than the order's model can be", seen=oversize[mid])
                exact, error = exact_model(graph, self.read(f"models/{mid}.safetensors")), None
                scored = score_opened(exact, data, function)
            except PotLabError as failure:
                scored, error = unusable_score(function, data.examples), str(failure)
            name = f"transcripts/{mid}.bin"
            replace_durably(self.folder / name, scored.transcript.data, mode=0o600)
            result: dict[str, Any] = msgspec.to_builtins(
                ScoringResult(
                    mid=mid,
                    total=scored.total,
                    count=scored.count,
                    valid=scored.valid,
                    root=scored.root.hex(),
                    top_hash=scored.transcript.tree.top.hash.hex(),
                    top_total=scored.transcript.tree.top.total,
                    transcript=name,
                    error=error,
                )
            )
            results.append(result)
            if on_scored:
                on_scored(done, len(mids), result)
        replace_durably(self.folder / "results.json", json.dumps(results, indent=1).encode(), mode=0o600)
        return results
