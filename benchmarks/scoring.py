"""What an exact score costs: CPU time against ordinary float32 evaluation of the same module, one thread.

    python benchmarks/scoring.py [--json] [--repeats N]

Times are the least of several repeats of this process's CPU time, so that a busy machine disturbs them little. Also
measured: the relative error of the outputs against float64, export and load of a model, the self-test, and the size
of transcripts.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pot_lab.scoring import export_model, load_graph, run_self_test, score


class DigitsCNN(nn.Module):
    """What the demo orders: 8 x 8 images, two convolutions, batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.b1 = nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.c2, self.b2 = nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32)
        self.head = nn.Linear(32 * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.b1(self.c1(x))), 2)
        return self.head(F.max_pool2d(F.relu(self.b2(self.c2(x))), 2).flatten(1))


class ResNetBlock(nn.Module):
    """Two 3 x 3 convolutions of 64 channels with batch norm and a residual, then class scores."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(64, 64, 3, padding=1, bias=False) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(64) for _ in range(2))
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norms[0](self.convolutions[0](x)))
        y = F.relu(self.norms[1](self.convolutions[1](y)) + x)
        return self.head(y.mean((2, 3)))


def wide_mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(1024, 4096), nn.ReLU(), nn.Linear(4096, 1024))


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "MLP 1024-4096-1024": (wide_mlp, (1024,), 512),
    "CNN on digits": (DigitsCNN, (1, 8, 8), 512),
    "ResNet block, 64 channels, 32 x 32": (ResNetBlock, (64, 32, 32), 16),
}


def cpu_s(run: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        began = time.process_time()
        run()
        times.append(time.process_time() - began)
    return min(times)


def measured(make: Callable[[], nn.Module], shape: tuple[int, ...], count: int, repeats: int) -> dict[str, Any]:
    torch.manual_seed(0)
    module, inputs = make().eval(), torch.randn(count, *shape)
    began = time.process_time()
    artifact = export_model(module, inputs[:2])
    export_s = time.process_time() - began
    began = time.process_time()
    graph = load_graph(artifact.graph)
    load_s = time.process_time() - began
    exact = graph.exact(artifact.weights)
    batch = exact.default_batch_size()
    targets = torch.randint(0, graph.outputs[0].shape[0], (count,))
    with torch.inference_mode():
        reference = copy.deepcopy(module).double()(inputs.double())
        float32 = cpu_s(lambda: module(inputs), repeats)
        twin, wide = copy.deepcopy(module).double(), inputs.double()
        float64 = cpu_s(lambda: twin(wide), repeats)
    outputs = torch.cat([exact.run(inputs[i : i + batch])[0] for i in range(0, count, batch)])
    exact_s = cpu_s(lambda: [exact.run(inputs[i : i + batch]) for i in range(0, count, batch)], repeats)
    whole = cpu_s(lambda: score(exact, inputs, targets, "cross_entropy"), repeats)
    return {
        "examples": count,
        "batch": batch,
        "float32_ms": 1e3 * float32,
        "exact_ms": 1e3 * exact_s,
        "score_ms": 1e3 * whole,
        "float64_ratio": float64 / float32,
        "exact_ratio": exact_s / float32,
        "relative_error": float((outputs - reference).abs().max() / reference.abs().max()),
        "export_s": export_s,
        "load_s": load_s,
        "transcript_bytes": len(score(exact, inputs, targets, "cross_entropy").transcript.data),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    export_model(nn.Linear(1, 1), torch.zeros(2, 1))  # torch loads its exporter on first use
    began = time.process_time()
    run_self_test()
    report: dict[str, Any] = {
        "torch": torch.__version__,
        "machine": platform.machine(),
        "threads": 1,
        "self_test_s": time.process_time() - began,
        "cases": {name: measured(*case, options.repeats) for name, case in CASES.items()},
    }
    if options.json:
        print(json.dumps(report))
        return
    print(f"torch {report['torch']}, {report['machine']}, one thread; self-test {report['self_test_s'] * 1e3:.0f} ms")
    for name, case in report["cases"].items():
        print(
            f"{name:36} float32 {case['float32_ms']:8.1f} ms  float64 x{case['float64_ratio']:.1f}"
            f"  exact x{case['exact_ratio']:.1f}"
            f"  error {case['relative_error']:.0e}  export {case['export_s']:.2f} s  load {case['load_s']:.3f} s"
        )


if __name__ == "__main__":
    main()
