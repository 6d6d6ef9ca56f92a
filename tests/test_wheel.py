"""The wheel: it builds from a checkout, carries front end and recipes, and works where only its own needs are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import pot_lab

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout, so there is nothing to build from")
    if shutil.which("npm") is None:
        pytest.skip("no Node.js here to build the front end with")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(source)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_carries_package_front_end_and_recipes(wheel: Path) -> None:
    assert wheel.name == f"pot_lab-{pot_lab.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        data = f"pot_lab-{pot_lab.__version__}.data/data/"
        front = f"{data}share/jupyter/labextensions/pot-lab/"
        package = json.loads(archive.read(f"{front}package.json"))
    assert {f"pot_lab/recipes/{path.name}" for path in (ROOT / "notebooks").glob("*.ipynb")} <= set(names)
    assert package["version"] == pot_lab.__version__
    assert f"{front}{package['jupyterlab']['_build']['load']}" in names
    assert f"{front}install.json" in names
    assert f"{data}etc/jupyter/jupyter_server_config.d/pot_lab.json" in names
    assert "pot_lab/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "docs/", "pot_lab/labextension/"))]


def test_the_wheel_works_without_torch_and_jupyter(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    binaries = tmp_path / "venv" / "bin"
    install = [binaries / "python", "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", wheel]
    installed = subprocess.run(install, capture_output=True, text=True)
    assert installed.returncode == 0, installed.stderr
    bare = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def run(*command: str) -> str:
        ended = subprocess.run(
            [binaries / command[0], *command[1:]], capture_output=True, text=True, cwd=tmp_path, env=bare
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    present = json.loads(run("python", "-m", "pip", "list", "--format", "json"))
    assert not {one["name"] for one in present} & {"torch", "numpy", "jupyterlab", "py-evm"}
    assert pot_lab.__version__ in run("pot-lab", "--version")
    for command in ((), ("aggregator",), ("mine",), ("wallet",), ("testnet", "up")):
        assert "Usage: pot-lab" in run("pot-lab", *command, "--help")
    assert "network.toml" in run("pot-lab", "aggregator", "--help")
