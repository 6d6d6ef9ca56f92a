"""Whether opened test data and an opened model are what was promised before anybody could open them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pot_lab.errors import PotLabError
from pot_lab.judging.helper.example import known_function
from pot_lab.judging.helper.faults import is_fault
from pot_lab.judging.helper.files import CopyDamaged, check_file, read_copy, sha256_of_file
from pot_lab.judging.helper.tree_file import write_tree
from pot_lab.judging.records import REASON_CHARACTERS, CheckModel, CheckTestData, Finding, Judgement, TensorSchema
from pot_lab.scoring import (
    DEFAULT_LIMITS,
    DatasetFile,
    ModelGraph,
    ScoreFunction,
    example_leaf,
    load_graph,
    load_weights,
    model_id,
)
from pot_lab.scoring.dataset import each_input
from pot_lab.scoring.errors import BadDataset, BadWeights
from pot_lab.scoring.tensor_file import dtype_name

_RELEASED_ROWS = 4_096


def wrong(problem: PotLabError) -> Judgement:
    """What was claimed does not hold, by this rule. Raises the problem where it is a fault of this machine."""
    if isinstance(problem, CopyDamaged) or is_fault(problem):
        raise problem
    return Judgement(finding=Finding.WRONG, code=problem.code, reason=str(problem)[:REASON_CHARACTERS])


def check_test_data(request: CheckTestData) -> Judgement:
    """Whether a data file has the promised examples under the promised root, in the promised form, and can be scored.
    The Merkle tree is left at `request.tree` if so, and only then.

    A graph that cannot be loaded is the client's fault too: nothing can be scored with it.

    Raises:
        CopyDamaged: this host's files are at fault.
        PotLabError: the function is no order's.
    """
    function = known_function(request.function)
    if sha256_of_file(request.graph, 1 << 62, "graph file") != request.graph_digest:
        raise CopyDamaged("the graph file is not the one that is meant")
    check_file(request.path, 1 << 62, "test data file")
    tree, keep = Path(request.tree), False
    try:
        graph = load_graph(read_copy(request.graph, DEFAULT_LIMITS.graph_bytes, "graph file"))
        _check_data(request, tree, graph, function)
        keep = True
    except FileExistsError as error:
        keep = True  # it is not ours to remove
        raise CopyDamaged("there is a file where the tree of the test data goes") from error
    except (OSError, ValueError) as error:
        raise CopyDamaged("the test data cannot be checked here", seen=f"{type(error).__name__}: {error}") from error
    except PotLabError as problem:
        return wrong(problem)
    finally:
        if not keep:
            with contextlib.suppress(OSError, ValueError):
                tree.unlink(missing_ok=True)
    return Judgement(finding=Finding.RIGHT)


def _check_data(request: CheckTestData, tree: Path, graph: ModelGraph, function: ScoreFunction) -> None:
    data = DatasetFile(Path(request.path))
    if data.examples != request.examples:
        raise BadDataset("another number of examples", seen=data.examples, wanted=request.examples)
    found = tuple(
        TensorSchema(dtype=dtype_name(each.dtype), shape=tuple(each.shape[1:]))
        for each in (*each_input(data.inputs), data.targets)
    )
    if request.schema is not None and found != request.schema:
        raise BadDataset("another schema", seen=found, wanted=request.schema)
    if write_tree(tree, _leaves(data)) != request.root:
        raise BadDataset("other examples than the root names", wanted=request.root)
    data.check(graph, function)


def _leaves(data: DatasetFile) -> Iterator[bytes]:
    for index in range(data.examples):
        yield example_leaf(data.inputs, data.targets, index)
        if index % _RELEASED_ROWS == 0:
            data.release()


def check_model(request: CheckModel) -> Judgement:
    """Whether graph and weights have the model's id, and the weights the graph's names, shapes and number types.

    Raises:
        CopyDamaged: this host's files are at fault.
        PotLabError: the graph is no order's.
    """
    graph = load_graph(read_copy(request.graph, DEFAULT_LIMITS.graph_bytes, "graph file"))
    try:
        weights = read_copy(request.weights, DEFAULT_LIMITS.weights_bytes, "weights file")
        if model_id(graph.sha256, weights) != request.mid:
            raise BadWeights("graph and weights have another model id", wanted=request.mid)
        load_weights(graph, weights)
    except PotLabError as problem:
        return wrong(problem)
    return Judgement(finding=Finding.RIGHT)
