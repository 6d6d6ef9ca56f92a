"""Uploads beside the loop: a store that is slow or away keeps no other order waiting.

A file is put once; who asks for its link again gets it, or the reason why there is none yet.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pot_lab.crypto.link import Link
from pot_lab.errors import PotLabError

THREADS = 4


@dataclass
class _Upload:
    path: Path
    done: bool = False
    link: Link | None = None
    error: PotLabError | OSError | None = None


class Uploads:
    """All uploads of one loop.

    Args:
        put: puts a file into the store.
        on_done: called, on an upload's thread, after each.
        threads: how many at once; 0 puts a file within `link_of`.
    """

    def __init__(self, put: Callable[[Path], Link], on_done: Callable[[], None], *, threads: int = THREADS) -> None:
        self._put, self._on_done, self._limit = put, on_done, threads
        self._changed = threading.Condition()
        self._uploads: dict[Path, _Upload] = {}
        self._waiting: deque[_Upload] = deque()
        self._threads = 0

    def link_of(self, path: Path) -> Link | None:
        """The link of a file in the store; None while it is on its way there, which begins with the first call.

        Raises:
            LinkDead, StoreFull, OSError, ...: it could not be put; the next call tries again.
        """
        with self._changed:
            upload = self._uploads.get(path)
            if upload is None:
                upload = self._uploads[path] = _Upload(path)
                self._waiting.append(upload)
                if self._threads < self._limit:
                    self._threads += 1
                    threading.Thread(target=self._work, name="pot-lab-upload", daemon=True).start()
        if not self._limit:
            self._turn()
        with self._changed:
            if upload.error is not None:
                del self._uploads[path]
                raise upload.error
            return upload.link

    def has(self, path: Path) -> bool:
        """Whether a file was begun to be put."""
        return path in self._uploads

    def wait(self, timeout_s: float) -> None:
        """Return when nothing is on its way, at the latest after `timeout_s` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: all(each.done for each in self._uploads.values()), timeout_s)

    def forget(self, folder: Path) -> None:
        """Nothing below this folder is needed any more."""
        with self._changed:
            for path in [path for path in self._uploads if path.is_relative_to(folder)]:
                upload = self._uploads.pop(path)
                if upload in self._waiting:
                    self._waiting.remove(upload)

    def _work(self) -> None:
        while self._turn():
            pass

    def _turn(self) -> bool:
        with self._changed:
            if not self._waiting:
                self._threads -= self._limit > 0
                return False
            upload = self._waiting.popleft()
        try:
            upload.link = self._put(upload.path)
        except (PotLabError, OSError) as error:
            upload.error = error
        except Exception as error:  # of a store's own kind: the loop shall be told, not the thread end
            upload.error = PotLabError("the store failed", seen=f"{type(error).__name__}: {error}")
        with self._changed:
            upload.done = True
            self._changed.notify_all()
        self._on_done()
        return True
