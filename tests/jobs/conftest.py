"""A runner with a home of its own; whatever it started is ended after the test."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from pot_lab.jobs.registry import Job
from pot_lab.jobs.runner import JobRunner
from pot_lab.protocol.parameters import Role
from pot_lab.store import Store
from tests.jobs.in_process import Market
from tests.protocol.scenes import PROVIDERS, VALIDATORS
from tests.protocol.world import key

PATIENCE_S = 400  # no test asserts how fast anything is; this only ends a test that hangs


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[JobRunner]:
    one = JobRunner(tmp_path / "home", cancel_grace_s=PATIENCE_S)
    yield one
    for job in one.jobs():
        job.cancel()
    for job in one.jobs():
        job.wait(PATIENCE_S)


@pytest.fixture
def write_notebook(tmp_path: Path) -> Callable[..., Path]:
    def write(*cells: str, parameters: str = "", name: str = "recipe.ipynb") -> Path:
        """A notebook of code cells, `parameters` being the source of the tagged one; `md:` begins a markdown cell."""
        nodes = []
        if parameters:
            nodes.append(nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}))
        for source in cells:
            kind = nbformat.v4.new_markdown_cell if source.startswith("md:") else nbformat.v4.new_code_cell
            nodes.append(kind(source.removeprefix("md:")))
        notebook = nbformat.v4.new_notebook(cells=nodes)
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def until() -> Callable[..., None]:
    def wait(what: Callable[[], object], job: Job | None = None) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not what():
            assert time.monotonic() < deadline, f"it never came true; log: {job.log.read_text() if job else ''}"
            time.sleep(0.05)

    return wait


@pytest.fixture
def market() -> Market:
    """A ledger with two providers, four validators and a verifier."""
    market = Market()
    for people, role in ((PROVIDERS, Role.PROVIDER), (VALIDATORS, Role.VALIDATOR), ([key("verifier")], Role.VERIFIER)):
        for identity in people:
            market.stake(identity, role)
    return market


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "blobs")


@pytest.fixture
def place(market: Market, store: Store) -> Callable[..., bytes]:
    """Places an order with blobs that are nothing but bytes; returns its id."""

    def order(**changes: Any) -> bytes:
        files = {name: name.encode() + b"%d" % len(market.shares) for name in ("graph", "weights", "train", "test")}
        return market.place(store, files=files, **changes)

    return order
