"""What an exact score costs: CPU time against ordinary float32 evaluation of the same module, on one thread.

Each repeat takes its turns one after the other (float32, float64, exact, exact with two slices), and a ratio is the
median over the repeats of the ratio within one, so that a busy machine disturbs them little. Also measured: elementary
functions against torch's own, the error of the outputs, training by a graph against training by its module, export
and load of a model of a hundred layers, transcripts, the self-test, and peak memory for a small and a large data file.
"""

from __future__ import annotations

import argparse
import copy
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from report import main
from torch import Tensor, nn

from pot_lab.crypto.merkle import SumTree
from pot_lab.scoring import (
    backends,
    elementwise,
    exact_model,
    export_model,
    load_graph,
    run_self_test,
    save_dataset,
    trainable,
)
from pot_lab.scoring.graph.reader import read_document
from pot_lab.scoring.graph.tracing import check_document


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


class GPTBlock(nn.Module):
    """A decoder block: causal attention of 8 heads and a GELU MLP, each behind a layer norm."""

    def __init__(self, width: int = 512, heads: int = 8) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        parts = self.qkv(self.first(x)).chunk(3, -1)
        q, k, v = (p.view(batch, length, self.heads, width // self.heads).transpose(1, 2) for p in parts)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(F.gelu(self.up(self.second(x)), approximate="tanh"))


class Tagger(nn.Module):
    """An LSTM of 256 over 32 steps, and class scores of its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(64, 256, batch_first=True), nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


def wide_mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(1024, 4096), nn.ReLU(), nn.Linear(4096, 1024))


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(32), nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.relu(self.linear(self.norm(x)))


def deep_cnn() -> nn.Module:
    layers = [nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()) for _ in range(100)]
    return nn.Sequential(*layers)


Case = tuple[Callable[[], nn.Module], tuple[int, ...], int, float]
CASES: dict[str, Case] = {
    "MLP 1024-4096-1024": (wide_mlp, (1024,), 512, 2.0),
    "GPT block d=512": (GPTBlock, (128, 512), 8, 3.0),
    "ResNet block 64 channels": (ResNetBlock, (64, 32, 32), 16, 5.0),
    "LSTM h=256": (Tagger, (32, 64), 64, 4.0),
    "CNN on digits": (DigitsCNN, (1, 8, 8), 512, 5.0),
}
"""Module, shape of one example, examples, and the most that the exact evaluation should cost against float32."""

DEEP: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "100 x (layer norm, linear, ReLU, residual)": (lambda: nn.Sequential(*[Layer() for _ in range(100)]), (32,)),
    "100 x (convolution, batch norm, ReLU)": (deep_cnn, (16, 8, 8)),
}

FUNCTIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "exp": (elementwise.exp, torch.exp),
    "tanh": (elementwise.tanh, torch.tanh),
    "gelu": (elementwise.gelu, F.gelu),
    "gelu, tanh form": (elementwise.gelu_tanh, lambda x: F.gelu(x, approximate="tanh")),
    "sigmoid": (elementwise.sigmoid, torch.sigmoid),
    "erf": (elementwise.erf, torch.erf),
}


def cpu_s(run: Callable[[], object]) -> float:
    began = time.process_time()
    run()
    return time.process_time() - began


def turns(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """CPU seconds of each run in each repeat, one after the other; the first turn warms up."""
    for run in runs.values():
        run()
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            found[name].append(cpu_s(run))
    return found


def ratio(times: dict[str, list[float]], name: str, to: str) -> float:
    return statistics.median(a / b for a, b in zip(times[name], times[to], strict=True))


def measured(case: Case, repeats: int) -> dict[str, Any]:
    make, shape, count, target = case
    torch.manual_seed(0)
    module, inputs = make().eval(), torch.randn(count, *shape)
    artifact = export_model(module, inputs[:2])
    module.eval()
    twin, wide = copy.deepcopy(module).double(), inputs.double()
    graph = load_graph(artifact.graph)
    exact = {slices: exact_model(graph, artifact.weights, slices=slices) for slices in (1, 2)}
    batch = exact[1].default_batch_size()

    def outputs(slices: int) -> Tensor:
        return torch.cat([exact[slices].run(inputs[i : i + batch])[0] for i in range(0, count, batch)])

    with torch.inference_mode():
        times = turns(
            {
                "float32": lambda: module(inputs),
                "float64": lambda: twin(wide),
                "exact": lambda: outputs(1),
                "two slices": lambda: outputs(2),
            },
            repeats,
        )
        reference = twin(wide)
    errors = [float((outputs(s) - reference).abs().max() / reference.abs().max()) for s in (1, 2)]
    return {
        "examples": count,
        "batch": batch,
        "float32_ms": 1e3 * statistics.median(times["float32"]),
        "exact_ms": 1e3 * statistics.median(times["exact"]),
        "float64_ratio": ratio(times, "float64", "float32"),
        "exact_ratio": ratio(times, "exact", "float32"),
        "two_slices_ratio": ratio(times, "two slices", "float32"),
        "target_ratio": target,
        "relative_error": errors[0],
        "two_slices_relative_error": errors[1],
        "training_ratio": training_ratio(module, trainable(graph, artifact.weights), inputs, repeats),
    }


def training_ratio(module: nn.Module, model: nn.Module, inputs: Tensor, repeats: int) -> float:
    """A training step of the graph against one of the module it came from."""

    def step(trained: nn.Module) -> Callable[[], None]:
        optimizer = torch.optim.SGD(trained.train().parameters(), 1e-4)

        def run() -> None:
            optimizer.zero_grad()
            trained(inputs).square().mean().backward()
            optimizer.step()

        return run

    return ratio(turns({"module": step(module), "graph": step(model)}, repeats), "graph", "module")


def functions(repeats: int) -> dict[str, Any]:
    x = torch.randn(1 << 20, dtype=torch.float64)
    found = {}
    for name, (ours, theirs) in FUNCTIONS.items():
        times = turns({"ours": lambda f=ours: f(x), "torch": lambda f=theirs: f(x)}, repeats)
        found[name] = {
            "ours_ns": statistics.median(times["ours"]) / x.numel() * 1e9,
            "torch_ns": statistics.median(times["torch"]) / x.numel() * 1e9,
            "ratio": ratio(times, "ours", "torch"),
        }
    return found


def deep(case: tuple[Callable[[], nn.Module], tuple[int, ...]]) -> dict[str, float]:
    module, example = case[0](), torch.randn(2, *case[1])
    began = time.process_time()
    artifact = export_model(module, example)
    exported = time.process_time()
    check_document(read_document(artifact.graph))
    return {"export_s": exported - began, "load_and_cost_check_s": time.process_time() - exported}


PEAK = """
import sys
from pathlib import Path
from pot_lab.scoring import score_file
score_file(*map(Path, sys.argv[1:]), batch_size=256)
print(1024 * int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]))
"""


def peak_memory() -> dict[str, int]:
    """Peak memory of a process that scores a linear model, by the bytes of its data file; Linux only, since elsewhere
    a process's peak begins with its parent's."""
    if not Path("/proc/self/status").exists():
        return {}
    artifact, found = export_model(nn.Linear(1024, 4), torch.zeros(2, 1024)), {}
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("graph", "weights", "data")]
        files[0].write_bytes(artifact.graph)
        files[1].write_bytes(artifact.weights)
        for count in (512, 100_000):
            save_dataset(files[2], torch.randn(1, 1024).expand(count, -1), torch.zeros(count, dtype=torch.int64))
            done = subprocess.run([sys.executable, "-c", PEAK, *map(str, files)], capture_output=True, check=True)
            found[str(files[2].stat().st_size)] = int(done.stdout)
    return found


def measure(chosen: argparse.Namespace) -> dict[str, Any]:
    """Every figure, on one thread."""
    torch.set_num_threads(1)
    export_model(nn.Linear(1, 1), torch.zeros(2, 1))  # torch loads its exporter on first use
    return {
        "torch": torch.__version__,
        "machine": platform.machine(),
        "threads": 1,
        "backend": backends.fastest("cpu").name,
        "self_test_s": min(cpu_s(run_self_test) for _ in range(3)),
        "sum_tree_us_per_example": cpu_s(lambda: SumTree(bytes(100_000))) * 10,
        "cases": {name: measured(case, chosen.repeats) for name, case in CASES.items()},
        "functions": functions(chosen.repeats),
        "deep": {name: deep(case) for name, case in DEEP.items()},
        "peak_bytes_by_data_bytes": peak_memory(),
    }


def options(parser: argparse.ArgumentParser) -> None:
    """How often to measure."""
    parser.add_argument("--repeats", type=int, default=9)


def show(report: dict[str, Any]) -> str:
    """A line a figure."""
    self_test_ms = report["self_test_s"] * 1e3
    lines = [f"torch {report['torch']}, {report['machine']}, one thread; self-test {self_test_ms:.0f} ms"]
    for name, case in report["cases"].items():
        lines.append(
            f"{name:26} float32 {case['float32_ms']:7.1f} ms  float64 x{case['float64_ratio']:.2f}"
            f"  exact x{case['exact_ratio']:.2f} (at most {case['target_ratio']:.0f})"
            f"  two slices x{case['two_slices_ratio']:.1f}"
            f"  errors {case['relative_error']:.0e} {case['two_slices_relative_error']:.0e}"
            f"  training x{case['training_ratio']:.2f}"
        )
    for name, found in report["functions"].items():
        lines.append(f"{name:26} {found['ours_ns']:5.1f} ns  torch {found['torch_ns']:5.1f} ns  x{found['ratio']:.1f}")
    for name, found in report["deep"].items():
        lines.append(f"{name}: export {found['export_s']:.2f} s, load {found['load_and_cost_check_s']:.2f} s")
    for size, peak in report["peak_bytes_by_data_bytes"].items():
        lines.append(f"peak memory {peak >> 20} MiB for data of {int(size) >> 20} MiB")
    return "\n".join(lines)


if __name__ == "__main__":
    main(__doc__, measure, options=options, show=show)
