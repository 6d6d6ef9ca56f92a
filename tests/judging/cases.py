"""A small order on disk: a CNN, its test data, and transcripts of an honest validator and of a lying one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pot_lab.crypto.canonical import sha256
from pot_lab.crypto.cipher import encrypt
from pot_lab.judging import (
    CheckModel,
    CheckTestData,
    CheckTranscript,
    ExampleRow,
    FirstDifference,
    JudgeExample,
    OpenSealed,
    ProvenExample,
    TensorBytes,
    TensorSchema,
    TranscriptFile,
)
from pot_lab.judging.helper.tree_file import write_tree
from pot_lab.scoring import (
    Transcript,
    dataset_proof,
    dataset_root,
    example_leaf,
    export_model,
    model_id,
    save_dataset,
    score,
    score_function,
)
from pot_lab.scoring.dataset import Inputs, each_input


class SmallCNN(nn.Module):
    """8 x 8 images to ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(1, 8, 3, padding=1)
        self.head = nn.Linear(8 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.max_pool2d(torch.relu(self.c1(x)), 2).flatten(1))


@dataclass(frozen=True, kw_only=True)
class Case:
    """An order's files, and what is known of them."""

    folder: Path
    inputs: Inputs
    targets: Tensor
    function: str
    mid: bytes
    root: bytes
    honest: Transcript

    @property
    def graph(self) -> str:
        return str(self.folder / "graph.json")

    @property
    def weights(self) -> str:
        return str(self.folder / "weights.safetensors")

    @property
    def data(self) -> str:
        return str(self.folder / "test.safetensors")

    @property
    def tree(self) -> str:
        return str(self.folder / "test.tree")

    @property
    def examples(self) -> int:
        return len(self.targets)

    def lying(self, changes: dict[int, int]) -> Transcript:
        """The honest transcript with some values changed."""
        values = self.honest.values.copy()
        for index, value in changes.items():
            values[index] = value
        return Transcript(self.honest.function, True, values)

    def proven(self, index: int) -> ProvenExample:
        tensors = [*(x[index] for x in each_input(self.inputs)), self.targets[index]]
        return ProvenExample(
            tensors=tuple(
                TensorBytes(dtype=str(t.dtype).removeprefix("torch."), shape=tuple(t.shape), data=t.numpy().tobytes())
                for t in tensors
            ),
            proof=dataset_proof(self.inputs, self.targets, index),
        )

    def dispute(self, transcript: Transcript, index: int, *, row: bool = False) -> JudgeExample:
        """The dispute of one leaf of a transcript."""
        return JudgeExample(
            graph=self.graph,
            weights=self.weights,
            mid=self.mid,
            function=self.function,
            test_root=self.root,
            examples=self.examples,
            example=ExampleRow(path=self.data, tree=self.tree) if row else self.proven(index),
            transcript_root=transcript.root,
            leaves_total=transcript.tree.total,
            valid=transcript.valid,
            leaf=int(transcript.values[index]),
            proof=transcript.proof(index),
        )

    @property
    def graph_digest(self) -> bytes:
        return sha256(Path(self.graph).read_bytes())

    def test_data(self) -> CheckTestData:
        return CheckTestData(
            path=self.data,
            root=self.root,
            examples=self.examples,
            schema=tuple(
                TensorSchema(dtype=str(t.dtype).removeprefix("torch."), shape=tuple(t.shape[1:]))
                for t in (*each_input(self.inputs), self.targets)
            ),
            graph=self.graph,
            graph_digest=self.graph_digest,
            function=self.function,
            tree=self.tree + ".new",
        )

    def model(self) -> CheckModel:
        return CheckModel(graph=self.graph, weights=self.weights, mid=self.mid)

    def transcript_file(self, transcript: Transcript) -> TranscriptFile:
        path = self.folder / transcript.digest.hex()
        path.write_bytes(transcript.data)
        return TranscriptFile(path=str(path), root=transcript.root)

    def sealed(self, key: bytes) -> OpenSealed:
        """The weights, encrypted."""
        path = self.folder / "weights.sealed"
        path.write_bytes(encrypt(key, Path(self.weights).read_bytes()))
        return OpenSealed(
            ciphertext=str(path),
            digest=sha256(path.read_bytes()),
            key=key,
            target=str(self.folder / "opened.safetensors"),
            limit_bytes=1 << 20,
            promised=sha256(Path(self.weights).read_bytes()),
        )

    def opened(self, transcript: Transcript) -> CheckTranscript:
        return CheckTranscript(
            path=self.transcript_file(transcript).path,
            root=transcript.root,
            leaves_total=transcript.tree.total,
            examples=self.examples,
            function=self.function,
            valid=transcript.valid,
            total=transcript.total,
        )

    def difference(self, first: Transcript, second: Transcript) -> FirstDifference:
        return FirstDifference(
            first=self.transcript_file(first),
            second=self.transcript_file(second),
            examples=self.examples,
            function=self.function,
        )

    def with_weights(self, weights: bytes) -> Case:
        """The same order with another model's weights file, whose id is computed from it."""
        Path(self.weights).write_bytes(weights)
        mid = model_id(hashlib.sha256(Path(self.graph).read_bytes()).digest(), weights)
        return replace(self, mid=mid)


def make_case(folder: Path, *, examples: int = 20, function: str = "cross_entropy/1") -> Case:
    """Files of an order in a folder."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        net = SmallCNN()
        inputs = torch.randn(examples, 1, 8, 8)
        targets = torch.arange(examples) % 10
    return case_of(folder, net, (inputs,), targets, function)


def case_of(folder: Path, net: nn.Module, inputs: tuple[Tensor, ...], targets: Tensor, function: str) -> Case:
    """Files of an order for any model and data."""
    artifact = export_model(net, tuple(x[:2] for x in inputs))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "graph.json").write_bytes(artifact.graph)
    (folder / "weights.safetensors").write_bytes(artifact.weights)
    given = inputs if len(inputs) > 1 else inputs[0]
    save_dataset(folder / "test.safetensors", given, targets)
    write_tree(folder / "test.tree", (example_leaf(given, targets, i) for i in range(len(targets))))
    return Case(
        folder=folder,
        inputs=given,
        targets=targets,
        function=score_function(function).identifier,
        mid=model_id(hashlib.sha256(artifact.graph).digest(), artifact.weights),
        root=dataset_root(given, targets),
        honest=score((artifact.graph, artifact.weights), given, targets, function).transcript,
    )


def marks(case: Case, marked: dict[int, int]) -> Transcript:
    """A transcript that calls the score invalid, with these marks."""
    values = np.zeros(case.examples, dtype=np.uint8)
    for index, value in marked.items():
        values[index] = value
    return Transcript(case.honest.function, False, values)
