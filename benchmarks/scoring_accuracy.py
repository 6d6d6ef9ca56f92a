"""How close exact scores come to float64: every model family after a short training on real data.

`tests/scoring/trained.py` says what is trained, on what. An error is the largest difference from float64 over the
largest output; in brackets the length of all differences over the length of all outputs.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from report import main

from pot_lab.scoring import exact_model, load_graph, score, trainable
from tests.scoring import numpy_scoring
from tests.scoring.models import FUNCTIONS
from tests.scoring.trained import TRAINED, errors, trained

COUNTING = ("accuracy/1", "macro_f1[classes=4]/1", "top_k_accuracy[k=3]/1")


def totals(name: str) -> dict[str, dict[str, int]]:
    """Totals of every score function of a family: of float64's outputs, with one slice, with two."""
    model = trained(name)
    graph = load_graph(model.artifact.graph)
    twin = trainable(graph, model.artifact.weights).double().eval()
    with torch.no_grad():
        outputs = twin(model.inputs.double() if model.inputs.is_floating_point() else model.inputs).numpy()
    exact = exact_model(graph, model.artifact.weights)
    return {
        function: {
            "float64": numpy_scoring.scored(function, outputs, model.targets.numpy())[1],
            **{f"slices={n}": score(exact, model.inputs, model.targets, function, slices=n).total for n in (1, 2)},
        }
        for function in FUNCTIONS[name]
    }


def measure(_chosen: argparse.Namespace) -> dict[str, Any]:
    """Every family, on one thread."""
    torch.set_num_threads(1)
    report: dict[str, Any] = {}
    for name in TRAINED:
        model = trained(name)
        report[name] = {
            "parameters": sum(p.numel() for p in model.module.parameters()),
            "examples": len(model.targets),
            "first_loss": model.first_loss,
            "last_loss": model.last_loss,
            "errors": errors(name),
            "totals": totals(name),
        }
    return report


def show(report: dict[str, Any]) -> str:
    """A line a family."""
    lines: list[str] = []
    for name, found in report.items():
        ways = "  ".join(f"{way} {e['largest']:.1e} ({e['length']:.1e})" for way, e in found["errors"].items())
        counts = "  ".join(
            f"{f} {t['float64']}, {t['slices=1']}, {t['slices=2']}" for f, t in found["totals"].items() if f in COUNTING
        )
        lines.append(f"{name:10} loss {found['first_loss']:.2f} -> {found['last_loss']:.2f}  {ways}  {counts}")
    return "\n".join(lines)


if __name__ == "__main__":
    main(__doc__, measure, show=show)
