"""Run the steps of repo2docker in a clean environment, without an image: install, postBuild, start, Lab.

    python binder/run_steps.py                 # a new environment: downloads about 1 GB, takes minutes
    python binder/run_steps.py --installed     # with the packages of this Python
    python binder/run_steps.py --tour          # and run the tour to its end

The files are those that git tracks; home and environment variables are new. Prints one JSON object: seconds from
`start` to Lab and to a network with miners, and what all processes take in memory.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 600
POLL_S = 0.2
STOP_S = 60
KEPT = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONFIG_FILE", "POT_LAB_TORCH_INDEX", "SSL_CERT_FILE")
"""Where packages come from is the host's; everything else of the environment is new."""


class StepFailed(Exception):
    """A step of the image did not do what it should; the message has the end of its output."""


def copy_tracked(folder: Path) -> Path:
    """Copy the files that git tracks, as Binder clones them."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    repository = folder / "repository"
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():
            (repository / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, repository / name)
    return repository


def clean_environment(folder: Path, binaries: Path, repository: Path, *, installed: bool) -> dict[str, str]:
    """The variables that the steps see: a new home, and the environment's programs first."""
    home = folder / "home"
    home.mkdir()
    found = {name: os.environ[name] for name in KEPT if name in os.environ}
    found |= {"HOME": str(home), "PATH": f"{binaries}:/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
    if installed:
        found |= {"POT_LAB_BINDER_INSTALLED": "1", "PYTHONPATH": str(repository)}
    return found


def run(command: list[str], repository: Path, environment: Mapping[str, str]) -> str:
    """Run one step to its end; returns what it printed.

    Raises:
        StepFailed: it failed.
    """
    done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StepFailed(f"{command[0]} ended with code {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


@contextlib.contextmanager
def started_lab(repository: Path, environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Run `binder/start` with Lab, as the image does, for a `with` block; gives its address and token."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    lab = ["jupyter", "lab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}"]
    command = [str(repository / "binder" / "start"), *lab, f"--IdentityProvider.token={token}"]
    with (repository.parent / "lab.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=repository, env=environment, stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}", token
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        deadline_s = time.monotonic() + PATIENCE_S
        while (status := network_status(repository, environment)) is None and time.monotonic() < deadline_s:
            time.sleep(POLL_S)  # it is being started still, and cannot be stopped yet
        if status is not None:
            run(["pot-lab", "testnet", "down"], repository, environment)


def ask(url: str, token: str) -> bytes | None:
    """What Lab answers; None while it does not."""
    request = urllib.request.Request(url, headers={"Authorization": f"token {token}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return bytes(answer.read())
    except OSError:
        return None


def network_status(repository: Path, environment: Mapping[str, str]) -> dict[str, Any] | None:
    """What `pot-lab testnet status` says; None while no network runs."""
    command = ["pot-lab", "testnet", "status", "--json"]
    done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, check=False)
    return dict(json.loads(done.stdout.splitlines()[-1])) if done.returncode == 0 else None


def memory_mb(home: str) -> float:
    """What the processes with this home take, shared pages counted once."""
    total = 0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get("HOME") == home:
                total += process.memory_full_info().pss
    return round(total / 1e6, 1)


def await_true(what: str, holds: Any, repository: Path) -> None:
    """Wait until `holds()` is true.

    Raises:
        StepFailed: it never is.
    """
    deadline_s = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > deadline_s:
            log = (repository.parent / "lab.log").read_text(errors="replace")[-2000:]
            raise StepFailed(f"{what} did not come true in {PATIENCE_S} s: {log}")
        time.sleep(POLL_S)


def steps(folder: Path, *, installed: bool, tour: bool) -> dict[str, Any]:
    """Run all steps below a folder; returns the figures."""
    repository = copy_tracked(folder)
    begun_s = time.monotonic()
    if installed:
        binaries = Path(sys.executable).parent
    else:
        run([sys.executable, "-m", "venv", str(folder / "environment")], repository, dict(os.environ))
        binaries = folder / "environment" / "bin"
    environment = clean_environment(folder, binaries, repository, installed=installed)
    run([str(repository / "binder" / "postBuild")], repository, environment)
    figures: dict[str, Any] = {"build_s": round(time.monotonic() - begun_s, 1)}
    begun_s = time.monotonic()
    with started_lab(repository, environment) as (url, token):

        def is_ready() -> bool:
            found = ask(f"{url}/lab/api/workspaces/default", token)
            return found is not None and b"notebooks/tour.ipynb" in found

        def has_miners() -> bool:
            status = network_status(repository, environment)
            miners = [name for name in (status or {}).get("processes", {}) if name.startswith("practice-")]
            return status is not None and len(miners) == 2 and all(status["processes"].values())

        await_true("Lab with the tour's workspace", is_ready, repository)
        figures["lab_s"] = round(time.monotonic() - begun_s, 1)
        await_true("a network with practice miners", has_miners, repository)
        figures["network_s"] = round(time.monotonic() - begun_s, 1)
        if ask(f"{url}/api/contents/notebooks/tour.ipynb?content=0", token) is None:
            raise StepFailed("the tour is not where the workspace opens it")
        if tour:
            begun_s = time.monotonic()
            tour_file = str(repository / "notebooks" / "tour.ipynb")
            run(["papermill", tour_file, str(folder / "tour.ipynb")], repository, environment)
            figures["tour_s"] = round(time.monotonic() - begun_s, 1)
        figures["memory_mb"] = memory_mb(environment["HOME"])
    return figures


def main() -> None:
    """Run the steps, and print the figures."""
    parser = argparse.ArgumentParser(description="Run repo2docker's steps without an image.")
    parser.add_argument("--installed", action="store_true", help="use the packages of this Python")
    parser.add_argument("--tour", action="store_true", help="run the tour to its end")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pot-lab-binder-") as folder:
        print(json.dumps(steps(Path(folder).resolve(), installed=given.installed, tour=given.tour)))


if __name__ == "__main__":
    main()
