"""Opening what was sealed: from a ciphertext in custody and a released key to a file, some chunks at a time."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

from pot_lab.crypto.cipher import CannotDecrypt, decrypt_stream
from pot_lab.errors import Oversize, PotLabError
from pot_lab.judging.helper.files import CopyDamaged, check_file, sha256_of_file
from pot_lab.judging.helper.promises import wrong
from pot_lab.judging.records import Finding, Judgement, OpenSealed
from pot_lab.scoring import DEFAULT_LIMITS
from pot_lab.scoring.graph.model_graph import model_id_of

_LARGEST_CIPHERTEXT_BYTES = 2 * DEFAULT_LIMITS.dataset_bytes
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


class BadOpening(PotLabError):
    """What a ciphertext opens to is not what its maker promised.

    What to do: nothing: whoever promised it bears the cost.
    """


class _Bounded(io.RawIOBase):
    """A file that takes no more than `limit_bytes`; `digest` is the SHA-256 of what it took."""

    def __init__(self, descriptor: int, limit_bytes: int) -> None:
        super().__init__()
        self._descriptor, self._limit_bytes, self._written = descriptor, limit_bytes, 0
        self._hash = hashlib.sha256()

    @property
    def digest(self) -> bytes:
        """SHA-256, 32 bytes."""
        return self._hash.digest()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._written += len(data)
        if self._written > self._limit_bytes:
            raise Oversize("the opened file is too large", wanted=f"at most {self._limit_bytes} bytes")
        self._hash.update(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]
        return len(data)


def open_sealed(request: OpenSealed) -> Judgement:
    """Decrypt a file. A target that is not whole is removed.

    Raises:
        CopyDamaged: this host's ciphertext is missing or not the one that is meant, or the target cannot be made.
        Malformed: the key has another length.
    """
    check_file(request.ciphertext, _LARGEST_CIPHERTEXT_BYTES, "ciphertext")
    if sha256_of_file(request.ciphertext, _LARGEST_CIPHERTEXT_BYTES, "ciphertext") != request.digest:
        raise CopyDamaged("the ciphertext is not the one that is meant")
    target = Path(request.target)
    try:
        descriptor = os.open(target, _NEW_FILE, 0o600)
    except (OSError, ValueError) as error:
        raise CopyDamaged("no file can be made for what is opened", seen=type(error).__name__) from error
    whole, opened = False, _Bounded(descriptor, request.limit_bytes)
    try:
        with Path(request.ciphertext).open("rb") as source:
            decrypt_stream(request.key, source, opened)  # type: ignore[arg-type]
        found = opened.digest
        if request.graph_digest:
            found = model_id_of(request.graph_digest, found)
        if found != request.promised:
            raise BadOpening("the opened file is not what was promised", seen=found, wanted=request.promised)
        whole = True
    except (CannotDecrypt, Oversize, BadOpening) as problem:
        return wrong(problem)
    except OSError as error:
        raise CopyDamaged("the ciphertext cannot be opened here", seen=f"{type(error).__name__}: {error}") from error
    finally:
        os.close(descriptor)
        if not whole:
            target.unlink(missing_ok=True)
    return Judgement(finding=Finding.RIGHT)
