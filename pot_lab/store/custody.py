"""Custody of blobs beside an aggregator: what a ledger's references name, at a payer's cost, for as long as they live.

A blob is taken only if it is expected: somebody named its hash and length and pays for it. So nothing that a stranger
adds for free is kept. Room is taken as bytes come, and a blob is held once its hash and length are right. `prune` gives
everything an end: the caller says which references live, and what no living reference names is removed.

The folder holds each blob under its hash in hex, as the blob server serves it, and an index. Several processes may use
it at once: one aggregator that expects, attests and prunes; a server and fetchers that bring bytes. If the index is
lost, expecting again what the ledger names finds the blobs that are there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from pot_lab.crypto.canonical import HASH_BYTES
from pot_lab.files import make_private_folder, sync_directory, try_lock
from pot_lab.store.errors import NotExpected, QuotaExceeded, StoreFull, TooBig, WrongHash
from pot_lab.store.transport import raise_if_full

INDEX_FILE, ARRIVING_FOLDER = ".custody.sqlite", ".arriving"
_ROOM_STEP_BYTES = 4 << 20
_BUSY_S = 30.0
_NAME_CHARACTERS = 2 * HASH_BYTES
_TABLES = """
CREATE TABLE IF NOT EXISTS blobs (digest BLOB, size INTEGER, held INTEGER DEFAULT 0, PRIMARY KEY (digest, size));
CREATE INDEX IF NOT EXISTS blobs_missing ON blobs (size, digest) WHERE held = 0;
CREATE TABLE IF NOT EXISTS names (digest BLOB, size INTEGER, reference BLOB, payer BLOB,
    PRIMARY KEY (digest, size, reference));
CREATE INDEX IF NOT EXISTS names_of_payer ON names (payer, digest, size);
CREATE INDEX IF NOT EXISTS names_by_reference ON names (reference);
"""


class CustodyLimits(NamedTuple):
    """Bounds in bytes: of all blobs that are here or arrive, of what one payer has named, of one blob."""

    total_bytes: int = 64 << 30
    payer_bytes: int = 16 << 30
    blob_bytes: int = 8 << 30


class ExpectedBlob(NamedTuple):
    """A blob that is named and not here: SHA-256 (32 bytes) and exact length."""

    digest: bytes
    size_bytes: int


class Custody:
    """A folder of blobs that are kept for references.

    Args:
        root: the folder; made for this account alone if missing.
        limits: bounds in bytes.
    Raises:
        OSError: the folder cannot be used.

    Example:
        >>> custody = Custody(Path("/var/custody"))
        >>> custody.expect(digest, 7, payer=client, reference=order_id)
        >>> with custody.receive(digest, 7) as writer:
        ...     writer.write(b"weights")
        >>> custody.has(digest, 7)
        True
    """

    def __init__(self, root: Path, limits: CustodyLimits | None = None) -> None:
        self.root = root.resolve()
        self.limits = limits or CustodyLimits()
        self._arriving = self.root / ARRIVING_FOLDER
        make_private_folder(self.root)
        make_private_folder(self._arriving)
        self._lock = threading.RLock()
        self._named_bytes: dict[bytes, int] = {}  # as `named_bytes`, of payers that were asked for since the last prune
        self._database = self._opened()

    def close(self) -> None:
        """Close the index."""
        with self._lock:
            self._database.close()

    # ---------------------------------------------------------------------------------------- what is expected

    def expect(self, digest: bytes, size_bytes: int, *, payer: bytes, reference: bytes) -> None:
        """From now on take this blob, and keep it while `reference` lives. Expecting it again changes nothing.

        Waits for the disk, and after an index was lost for reading the blob: no call for a loop that must not wait.

        A hash that is named with different lengths is expected with each: whoever names another's blob with a wrong
        length keeps nobody from the right one.

        Args:
            digest: SHA-256, 32 bytes.
            payer: whose quota the length counts in, an account.
            reference: what keeps the blob, such as an order's id.
        Raises:
            TooBig: it is longer than a blob may be, or its length is impossible.
            QuotaExceeded: the payer has named too much that is still referred to.
        """
        if len(digest) != HASH_BYTES or not 0 <= size_bytes <= self.limits.blob_bytes:
            raise TooBig(
                "custody takes no such blob",
                seen=f"{size_bytes} bytes, a hash of {len(digest)}",
                wanted=f"at most {self.limits.blob_bytes} bytes",
            )
        with self._changing() as database:
            known = database.execute(
                "SELECT 1 FROM names WHERE digest = ? AND size = ? AND reference = ?", (digest, size_bytes, reference)
            ).fetchone()
            if not known:
                self._name(database, digest, size_bytes, payer, reference)
        if not self.has(digest, size_bytes):
            self._recognise(digest, size_bytes)

    def _name(
        self, database: sqlite3.Connection, digest: bytes, size_bytes: int, payer: bytes, reference: bytes
    ) -> None:
        named_bytes = self._named_bytes.get(payer)
        if named_bytes is None:
            named_bytes = self.named_bytes(payer)
        query = "SELECT 1 FROM names WHERE payer = ? AND digest = ? AND size = ?"
        more_bytes = 0 if database.execute(query, (payer, digest, size_bytes)).fetchone() else size_bytes
        if named_bytes + more_bytes > self.limits.payer_bytes:
            raise QuotaExceeded(
                "an account has too much in custody",
                seen=f"{named_bytes} + {more_bytes} bytes",
                wanted=f"at most {self.limits.payer_bytes} bytes",
            )
        database.execute("INSERT OR IGNORE INTO blobs (digest, size) VALUES (?, ?)", (digest, size_bytes))
        database.execute("INSERT INTO names VALUES (?, ?, ?, ?)", (digest, size_bytes, reference, payer))
        self._named_bytes[payer] = named_bytes + more_bytes

    def missing(self) -> list[ExpectedBlob]:
        """Blobs that are expected and not held, those of small length first."""
        rows = self._rows("SELECT digest, size FROM blobs WHERE held = 0 ORDER BY size, digest")
        return [ExpectedBlob(digest, size) for digest, size in rows]

    def is_expected(self, digest: bytes, size_bytes: int) -> bool:
        """Whether somebody named this blob, held or not."""
        return bool(self._rows("SELECT 1 FROM blobs WHERE digest = ? AND size = ?", digest, size_bytes))

    def references(self) -> set[bytes]:
        """All references that name a blob."""
        return {row[0] for row in self._rows("SELECT DISTINCT reference FROM names")}

    def named_bytes(self, payer: bytes) -> int:
        """Length of all different blobs that a payer's references name."""
        query = "SELECT COALESCE(SUM(size), 0) FROM (SELECT DISTINCT digest, size FROM names WHERE payer = ?)"
        return int(self._rows(query, payer)[0][0])

    # -------------------------------------------------------------------------------------------- what is here

    def has(self, digest: bytes, size_bytes: int) -> bool:
        """Whether the blob is held; it was checked when it came (`verify` checks it again)."""
        held = self._rows("SELECT 1 FROM blobs WHERE digest = ? AND size = ? AND held = 1", digest, size_bytes)
        try:
            return bool(held) and self._path(digest).stat().st_size == size_bytes
        except FileNotFoundError:
            return False

    def held(self) -> set[ExpectedBlob]:
        """All blobs that are held."""
        return {ExpectedBlob(*row) for row in self._rows("SELECT digest, size FROM blobs WHERE held = 1")}

    def path(self, digest: bytes, size_bytes: int) -> Path:
        """Where a held blob lies; not to be changed. Raises NotExpected where it is not held."""
        if not self.has(digest, size_bytes):
            raise NotExpected("the blob is not in custody", seen=digest)
        return self._path(digest)

    def verify(self, digest: bytes, size_bytes: int) -> bool:
        """Read a held blob again, as before it is attested anew; one that was damaged is dropped, and is missing."""
        if not self.has(digest, size_bytes):
            return False
        if _digest_of(self._path(digest)) == digest:
            return True
        with self._changing() as database:
            database.execute("UPDATE blobs SET held = 0 WHERE digest = ?", (digest,))
            self._path(digest).unlink(missing_ok=True)
        return False

    def used_bytes(self) -> int:
        """Length of all blobs that are held, and of what arrives."""
        held = int(self._rows("SELECT COALESCE(SUM(size), 0) FROM blobs WHERE held = 1")[0][0])
        arriving = 0
        with os.scandir(self._arriving) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    arriving += entry.stat().st_size
        return held + arriving

    # ------------------------------------------------------------------------------------- coming and going

    @contextlib.contextmanager
    def receive(self, digest: bytes, size_bytes: int) -> Iterator[BlobWriter]:
        """Take an expected blob as its bytes come; it is held when the `with` block ends, and not before.

        Raises:
            NotExpected: nobody named it.
            TooBig, WrongHash: other bytes were written than those of the hash and length; nothing is kept.
            StoreFull: no room for more bytes.
        """
        if not self.is_expected(digest, size_bytes):
            raise NotExpected("nobody pays for custody of this blob", seen=digest, wanted=f"{size_bytes} bytes")
        temporary = self._arriving / f"{digest.hex()}.{secrets.token_hex(8)}"
        try:
            with _locked_file(temporary) as file:
                writer = BlobWriter(file, size_bytes, self.make_room)
                yield writer
                if writer.finished() != digest:
                    raise WrongHash("the bytes do not have the hash that was named", wanted=digest)
                file.flush()
                os.fsync(file.fileno())
            self._hold(temporary, digest, size_bytes)
        except OSError as error:
            raise_if_full(error, self.root)
            raise
        finally:
            temporary.unlink(missing_ok=True)

    def make_room(self, more_bytes: int) -> None:
        """Whether so many more bytes may come. Raises StoreFull."""
        used_bytes = self.used_bytes()
        if used_bytes + more_bytes > self.limits.total_bytes:
            raise StoreFull(
                "there is no room in custody",
                seen=f"{used_bytes} + {more_bytes} bytes",
                wanted=f"at most {self.limits.total_bytes} bytes",
            )

    def adopt(self, path: Path, digest: bytes, size_bytes: int) -> None:
        """Take an expected blob that lies complete in a file of the same file system; the file is moved away.

        Raises:
            NotExpected: nobody named it.
            WrongHash: the file has other bytes; it is left where it is.
        """
        if not self.is_expected(digest, size_bytes):
            raise NotExpected("nobody pays for custody of this blob", seen=digest, wanted=f"{size_bytes} bytes")
        if path.stat().st_size != size_bytes or _digest_of(path) != digest:
            raise WrongHash("the file does not have the hash and length that were named", wanted=digest)
        self._hold(path, digest, size_bytes)

    def sweep(self) -> None:
        """Remove beginnings whose writer was killed. For the owner of the folder, when it starts."""
        for path in self._arriving.iterdir():
            with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                if try_lock(file.fileno()):
                    path.unlink(missing_ok=True)

    def prune(self, live: Collection[bytes]) -> int:
        """Forget all references but these, and remove what none of them names; returns how many bytes became free."""
        self._named_bytes.clear()
        with self._changing() as database:
            known = [row[0] for row in database.execute("SELECT DISTINCT reference FROM names")]
            dead = [(reference,) for reference in known if reference not in live]
            database.executemany("DELETE FROM names WHERE reference = ?", dead)
            database.execute(
                "DELETE FROM blobs WHERE NOT EXISTS "
                "(SELECT 1 FROM names WHERE names.digest = blobs.digest AND names.size = blobs.size)"
            )
            kept = set(database.execute("SELECT digest, size FROM blobs"))
            freed_bytes = 0
            for path in self._blob_paths():
                size_bytes = path.stat().st_size
                if (bytes.fromhex(path.name), size_bytes) not in kept:
                    freed_bytes += size_bytes
                    path.unlink(missing_ok=True)
        return freed_bytes

    # ------------------------------------------------------------------------------------------------- inside

    def _path(self, digest: bytes) -> Path:
        return self.root / digest.hex()

    def _blob_paths(self) -> Iterator[Path]:
        for path in self.root.iterdir():
            if len(path.name) == _NAME_CHARACTERS and not path.name.startswith("."):
                with contextlib.suppress(ValueError):
                    bytes.fromhex(path.name)
                    yield path

    def _hold(self, temporary: Path, digest: bytes, size_bytes: int) -> None:
        with self._changing() as database:
            updated = database.execute(
                "UPDATE blobs SET held = 1 WHERE digest = ? AND size = ?", (digest, size_bytes)
            ).rowcount
            if not updated:  # its last reference died while it came
                raise NotExpected("nobody pays for custody of this blob any more", seen=digest)
            os.replace(temporary, self._path(digest))  # in place of what is there, which nobody has checked
            sync_directory(self.root)

    def _recognise(self, digest: bytes, size_bytes: int) -> None:
        """Hold a blob that lies here already, from before the index was lost or a process was killed; miss one whose
        file is gone.
        """
        path = self._path(digest)
        with self._changing() as database:
            held = path.is_file() and path.stat().st_size == size_bytes and _digest_of(path) == digest
            database.execute(
                "UPDATE blobs SET held = ? WHERE digest = ? AND size = ? AND held != ?",
                (held, digest, size_bytes, held),
            )

    def _opened(self) -> sqlite3.Connection:
        try:
            return self._connected()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise OSError(f"the index of custody cannot be opened: {error}") from error
            for path in self.root.glob(INDEX_FILE + "*"):  # damaged: what it knew comes again from the ledger
                path.unlink(missing_ok=True)
            return self._connected()

    def _connected(self) -> sqlite3.Connection:
        database = sqlite3.connect(
            self.root / INDEX_FILE, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            database.executescript(_TABLES)
        except sqlite3.Error:
            database.close()
            raise
        return database

    def _rows(self, statement: str, *values: bytes | int) -> list[Any]:
        with self._lock:
            return self._database.execute(statement, values).fetchall()

    @contextlib.contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, which no other process' change interrupts."""
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")


class BlobWriter:
    """Takes a blob's bytes as they come; made by `Custody.receive`.

    Args:
        file: where they go.
        size_bytes: how many there must be.
        make_room: called with a number of bytes before so many more are written; raises StoreFull.
    """

    def __init__(self, file: BinaryIO, size_bytes: int, make_room: Callable[[int], None]) -> None:
        self._file, self._size_bytes, self._make_room = file, size_bytes, make_room
        self._hash = hashlib.sha256()
        self._written_bytes = self._granted_bytes = 0

    def write(self, data: bytes) -> None:
        """Take the next bytes. Raises TooBig beyond the named length, StoreFull where there is no room."""
        end = self._written_bytes + len(data)
        if end > self._size_bytes:
            raise TooBig("more bytes came than were named", wanted=f"{self._size_bytes} bytes")
        if end > self._granted_bytes:
            step = min(max(_ROOM_STEP_BYTES, len(data)), self._size_bytes - self._written_bytes)
            self._file.flush()  # so that what was written is counted
            self._make_room(step)
            self._granted_bytes = self._written_bytes + step
        self._file.write(data)
        self._hash.update(data)
        self._written_bytes = end

    def finished(self) -> bytes | None:
        """SHA-256 of all bytes, 32 bytes; None while some are missing."""
        return self._hash.digest() if self._written_bytes == self._size_bytes else None


def _digest_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _locked_file(path: Path) -> BinaryIO:
    """A new file that a sweep knows to be in use."""
    while True:
        file = open(path, "xb", opener=_privately)  # noqa: SIM115 - the caller closes it
        if try_lock(file.fileno()) and path.exists():
            return file
        file.close()  # a sweep came between


def _privately(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
