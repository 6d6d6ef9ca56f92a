"""Scores equal to the bit on every machine: models as data, exact arithmetic, score functions, transcripts.

Depends on neither the ledger nor the network. Importing this package imports torch.
"""

from pot_lab.scoring.dataset import (
    Dataset,
    DatasetFile,
    check_dataset,
    dataset_proof,
    dataset_root,
    example_leaf,
    pack_dataset,
    save_dataset,
    unpack_dataset,
)
from pot_lab.scoring.evaluate import ExampleScore, Score, score, score_example, score_file, score_opened, unusable_score
from pot_lab.scoring.exact_model import ExactModel, exact_model
from pot_lab.scoring.export.writer import ModelArtifact, export_model
from pot_lab.scoring.functions import (
    FUNCTIONS,
    ScoreFunctionInfo,
    score_function,
    score_functions,
)
from pot_lab.scoring.given_data import Inputs
from pot_lab.scoring.graph.model_graph import ModelGraph, model_id
from pot_lab.scoring.graph.reader import load_graph
from pot_lab.scoring.graph.weights import load_weights
from pot_lab.scoring.limits import DEFAULT_LIMITS, Limits
from pot_lab.scoring.score_records import ScoreFunction
from pot_lab.scoring.self_test import run_self_test
from pot_lab.scoring.trainable import TrainableModel, trainable
from pot_lab.scoring.transcript import Transcript, first_difference, parse_transcript

__all__ = [
    "DEFAULT_LIMITS",
    "FUNCTIONS",
    "Dataset",
    "DatasetFile",
    "ExactModel",
    "ExampleScore",
    "Inputs",
    "Limits",
    "ModelArtifact",
    "ModelGraph",
    "Score",
    "ScoreFunction",
    "ScoreFunctionInfo",
    "TrainableModel",
    "Transcript",
    "check_dataset",
    "dataset_proof",
    "dataset_root",
    "exact_model",
    "example_leaf",
    "export_model",
    "load_graph",
    "load_weights",
    "model_id",
    "pack_dataset",
    "first_difference",
    "parse_transcript",
    "run_self_test",
    "save_dataset",
    "score",
    "score_example",
    "score_file",
    "score_function",
    "score_functions",
    "score_opened",
    "trainable",
    "unpack_dataset",
    "unusable_score",
]
