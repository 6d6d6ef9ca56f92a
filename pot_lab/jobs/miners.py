"""Miners that were started from the panel: a `pot-lab mine` process each, detached, so that closing Lab stops none.

miners/<id>/miner.json   role, account and parameters; written once
            pid          its process
            lock         held by the process while it runs; the system frees it when the process ends
            stopping     there once a stop was requested
            log.txt      what it logs
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pot_lab.files import FileLocked, acquire_lock, is_locked, make_private_folder, replace_durably
from pot_lab.jobs import recipe_files
from pot_lab.jobs.errors import UnknownJob
from pot_lab.jobs.recipes import recipe
from pot_lab.jobs.registry import is_job_id, write_json

MinerState = Literal["running", "stopping", "ended"]
MinerRole = Literal["provider", "validator", "verifier"]


class MinerProcess:
    """A miner of this host, read from its folder.

    Args:
        directory: the miner's folder.
    Raises:
        UnknownJob: there is no miner in it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.id = directory.name
        try:
            spec = json.loads((directory / "miner.json").read_text())
            self.role = str(spec["role"])
            self.account = str(spec["account"])
            self.created_ms = int(spec["created_ms"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UnknownJob("there is no such miner", seen=directory.name) from error

    @property
    def log(self) -> Path:
        """What it logs."""
        return self.directory / "log.txt"

    @property
    def state(self) -> MinerState:
        """Whether it runs, runs still though a stop was requested, or has ended."""
        if not is_locked(self.directory / "lock"):
            return "ended"
        return "stopping" if (self.directory / "stopping").exists() else "running"

    def stop(self) -> None:
        """Request a stop and return at once: it cancels its notebooks, and continues from its files when started anew.

        One that has ended stays as it is.
        """
        if self.state == "ended":
            return
        replace_durably(self.directory / "stopping", b"", mode=0o600)
        try:
            os.kill(int((self.directory / "pid").read_text()), signal.SIGTERM)
        except (OSError, ValueError):
            pass  # it ended meanwhile


def find_miners(home: Path) -> list[MinerProcess]:
    """All miners of a home that were started so, newest first."""
    found = []
    for path in (home / "miners").glob("*/miner.json"):
        try:
            found.append(MinerProcess(path.parent))
        except UnknownJob:
            continue  # being made
    return sorted(found, key=lambda one: (one.created_ms, one.id), reverse=True)


def get_miner(home: Path, miner_id: str) -> MinerProcess:
    """The miner of this id. Raises `UnknownJob`."""
    if not is_job_id(miner_id):
        raise UnknownJob("not a possible id of a miner", seen=miner_id)
    return MinerProcess(home / "miners" / miner_id)


def start_miner(
    home: Path,
    role: MinerRole,
    *,
    account: str = "",
    parameters: Mapping[str, Any],
    notebook: Path | None = None,
    jobs: int = 0,
    min_reward_per_hour: float = 0.0,
) -> MinerProcess:
    """Start a miner.

    Args:
        home: `$POT_LAB_HOME`.
        role: what it does.
        account: a testnet's account or a keystore's path; by default the role's first account.
        parameters: of the notebook, by name.
        notebook: a recipe of one's own; by default the stock one of the role.
        jobs: how many notebooks run at once; 0 for the usual number.
        min_reward_per_hour: POT that an order must offer for an hour of training.
    Raises:
        NotebookUnusable: the notebook is none.
        BadJobParameters: the notebook has no such parameter, or a value is no JSON; nothing was started.
    """
    checked = recipe_files.checked_parameters(parameters)
    recipe_files.check_parameters(notebook or recipe(role), checked)
    created_ms = time.time_ns() // 1_000_000
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(created_ms / 1000))
    directory = home / "miners" / f"{role}-{stamp}-{secrets.token_hex(3)}"
    make_private_folder(directory.parent)
    make_private_folder(directory)
    spec = {"role": role, "account": account, "parameters": checked, "created_ms": created_ms}
    try:
        lock = acquire_lock(directory / "lock")
    except FileLocked as error:
        raise UnknownJob("the new miner's folder is in use", seen=directory.name) from error
    try:
        command = [sys.executable, "-P", "-m", "pot_lab.cli", "mine", role]
        command += ["--account", account] if account else []
        command += ["--notebook", str(notebook)] if notebook else []
        command += ["--jobs", str(jobs)] if jobs else []
        command += ["--min-reward-per-hour", repr(min_reward_per_hour)] if min_reward_per_hour else []
        for name, value in checked.items():
            command += ["--set", f"{name}={json.dumps(value)}"]
        handle = os.open(directory / "log.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with open(handle, "ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "POT_LAB_HOME": str(home)},
                cwd=directory,
                pass_fds=(lock,),
                start_new_session=True,
                umask=0o077,
            )
        write_json(directory / "pid", process.pid)
        write_json(directory / "miner.json", spec)
    finally:
        os.close(lock)  # the miner's copy keeps it
    threading.Thread(target=process.wait, name="pot-lab-miner-reaper", daemon=True).start()
    return MinerProcess(directory)
