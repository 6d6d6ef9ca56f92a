"""House rules that a machine can check: rooms, light imports, docstrings, packaging, words that have no place here."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = {
    "torch",
    "web3",
    "papermill",
    "matplotlib",
    "pandas",
    "scipy",
    "sklearn",
    "jupyter_server",
    "nbformat",
    "fsspec",
}
TEXT_LIMIT_BYTES = 2_000_000


def tracked_files() -> list[Path]:
    """What git would commit of this checkout."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout, so nothing here is about to be committed")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    files = [ROOT / name for name in listed.split("\0") if name]
    return [path for path in files if path.is_file() and not path.is_symlink()]


def modules() -> list[Path]:
    return sorted(path for path in (ROOT / "pot_lab").rglob("*.py") if "labextension" not in path.parts)


def heavy_after(statement: str, also: set[str]) -> set[str]:
    code = f"import sys; {statement}; print(*sorted({HEAVY | also!r} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    return set(answer.stdout.split())


@pytest.mark.parametrize(
    ("statement", "also"),
    [
        ("import pot_lab", {"zmq", "numpy", "IPython", "ipywidgets", "tornado", "aiohttp"}),
        ("import pot_lab.cli.main", {"numpy", "IPython", "tornado"}),
        ("import pot_lab.network", {"IPython", "tornado"}),
        ("import pot_lab.network.aggregator.main", {"eth_abi", "eth_account", "requests", "IPython", "tornado"}),
        ("import pot_lab.chain.wallet, pot_lab.chain.watcher", {"eth_abi", "eth_account", "requests", "websockets"}),
        ("import pot_lab.store.server", {"zmq", "numpy", "urllib3"}),
        ("import pot_lab.jobs", {"zmq", "numpy", "IPython"}),
        ("import pot_lab.server", {"zmq", "numpy"}),
    ],
)
def test_an_import_loads_nothing_heavy(statement: str, also: set[str]) -> None:
    assert heavy_after(statement, also) == set()


def test_imports_point_down_the_table_of_rooms() -> None:
    command = [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_every_module_begins_by_saying_what_it_is_for() -> None:
    silent = [str(path.relative_to(ROOT)) for path in modules() if not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []


def test_nothing_is_ever_unpickled() -> None:
    unsafe = re.compile(
        r"^\s*(import (pickle|dill|cloudpickle|marshal|shelve)\b|from (pickle|dill|cloudpickle|marshal)\b)"
    )
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in modules()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if unsafe.match(line) or "weights_only=False" in line
    ]
    assert found == []


def test_nothing_in_the_package_needs_libzmq() -> None:
    """It is installed for tests alone, which send what others' clients send."""
    uses = re.compile(r"^\s*(import|from) zmq\b", re.M)
    assert [str(path.relative_to(ROOT)) for path in modules() if uses.search(path.read_text())] == []


def test_no_process_with_threads_is_forked() -> None:
    """A child of such a fork can wait for ever for a lock, and keeps open what its parent had open."""
    forks = re.compile(r"preexec[_]fn=|get_context\([\"']fork|\bos\.fork[(]|\.Pool[(]")
    found = {
        str(path.relative_to(ROOT))
        for folder in ("pot_lab", "tests", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        if forks.search(path.read_text())
    }
    assert found == {
        "tests/network/test_network.py",  # what a client does in a fork of its owner, which is what is tested
        "tests/mutation/run.py",  # a process for each mutant, from one that has started no thread
        "pot_lab/forking.py",  # is there to be forked: it starts no thread, and looks before each fork
        "pot_lab/jobs/forked_kernel.py",  # the first thing that a forked job does
        "tests/jobs/test_fork_server.py",  # what a notebook forks
    }


CROSSING = {"labextension", "scenarios", "attacks", "chaos", "notebooks", "benchmarks", "mutation", "docs"}
"""Folders of tests that belong to no single room."""


def test_tests_mirror_the_rooms() -> None:
    """A room's tests lie in the folder of tests that has its name, at every depth, and every room has some."""
    tested = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    mirrored = {folder for folder in tested if folder.parts and folder.parts[0] not in CROSSING}
    packages = {path.parent.relative_to(ROOT / "pot_lab") for path in modules() if path.name == "__init__.py"}
    assert mirrored <= packages
    rooms = {package.parts[0] for package in packages if package.parts}
    assert rooms == {folder.parts[0] for folder in mirrored}


# One letter of each stands in brackets, so that this file does not find itself.
WORDS = {
    "a path of one machine": re.compile(
        r"(?<![\w.])/(?:[r]oot|[h]ome/\w+|[U]sers/\w+)/[\w.-]+|" + re.escape(str(ROOT))
    ),
    "a registry host": re.compile(r"[n]pmjs\.\w|[y]arnpkg\.\w|[p]ythonhosted\.\w|[p]ypi\.org|[d]eb\.debian\.", re.I),
    "a private key": re.compile("-----[B]EGIN (?:RSA |EC |ENCRYPTED )?PRIVATE KEY-----"),
    "a conflict mark": re.compile(r"^(?:<{7}|>{7}) "),
}


def test_no_word_of_one_machine_is_committed() -> None:
    found = []
    for path in tracked_files():
        raw = path.read_bytes()
        if len(raw) > TEXT_LIMIT_BYTES or b"\0" in raw[:4096]:
            continue
        for number, line in enumerate(raw.decode("utf-8", "replace").splitlines(), 1):
            found += [f"{path.relative_to(ROOT)}:{number}: {what}" for what, rule in WORDS.items() if rule.search(line)]
    assert found == []


def test_committed_notebooks_hold_no_error() -> None:
    for path in tracked_files():
        if path.suffix == ".ipynb":
            cells = json.loads(path.read_text())["cells"]
            assert not [out for cell in cells for out in cell.get("outputs", []) if out["output_type"] == "error"], path


def requirement_names(texts: list[str]) -> set[str]:
    return {re.split(r"[\[<>=!~; ]", text, maxsplit=1)[0].lower().replace("_", "-") for text in texts}


def test_constraints_pin_all_that_is_installed_and_nothing_by_address() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)] == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = list(project["dependencies"])
    wanted += [text for name, texts in extras.items() if name not in ("s3", "ipfs", "fuzz") for text in texts]
    missing = requirement_names(wanted) - requirement_names(lines) - {"pot-lab"}
    assert missing == set()


def test_what_is_installed_is_what_is_pinned() -> None:
    pinned = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"
    )
    other = {}
    for name, version in pinned.items():
        try:
            here = metadata.version(name).partition("+")[0]
        except metadata.PackageNotFoundError:
            continue  # of another platform
        if here != version:
            other[name] = (here, version)
    assert other == {}


def test_the_front_end_has_the_packages_version_and_a_lock_without_hosts() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    package = json.loads((ROOT / "labextension" / "package.json").read_text())
    lock = json.loads((ROOT / "labextension" / "package-lock.json").read_text())
    assert package["version"] == project["version"]
    assert lock["packages"][""]["dependencies"] == package["dependencies"]
    assert [name for name, entry in lock["packages"].items() if "resolved" in entry] == []
    assert [name for name, entry in lock["packages"].items() if name and "integrity" not in entry] == []


def test_the_package_says_that_it_is_typed_and_free() -> None:
    assert (ROOT / "pot_lab" / "py.typed").is_file()
    assert metadata.metadata("pot-lab")["License-Expression"] == "MIT"
    assert "PoT Lab contributors" in (ROOT / "LICENSE").read_text()
