"""Secrets of a testnet that a whole order must leave where they were: where else do they stand afterwards?"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil

from pot_lab.network.aggregator.keys_folder import (
    ACCOUNT_FILE,
    CURVE_FILE,
    PASSWORD_FILE,
    SEALING_FILE,
    load_account,
)

KEY_FILES = {ACCOUNT_FILE, CURVE_FILE, PASSWORD_FILE, SEALING_FILE}
_LOOK_EVERY_S = 0.5


def take_password(keys: Path) -> str:
    """The password of a keystore, which nobody finds beside it any more."""
    password = (keys / PASSWORD_FILE).read_text().strip()
    (keys / PASSWORD_FILE).unlink()
    return password


def secrets_of(keys: Path, password: str | None = None) -> dict[str, bytes]:
    """All that is secret in a folder of keys, by a name, in every form that might be written somewhere."""
    found = {}
    if password is not None:
        (keys / PASSWORD_FILE).write_text(password)
    secret = load_account(keys).secret
    if password is not None:
        (keys / PASSWORD_FILE).unlink()
    found[f"{keys} key"], found[f"{keys} key in hex"] = secret, secret.hex().encode()
    found[f"{keys} password"] = (password or (keys / PASSWORD_FILE).read_text().strip()).encode()
    for name in (CURVE_FILE, SEALING_FILE):
        if (keys / name).is_file():
            text = (keys / name).read_text()
            found[f"{keys} {name}"] = max(text.replace('"', " ").split(), key=len).encode()
    return found


def files_with(secrets: dict[str, bytes], folder: Path) -> tuple[int, list[str]]:
    """How many files were looked through, and which of them, other than key files, hold which secret."""
    looked, found = 0, []
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.name not in KEY_FILES:
            looked += 1
            data = path.read_bytes()
            found += [f"{path}: {name}" for name, secret in secrets.items() if secret in data]
    return looked, found


class Watched:
    """What others on the host, and the notebooks themselves, could see of processes below some others.

    Attributes:
        commands: their command lines.
        environments: the values in their environments.
    """

    def __init__(self) -> None:
        self.commands: set[str] = set()
        self.environments: set[str] = set()


@contextlib.contextmanager
def watching(parents: list[int], home: Path) -> Iterator[Watched]:
    """Look at the processes that these started, again and again, and at their own command lines.

    Args:
        parents: read each time.
        home: processes that work in its folders are looked at too: jobs may be forked from a server of all homes.
    """
    watched, ended = Watched(), threading.Event()

    def note(process: psutil.Process) -> None:
        with contextlib.suppress(psutil.Error):
            watched.commands.add(" ".join(process.cmdline()))
            watched.environments.update(process.environ().values())

    def look() -> None:
        while not ended.wait(_LOOK_EVERY_S):
            for parent in list(parents):
                with contextlib.suppress(psutil.Error):
                    process = psutil.Process(parent)
                    watched.commands.add(" ".join(process.cmdline()))
                    for child in process.children(recursive=True):
                        note(child)
            for process in psutil.process_iter(["cwd"]):
                if (process.info["cwd"] or "").startswith(f"{home}/"):
                    note(process)

    thread = threading.Thread(target=look, name="watching")
    thread.start()
    try:
        yield watched
    finally:
        ended.set()
        thread.join()
