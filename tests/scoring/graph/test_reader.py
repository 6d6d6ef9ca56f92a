"""A graph file is decoded, traced and checked once; see also `test_hostile_files.py` for what is refused."""

from __future__ import annotations

import dataclasses

import pytest

from pot_lab.scoring.errors import CostLimit, HostileGraph
from pot_lab.scoring.graph.model_graph import GraphDocument, ModelGraph, encode_graph
from pot_lab.scoring.graph.reader import load_graph, read_document
from pot_lab.scoring.graph.tracing import check_document
from pot_lab.scoring.limits import DEFAULT_LIMITS
from tests.scoring.graphs import document

GRAPH = encode_graph(document())


def test_a_graph_is_its_document_and_what_was_traced() -> None:
    read = read_document(GRAPH)
    outputs, cost = check_document(read)
    assert type(read) is GraphDocument
    assert load_graph(GRAPH) == ModelGraph(**vars(read), outputs=outputs, cost=cost)


def test_a_graph_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_graph(GRAPH).outputs = ()


def test_a_file_is_checked_once_for_the_same_limits() -> None:
    tight = dataclasses.replace(DEFAULT_LIMITS, work=1)
    assert load_graph(GRAPH) is load_graph(bytes(bytearray(GRAPH)))
    with pytest.raises(CostLimit):
        load_graph(GRAPH, tight)
    for _ in range(2):
        with pytest.raises(HostileGraph):
            load_graph(GRAPH + b" ")
