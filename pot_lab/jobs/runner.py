"""Start and resume jobs: each is a detached process with a folder of its own, so closing Lab or a terminal stops none.

The process (`run_notebook`) is started in its own session and inherits the job's lock, already taken, so a
started job never looks lost. The runner keeps no state of jobs in memory; `registry` reads it from the folders.
Where a fork server runs, the process is forked from it, with its imports done; else it is started by a command.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pot_lab.files import make_private_folder, replace_durably, writing
from pot_lab.forking import fork_folder
from pot_lab.jobs import recipe_files, registry
from pot_lab.jobs.errors import BadJobParameters, JobDone, JobExists, JobRunning
from pot_lab.jobs.fork_client import UNKNOWN, ForkClient
from pot_lab.jobs.leftovers import end_leftovers
from pot_lab.jobs.registry import Job, write_json

CANCEL_GRACE_S = 10.0


class JobRunner:
    """Runs notebooks as jobs of one home.

    Args:
        home: `$POT_LAB_HOME`; jobs live in `home/jobs/<id>/`.
        cancel_grace_s: how long an interrupted kernel may take to end before it is killed.
        forks: where `prepare` finds a fork server; by default that of this home.
    """

    def __init__(
        self, home: Path | str, *, cancel_grace_s: float = CANCEL_GRACE_S, forks: ForkClient | None = None
    ) -> None:
        self.home = Path(home)
        self.cancel_grace_s = cancel_grace_s
        self._forks = forks

    def prepare(self) -> None:
        """A job may be started soon: begin what takes long about it, once. Returns at once and raises nothing."""
        if sys.platform == "linux":
            if self._forks is None:
                self._forks = ForkClient(fork_folder(self.home))
            self._forks.prepare(self._environment())

    def release(self) -> None:
        """No job will be started soon: `prepare` is undone."""
        if self._forks is not None:
            self._forks.close()
            self._forks = None

    def _environment(self) -> dict[str, str]:
        """The variables of all jobs: those of this process that hold no secret, and those that Python needs."""
        return {
            **without_secrets(os.environ),
            "PYTHONUTF8": "1",
            "PYTHONIOENCODING": "utf-8",  # else a print may fail under the locale of whoever started the miner
            "POT_LAB_HOME": str(self.home),
        }

    def jobs(self) -> list[Job]:
        """All jobs of this home, oldest first, whoever started them."""
        return registry.find(self.home)

    def get(self, job_id: str) -> Job:
        """The job of this id. Raises `UnknownJob`."""
        return registry.get(self.home, job_id)

    def start(
        self,
        notebook: Path | str,
        parameters: Mapping[str, Any],
        *,
        kind: str,
        job_id: str | None = None,
        env: Mapping[str, str] | None = None,
        helpers: Path | str | None = None,
    ) -> Job:
        """Run a copy of a notebook in a new process and return at once.

        Args:
            notebook: the recipe; its cell tagged `parameters` is overridden.
            parameters: JSON values by Python name.
            kind: what the job is for, as in `provider`.
            job_id: a name for it, else one is made from kind and time.
            env: more environment variables for the notebook, also when it is resumed, beside those of this process that
                hold no secret (`without_secrets`). They are written to the job's folder, so they must not be secret.
                The notebook starts in its folder, which `POT_LAB_JOB_DIR` names.
            helpers: a file beside which the modules lie that the notebook may import; by default the notebook.

        Raises:
            BadJobParameters, NotebookUnusable: the parameters or the notebook cannot be run; nothing was made.
            JobExists: the id is in use.
            CannotWrite: the disk or the folder does not take the job; nothing was left.
        """
        parameters = recipe_files.checked_parameters(parameters)
        source = recipe_files.read(Path(notebook))
        created_ms = time.time_ns() // 1_000_000
        if job_id is None:
            stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(created_ms / 1000))
            job_id = f"{kind}-{stamp}-{secrets.token_hex(3)}"
        if not registry.is_job_id(job_id):
            raise BadJobParameters("a job's id must be a plain file name", seen=job_id)
        directory = self.home / "jobs" / job_id
        record = {
            "kind": kind,
            "parameters": parameters,
            "created_ms": created_ms,
            "notebook": str(Path(helpers or notebook).resolve()),
            "env": dict(env or {}),
        }
        with writing("a job's folder", directory.parent):
            lock = _make_folder(directory, source, record)
        return self._spawn(directory, lock, attempt=1)

    def resume(self, job_id: str) -> Job:
        """Run a job that was lost, failed or cancelled once more: same folder, notebook, parameters and environment.

        The notebook finds what its last run left behind (its checkpoints). What remains of the old kernel is ended
        first.

        Raises:
            UnknownJob: there is no such job.
            JobRunning: it still runs.
            JobDone: it is done; there is nothing to resume.
        """
        job = self.get(job_id)
        lock = registry.take_lock(job.directory)
        if lock is None:
            raise JobRunning("the job still runs", seen=job_id)
        try:
            if job.record()["state"] == "done":
                raise JobDone("the job is done already", seen=job_id)
            end_leftovers(job.directory)
            attempt = int(job.record().get("attempt", 1))
            (job.directory / registry.STOPPED_FILE).unlink(missing_ok=True)
            if job.output.exists():
                job.output.rename(job.directory / f"output-{attempt}.ipynb")
        except BaseException:
            os.close(lock)
            raise
        return self._spawn(job.directory, lock, attempt=attempt + 1)

    def rerun(self, job_id: str) -> Job:
        """Start a new job from the notebook, parameters and environment of one that has ended.

        The new one has a folder of its own and finds no checkpoint of the old one, unless its parameters name a folder.

        Raises:
            UnknownJob: there is no such job.
            JobRunning: it still runs.
        """
        job = self.get(job_id)
        if job.state == "running":
            raise JobRunning("the job still runs", seen=job_id, wanted="an end first: `pot-lab jobs stop`")
        spec = json.loads((job.directory / "job.json").read_text())
        return self.start(
            job.directory / "input.ipynb", job.parameters, kind=job.kind, env=spec.get("env"), helpers=spec["notebook"]
        )

    def _spawn(self, directory: Path, lock: int, *, attempt: int) -> Job:
        spec = json.loads((directory / "job.json").read_text())
        record = {"state": "running", "attempt": attempt, "started_ms": time.time_ns() // 1_000_000}
        mask: set[int] | None = None
        try:
            write_json(directory / "state.json", record)
            environment = {
                **self._environment(),
                **spec["env"],
                "POT_LAB_JOB_DIR": str(directory.resolve()),
                "POT_LAB_JOB_ID": directory.name,
            }
            pid = self._fork(directory, environment, lock) if not spec["env"] else None
            if pid is not None:
                if pid != UNKNOWN:
                    write_json(directory / "pid", pid)
                return Job(directory)
            # Blocked signals stay blocked in the new process until it is ready for them, so its start loses no cancel.
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
            with open(os.open(directory / "log.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab") as log:
                process = subprocess.Popen(
                    [
                        sys.executable,
                        "-P",  # a file in the working folder must not stand for a module
                        "-m",
                        "pot_lab.jobs.run_notebook",
                        str(directory.resolve()),
                        str(lock),
                        str(self.cancel_grace_s),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    pass_fds=(lock,),
                    start_new_session=True,
                    umask=0o077,
                )
            write_json(directory / "pid", process.pid)
        finally:
            if mask is not None:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.close(lock)  # the child's copy keeps it
        threading.Thread(target=process.wait, name="pot-lab-job-reaper", daemon=True).start()
        return Job(directory)

    def _fork(self, directory: Path, environment: Mapping[str, str], lock: int) -> int | None:
        """Fork the job's process, if `prepare` found a server; returns as `ForkClient.start`."""
        if self._forks is None:
            return None
        return self._forks.start(directory, environment, self.cancel_grace_s, lock)


_SECRET_NAME = re.compile(
    r"(?:^|_)(?:PASSWORD|PASSWD|PASSPHRASE|PASS|PWD|SECRETS?|TOKENS?|MNEMONIC|SEED_PHRASE|CREDENTIALS?|PRIVATE_?KEY"
    r"|API_?KEY|ACCESS_?KEY|SIGNING_?KEY|KEYSTORE|WEBHOOK)(?:_|$)",
    re.IGNORECASE,
)
_USER_INFO = re.compile(r"://[^/\s@]*:[^/\s@]*@")
_NOT_SECRET = frozenset({"PWD", "OLDPWD"})


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that a notebook may see: none whose name is that of a secret, none that holds an address with a
    password.

    >>> without_secrets({"POT_LAB_PASSWORD": "pw", "https_proxy": "http://me:pw@proxy", "PWD": "/", "LANG": "C"})
    {'PWD': '/', 'LANG': 'C'}
    """
    return {
        name: value
        for name, value in environment.items()
        if name in _NOT_SECRET or not (_SECRET_NAME.search(name) or _USER_INFO.search(value))
    }


def _make_folder(directory: Path, source: bytes, record: Mapping[str, Any]) -> int:
    """Make a job's folder with its notebook and record; returns its lock, taken. Raises OSError, and leaves nothing."""
    make_private_folder(directory.parent)
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError as error:
        raise JobExists("there is a job of this id", seen=directory.name) from error
    try:
        lock = registry.take_lock(directory)
        if lock is None:  # another process has resumed it before it was started
            raise JobRunning("another process holds the new job's lock", seen=directory.name)
        replace_durably(directory / "input.ipynb", source, mode=0o600)
        write_json(directory / "job.json", record)
    except OSError:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    return lock
