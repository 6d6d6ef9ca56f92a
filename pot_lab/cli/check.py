"""`pot-lab check`: whether a model could be ordered, without a network."""

from __future__ import annotations

import importlib.util
import inspect
import json
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pot_lab.cli.common import json_option
from pot_lab.errors import PotLabError

if TYPE_CHECKING:
    from types import ModuleType

    from pot_lab.notebook.data import Data

_HELD_OUT_EVERY = 5
"""Without test data, every fifth example is taken for them."""


@click.command(
    epilog="""\b
examples:
  pot-lab check model.py:Net --data train.safetensors --test test.safetensors
  pot-lab check model.py:make_net --data model.py:train_data --score mse --output logits"""
)
@click.argument("model", metavar="FILE.py[:NAME]")
@click.option(
    "--data", required=True, metavar="DATA", help="Train data: a file from pot_lab.pack_dataset, or FILE.py:NAME."
)
@click.option("--test", metavar="DATA", help="Test data (default: every fifth of the train data).")
@click.option("--score", default="accuracy", show_default=True, help="Score function.")
@click.option("--output", metavar="NAME|PLACE", help="Which result is scored, where forward returns several.")
@json_option
def check(model: str, data: str, test: str | None, score: str, output: str | None, as_json: bool) -> None:
    """Check whether a model could be ordered, without a network.

    FILE.py is your own file: it is run. NAME in it is a module, its class, or a function that returns one; data are a
    pair (inputs, targets), a torch Dataset, or a function that returns one. Nothing is sent or paid.
    """
    import pot_lab
    from pot_lab.protocol.records import MICRO

    module = _made(model)
    train = _data(data)
    train, held_out = (train, _data(test)) if test is not None else _halved(train)
    chosen: str | int | None = int(output) if output is not None and output.isdecimal() else output
    report = pot_lab.check(module, train, held_out, score, output=chosen)
    if not as_json:
        click.echo(str(report))
        return
    start = report.start
    facts = {
        "score": f"{report.prepared.score.name}/{report.prepared.score.version}",
        "parameters": report.graph.parameters_count,
        "train_examples": report.train_examples,
        "test_examples": start.count,
        "first_weights_total": start.weights_total,
        "constant_total": start.constant_total,
        "right_total": report.predictors.right,
        "shuffled_total": report.predictors.shuffled,
        "answers_count": report.predictors.count,
        "work_per_example": report.graph.cost.work,
        "upload_bytes": report.upload_bytes,
        "checks_ms": round(report.export_s * MICRO / 1000),
        "score_ms": round(report.score_s * MICRO / 1000),
    }
    click.echo(json.dumps(facts))


def _halved(data: Data) -> tuple[Data, Data]:
    """Train and test data of one set."""
    import torch

    from pot_lab.notebook.data import read_data
    from pot_lab.scoring.dataset import Dataset, some_rows

    inputs, targets = whole = read_data("data", data)

    chosen = torch.arange(whole.examples) % _HELD_OUT_EVERY == _HELD_OUT_EVERY - 1
    rows, others = chosen.nonzero()[:, 0], (~chosen).nonzero()[:, 0]
    return Dataset(some_rows(inputs, others), targets[others]), Dataset(some_rows(inputs, rows), targets[rows])


def _data(text: str) -> Data:
    if ".py" not in text or Path(text.rpartition(":")[0] or text).suffix != ".py":
        return Path(text)
    file, _, name = text.rpartition(":")
    if not file:
        raise PotLabError("data of a Python file need a name", seen=text, wanted=f"{text}:NAME")
    found: Data = _called(getattr(_loaded(file), name, None), file, name, "a pair (inputs, targets) or a Dataset")
    return found


def _made(text: str) -> Any:
    """The module that `FILE.py:NAME` stands for; without a name the only class of modules in the file."""
    from torch import nn

    file, _, name = text.rpartition(":") if text.rpartition(":")[0].endswith(".py") else (text, "", "")
    loaded = _loaded(file)
    if not name:
        classes = [
            n
            for n, value in vars(loaded).items()
            if inspect.isclass(value) and issubclass(value, nn.Module) and value.__module__ == loaded.__name__
        ]
        if len(classes) != 1:
            raise PotLabError(
                "the file has not one class of modules", seen=", ".join(classes) or "none", wanted=f"{file}:NAME"
            )
        (name,) = classes
    return _called(getattr(loaded, name, None), file, name, "a torch.nn.Module")


def _called(value: Any, file: str, name: str, wanted: str) -> Any:
    """What a name of the user's file stands for; classes and functions are called without arguments."""
    from torch import nn
    from torch.utils.data import Dataset

    if value is None:
        raise PotLabError("there is no such name in the file", seen=f"{file}:{name}", wanted=wanted)
    if isinstance(value, nn.Module | Dataset) or not callable(value):
        return value
    try:
        return value()
    except Exception as problem:  # the user's own code
        raise _failed(file, f"{name}()", problem) from problem


def _loaded(file: str) -> ModuleType:
    path = Path(file).resolve()
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if path.suffix != ".py" or spec is None or spec.loader is None or not path.is_file():
        raise PotLabError("a model is named by its Python file", seen=file, wanted="FILE.py:NAME")
    if (known := sys.modules.get(path.stem)) and getattr(known, "__file__", None) == str(path):
        return known
    loaded = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    sys.modules[path.stem] = loaded
    try:
        spec.loader.exec_module(loaded)
    except Exception as problem:  # the user's own code
        del sys.modules[path.stem]
        raise _failed(file, "the file", problem) from problem
    finally:
        sys.path.remove(str(path.parent))
    return loaded


def _failed(file: str, what: str, problem: Exception) -> PotLabError:
    """The refusal of a user's file that does not run, with its own line."""
    own = [f for f in traceback.extract_tb(problem.__traceback__) if Path(f.filename).name == Path(file).name]
    place = f", at {Path(file).name}:{own[-1].lineno}: {own[-1].line}" if own else ""
    return PotLabError(
        f"{what} does not run{place}",
        seen=f"{type(problem).__name__}: {problem}",
        wanted="a module, a class or a function that takes no arguments, e.g. def make(): return Net(10)",
    )
