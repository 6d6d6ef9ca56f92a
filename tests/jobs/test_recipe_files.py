"""Recipes as editors, generators and people write them: they run, or are refused before a job is made of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from pot_lab.jobs import recipe_files
from pot_lab.jobs.errors import BadJobParameters, NotebookUnusable
from pot_lab.jobs.recipe_files import check_parameters, checked_parameters
from pot_lab.jobs.recipes import recipe
from pot_lab.jobs.runner import JobRunner

CODE = "print('done', workspace)"
PYTHON = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}


def document(**changes: Any) -> dict[str, Any]:
    cells = [{"cell_type": "code", "source": CODE, "metadata": {}, "outputs": [], "execution_count": None, "id": "a"}]
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": PYTHON, "cells": cells, **changes}


def without(name: str) -> dict[str, Any]:
    whole = document()
    del whole[name]
    return whole


def bare(**cell: Any) -> dict[str, Any]:
    return document(cells=[{"cell_type": "code", "source": CODE, **cell}])


ODD: dict[str, bytes] = {
    "byte order mark": b"\xef\xbb\xbf" + json.dumps(document()).encode(),
    "UTF-16": json.dumps(document()).encode("utf-16"),
    "UTF-32": json.dumps(document()).encode("utf-32"),
    "no minor version": json.dumps(without("nbformat_minor")).encode(),
    "no metadata": json.dumps(without("metadata")).encode(),
    "metadata that are none": json.dumps(document(metadata=None)).encode(),
    "empty metadata": json.dumps(document(metadata={})).encode(),
    "no language": json.dumps(document(metadata={"kernelspec": {"name": "x", "display_name": "x"}})).encode(),
    "another kernel's name": json.dumps(document(metadata={"kernelspec": {"name": "my-env"}})).encode(),
    "cells without fields": json.dumps(bare()).encode(),
    "ids of an old version": json.dumps(document(nbformat_minor=2)).encode(),
    "lines as a list": json.dumps(bare(source=["print('done',\n", " workspace)"])).encode(),
}


@pytest.mark.parametrize("name", ODD)
def test_what_editors_write_becomes_a_valid_notebook_of_python(name: str, tmp_path: Path) -> None:
    (tmp_path / "r.ipynb").write_bytes(ODD[name])
    made = nbformat.reads(recipe_files.read(tmp_path / "r.ipynb").decode(), as_version=4)
    nbformat.validate(made)
    assert made.metadata.kernelspec.language == "python" and made.cells[0].source.replace("\n", "") == CODE


@pytest.mark.parametrize("name", ["UTF-16", "empty metadata", "cells without fields"])
def test_such_notebooks_run(name: str, tmp_path: Path, runner: JobRunner) -> None:
    (tmp_path / "r.ipynb").write_bytes(ODD[name])
    job = runner.start(tmp_path / "r.ipynb", {"workspace": "here"}, kind="t")
    assert job.wait(400) == "done", job.log.read_text()
    assert "done here" in job.log.read_text()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (document(metadata={"kernelspec": {"name": "ir", "language": "R"}}), "another language"),
        (document(metadata={"language_info": {"name": "julia"}}), "another language"),
        (document(cells=[{"cell_type": "heading", "source": "x"}]), "no known kind"),
        (document(cells=["x"]), "no known kind"),
        (document(nbformat=3), "not a notebook"),
        ([], "not a notebook"),
    ],
)
def test_what_cannot_run_is_refused_before_a_job_is_made(
    content: Any, message: str, tmp_path: Path, runner: JobRunner
) -> None:
    (tmp_path / "r.ipynb").write_text(json.dumps(content))
    with pytest.raises(NotebookUnusable, match=message):
        runner.start(tmp_path / "r.ipynb", {}, kind="t")
    assert runner.jobs() == []


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000])
def test_what_is_no_json_is_refused(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / "r.ipynb").write_bytes(raw)
    with pytest.raises(NotebookUnusable, match="cannot be read"):
        recipe_files.read(tmp_path / "r.ipynb")


def test_a_parameter_that_the_recipe_does_not_use_is_refused_with_the_likely_one() -> None:
    path = recipe("provider")
    check_parameters(path, ["learning_rate", "seed"])
    with pytest.raises(BadJobParameters, match="did you mean 'learning_rate'") as refusal:
        check_parameters(path, ["learning_rat"])
    assert refusal.value.seen == "learning_rat"
    with pytest.raises(BadJobParameters, match=r"a name that the code of provider\.ipynb uses"):
        check_parameters(path, ["qqqqqqqqqqqqqqqq"])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1.0, float("nan")], {"a": object()}, {1: 2}])
def test_values_that_json_cannot_hold_are_refused(value: Any) -> None:
    with pytest.raises(BadJobParameters, match="not a JSON value"):
        checked_parameters({"learning_rate": value})


def test_a_module_beside_the_recipe_can_be_imported_but_stands_for_none_of_pythons(
    tmp_path: Path, runner: JobRunner, write_notebook: Callable[..., Path]
) -> None:
    (tmp_path / "my_helpers.py").write_text("X = 41")
    (tmp_path / "queue.py").write_text("raise RuntimeError('my own queue.py')")
    job = runner.start(write_notebook("import my_helpers, queue\nprint(my_helpers.X + 1)"), {}, kind="t")
    assert job.wait(400) == "done", job.log.read_text()
    assert "42" in job.log.read_text()


@pytest.mark.parametrize(
    ("code", "message"), [("%nosuchmagic", "nosuchmagic"), ("%run /no/such/file.py", "no/such/file")]
)
def test_an_error_that_is_no_exception_has_a_name_and_a_reason(
    code: str, message: str, runner: JobRunner, write_notebook: Callable[..., Path]
) -> None:
    job = runner.start(write_notebook(code), {}, kind="t")
    assert job.wait(400) == "failed"
    assert job.error is not None and message in str(job.error), job.error
    assert job.error["name"] not in ("", "CellExecutionError")


@pytest.mark.parametrize("state", ["", "{", "[]", "{}", '{"state": "flying"}', '{"state": 5}'])
def test_a_damaged_state_is_that_of_a_lost_job_and_hides_no_other(state: str, runner: JobRunner) -> None:
    for name, content in (("bad", state), ("good", '{"state": "done", "attempt": 1}')):
        folder = runner.home / "jobs" / name
        folder.mkdir(parents=True)
        (folder / "job.json").write_text('{"kind": "provider", "parameters": {}, "created_ms": 1}')
        (folder / "state.json").write_text(content)
        (folder / "lock").touch()
    assert {job.id: job.state for job in runner.jobs()} == {"bad": "lost", "good": "done"}


@pytest.mark.parametrize("spec", ["", "[]", "{}", '{"kind": "x", "parameters": 5, "created_ms": 1}'])
def test_a_damaged_request_hides_no_other_job(spec: str, runner: JobRunner) -> None:
    folder = runner.home / "jobs" / "bad"
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(spec)
    (folder / "state.json").write_text('{"state": "done"}')
    assert runner.jobs() == []
