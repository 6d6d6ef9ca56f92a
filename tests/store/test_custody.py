"""Custody: what is named and paid for is taken and kept, nothing else is, and everything has an end."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pot_lab.store.custody import ARRIVING_FOLDER, INDEX_FILE, Custody, CustodyLimits, ExpectedBlob
from pot_lab.store.errors import NotExpected, QuotaExceeded, StoreFull, TooBig, WrongHash
from tests.begin import writing_at_most
from tests.store.conftest import ServerProcess

ANN, BOB = b"a" * 20, b"b" * 20
SMALL = CustodyLimits(total_bytes=1_000, payer_bytes=500, blob_bytes=300)


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


@pytest.fixture
def custody(tmp_path: Path) -> Iterator[Custody]:
    made = Custody(tmp_path / "custody", SMALL)
    yield made
    made.close()


def take(custody: Custody, data: bytes, *, payer: bytes = ANN, reference: bytes = b"order") -> None:
    custody.expect(sha(data), len(data), payer=payer, reference=reference)
    with custody.receive(sha(data), len(data)) as writer:
        for start in range(0, len(data), 7):
            writer.write(data[start : start + 7])


def files(custody: Custody) -> set[str]:
    arriving = {f"{ARRIVING_FOLDER}/{path.name}" for path in (custody.root / ARRIVING_FOLDER).iterdir()}
    return arriving | {path.name for path in custody.root.iterdir() if not path.name.startswith(".")}


def test_a_named_blob_is_held_once_its_bytes_are_there(custody: Custody) -> None:
    data = b"weights of a model"
    custody.expect(sha(data), len(data), payer=ANN, reference=b"order")
    assert custody.missing() == [ExpectedBlob(sha(data), len(data))] and not custody.has(sha(data), len(data))
    with pytest.raises(NotExpected):
        custody.path(sha(data), len(data))
    with custody.receive(sha(data), len(data)) as writer:
        writer.write(data)
        assert not custody.has(sha(data), len(data))
    assert custody.has(sha(data), len(data)) and custody.missing() == []
    assert custody.path(sha(data), len(data)).read_bytes() == data
    assert custody.path(sha(data), len(data)).stat().st_mode & 0o077 == 0
    assert custody.root.stat().st_mode & 0o077 == 0


def test_what_nobody_named_is_not_taken(custody: Custody) -> None:
    data = b"a stranger's"
    with pytest.raises(NotExpected), custody.receive(sha(data), len(data)):
        pass
    custody.expect(sha(data), len(data), payer=ANN, reference=b"order")
    with pytest.raises(NotExpected), custody.receive(sha(data), len(data) + 1):
        pass
    assert files(custody) == set()


@pytest.mark.parametrize(
    ("written", "error"),
    [([b"abcd"], WrongHash), ([b"ab"], WrongHash), ([b"abc", b"de"], TooBig), ([], WrongHash), ([b"abcde"], TooBig)],
)
def test_other_bytes_leave_nothing_behind(custody: Custody, written: list[bytes], error: type[Exception]) -> None:
    data = b"abcx"
    custody.expect(sha(data), 4, payer=ANN, reference=b"order")
    with pytest.raises(error), custody.receive(sha(data), 4) as writer:
        for part in written:
            writer.write(part)
    assert files(custody) == set() and custody.used_bytes() == 0 and not custody.has(sha(data), 4)


def test_an_upload_that_breaks_off_leaves_nothing_behind(custody: Custody) -> None:
    data = b"abcx"
    custody.expect(sha(data), 4, payer=ANN, reference=b"order")
    with pytest.raises(ConnectionError), custody.receive(sha(data), 4) as writer:
        writer.write(b"ab")
        raise ConnectionError
    assert files(custody) == set() and custody.used_bytes() == 0


def test_a_payer_names_no_more_than_its_quota_and_another_is_not_hindered(custody: Custody) -> None:
    for i in range(5):
        custody.expect(bytes([i]) * 32, 100, payer=ANN, reference=b"order")
    with pytest.raises(QuotaExceeded):
        custody.expect(b"x" * 32, 1, payer=ANN, reference=b"order")
    custody.expect(b"\x01" * 32, 100, payer=ANN, reference=b"another order")  # the same blob counts once
    custody.expect(b"x" * 32, 100, payer=BOB, reference=b"order of Bob")
    custody.prune({b"order of Bob"})
    custody.expect(b"x" * 32, 300, payer=ANN, reference=b"order")
    assert (custody.named_bytes(ANN), custody.named_bytes(BOB)) == (300, 100)


def test_a_blob_above_the_cap_or_of_no_hash_is_refused(custody: Custody) -> None:
    for digest, size in ((b"x" * 32, 301), (b"x" * 31, 1), (b"x" * 32, -1)):
        with pytest.raises(TooBig):
            custody.expect(digest, size, payer=ANN, reference=b"order")


def test_room_is_taken_by_bytes_that_came_and_not_by_promises(tmp_path: Path) -> None:
    """Whoever announces a blob and sends nothing keeps nobody out."""
    custody = Custody(tmp_path, CustodyLimits(total_bytes=300, payer_bytes=3_000, blob_bytes=300))
    for i in range(5):
        custody.expect(bytes([i]) * 32, 300, payer=ANN, reference=b"order")
    data = bytes(200)
    with contextlib.ExitStack() as stack:
        stack.enter_context(pytest.raises(WrongHash))
        for i in range(5):
            stack.enter_context(custody.receive(bytes([i]) * 32, 300))
        take(custody, data, payer=BOB, reference=b"order of Bob")
    assert custody.has(sha(data), 200)
    custody.close()


def test_a_full_store_takes_no_more_bytes_and_serves_what_it_has(tmp_path: Path) -> None:
    custody = Custody(tmp_path, CustodyLimits(total_bytes=500, payer_bytes=3_000, blob_bytes=300))
    first, second = bytes(300), b"\x01" * 300
    take(custody, first)
    with pytest.raises(StoreFull):
        take(custody, second)
    assert custody.has(sha(first), 300) and files(custody) == {sha(first).hex()}
    custody.prune(set())
    take(custody, second)
    custody.close()


def test_a_wrong_length_named_by_another_keeps_nobody_from_the_right_one(custody: Custody) -> None:
    """A rival names the victim's hash first, with a length of its own."""
    data = b"the victim's model"
    custody.expect(sha(data), 3, payer=BOB, reference=b"rival")
    take(custody, data)
    assert custody.has(sha(data), len(data)) and not custody.has(sha(data), 3)
    assert custody.missing() == [ExpectedBlob(sha(data), 3)]
    custody.prune({b"order"})
    assert custody.has(sha(data), len(data)) and custody.missing() == []


def test_a_blob_lives_as_long_as_one_reference_to_it(custody: Custody) -> None:
    data, other = b"shared", b"other"
    take(custody, data, reference=b"one")
    custody.expect(sha(data), len(data), payer=BOB, reference=b"two")
    take(custody, other, reference=b"one")
    assert custody.prune({b"one", b"two", b"unknown"}) == 0
    assert custody.prune({b"two"}) == len(other)
    assert custody.has(sha(data), len(data)) and not custody.has(sha(other), len(other))
    assert custody.prune(set()) == len(data)
    assert files(custody) == set() and custody.used_bytes() == 0


def test_a_reference_that_dies_while_its_blob_comes_leaves_nothing(custody: Custody) -> None:
    data = b"late"
    custody.expect(sha(data), 4, payer=ANN, reference=b"order")
    with pytest.raises(NotExpected), custody.receive(sha(data), 4) as writer:
        writer.write(data)
        custody.prune(set())
    assert files(custody) == set()


def test_what_came_twice_is_there_once(custody: Custody) -> None:
    data = b"twice"
    custody.expect(sha(data), 5, payer=ANN, reference=b"order")
    with custody.receive(sha(data), 5) as one, custody.receive(sha(data), 5) as two:
        one.write(data)
        two.write(data)
    assert files(custody) == {sha(data).hex()} and custody.used_bytes() == 5


def test_a_damaged_blob_is_found_dropped_and_taken_again(custody: Custody) -> None:
    data = b"important"
    take(custody, data)
    assert custody.verify(sha(data), 9)
    path = custody.path(sha(data), 9)
    path.write_bytes(b"importanT")
    assert custody.has(sha(data), 9) and not custody.verify(sha(data), 9)
    assert custody.missing() == [ExpectedBlob(sha(data), 9)]
    take(custody, data)
    assert custody.verify(sha(data), 9)


def test_a_blob_that_was_removed_by_hand_is_not_held(custody: Custody) -> None:
    data = b"gone"
    take(custody, data)
    custody.path(sha(data), 4).unlink()
    assert not custody.has(sha(data), 4) and not custody.verify(sha(data), 4)


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    data = b"durable"
    first = Custody(tmp_path, SMALL)
    take(first, data)
    first.expect(b"x" * 32, 10, payer=BOB, reference=b"two")
    first.close()
    again = Custody(tmp_path, SMALL)
    assert again.has(sha(data), 7) and again.missing() == [ExpectedBlob(b"x" * 32, 10)]
    assert (again.named_bytes(ANN), again.named_bytes(BOB)) == (7, 10)
    again.close()


@pytest.mark.parametrize("damage", [b"", b"no database at all" * 400])
def test_blobs_outlive_a_lost_or_damaged_index(tmp_path: Path, damage: bytes) -> None:
    data = b"durable"
    first = Custody(tmp_path, SMALL)
    take(first, data)
    first.close()
    for path in tmp_path.glob(INDEX_FILE + "*"):
        path.unlink()
    (tmp_path / INDEX_FILE).write_bytes(damage)
    again = Custody(tmp_path, SMALL)
    assert not again.has(sha(data), 7)
    again.expect(sha(data), 7, payer=ANN, reference=b"order")  # the ledger still names it
    assert again.has(sha(data), 7)
    again.close()


def test_a_file_of_another_content_is_not_recognised(tmp_path: Path) -> None:
    custody = Custody(tmp_path, SMALL)
    (tmp_path / sha(b"right").hex()).write_bytes(b"wrong")
    custody.expect(sha(b"right"), 5, payer=ANN, reference=b"order")
    assert not custody.has(sha(b"right"), 5)
    take(custody, b"right")
    assert custody.verify(sha(b"right"), 5) and custody.path(sha(b"right"), 5).read_bytes() == b"right"
    custody.close()


def test_a_wrong_length_keeps_no_blob_beyond_its_own_references(custody: Custody) -> None:
    data = b"ended"
    take(custody, data)
    custody.expect(sha(data), 3, payer=BOB, reference=b"rival")
    assert custody.prune({b"rival"}) == 5
    assert files(custody) == set()


def test_two_processes_use_one_folder(tmp_path: Path) -> None:
    """An aggregator expects and attests; another process brings the bytes."""
    data = b"from another process"
    mine = Custody(tmp_path, SMALL)
    mine.expect(sha(data), len(data), payer=ANN, reference=b"order")
    code = (
        "import sys; from pathlib import Path; from pot_lab.store.custody import Custody\n"
        "custody = Custody(Path(sys.argv[1])); data = sys.argv[2].encode(); blob = custody.missing()[0]\n"
        "with custody.receive(blob.digest, blob.size_bytes) as writer: writer.write(data)\n"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), data.decode()], check=True, cwd=Path(__file__).parents[2]
    )
    assert mine.has(sha(data), len(data))
    mine.close()


def test_a_writer_killed_with_9_leaves_no_room_taken(tmp_path: Path) -> None:
    mine = Custody(tmp_path, SMALL)
    mine.expect(b"x" * 32, 300, payer=ANN, reference=b"order")
    code = (
        "import os, sys; from pathlib import Path; from pot_lab.store.custody import Custody\n"
        "custody = Custody(Path(sys.argv[1]))\n"
        "with custody.receive(b'x' * 32, 300) as writer:\n"
        "    writer.write(bytes(200)); writer._file.flush(); os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=Path(__file__).parents[2], check=False)
    assert killed.returncode == -signal.SIGKILL and mine.used_bytes() == 200
    mine.close()
    again = Custody(tmp_path, SMALL)
    again.sweep()
    assert again.used_bytes() == 0 and files(again) == set()
    again.close()


def test_a_sweep_leaves_an_upload_that_runs(custody: Custody) -> None:
    data = b"slow but honest"
    custody.expect(sha(data), len(data), payer=ANN, reference=b"order")
    with custody.receive(sha(data), len(data)) as writer:
        writer.write(data[:4])
        custody.sweep()
        writer.write(data[4:])
    assert custody.has(sha(data), len(data))


def test_a_complete_file_is_adopted_and_a_wrong_one_left(custody: Custody, tmp_path: Path) -> None:
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_bytes(b"data")
    wrong.write_bytes(b"dat4")
    with pytest.raises(NotExpected):
        custody.adopt(right, sha(b"data"), 4)
    custody.expect(sha(b"data"), 4, payer=ANN, reference=b"order")
    with pytest.raises(WrongHash):
        custody.adopt(wrong, sha(b"data"), 4)
    custody.adopt(right, sha(b"data"), 4)
    assert custody.verify(sha(b"data"), 4) and wrong.exists() and not right.exists()


def test_a_full_disk_is_said_so(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from pot_lab.store.custody import Custody\n"
        "from pot_lab.store.errors import StoreFull\n"
        "custody = Custody(Path(sys.argv[1])); custody.expect(b'x' * 32, 1 << 20, payer=b'', reference=b'')\n"
        "try:\n"
        "    with custody.receive(b'x' * 32, 1 << 20) as writer: writer.write(bytes(1 << 20))\n"
        "except StoreFull: print('full')\n"
    )
    command = writing_at_most(1 << 17, [sys.executable, "-c", code, str(tmp_path / "c")])
    answer = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=True)
    assert answer.stdout.strip() == "full"


def test_threads_bring_many_blobs_at_once(tmp_path: Path) -> None:
    custody = Custody(tmp_path)
    blobs = [bytes([i]) * 1_000 for i in range(24)]
    threads = [threading.Thread(target=take, args=(custody, data)) for data in blobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(custody.has(sha(data), 1_000) for data in blobs) and custody.used_bytes() == 24_000
    custody.close()


def test_the_blob_server_serves_what_is_held(tmp_path: Path) -> None:
    custody = Custody(tmp_path / "custody")
    data = os.urandom(100_000)
    take(custody, data)
    server = ServerProcess(custody.root)
    try:
        status, body, _ = server.request("GET", "/" + sha(data).hex())
        assert (status, body) == (200, data)
        assert server.request("GET", "/" + sha(b"other").hex())[0] == 404
        for hidden in (INDEX_FILE, ARRIVING_FOLDER):
            assert server.request("GET", "/" + hidden)[0] == 404
    finally:
        server.stop()
        custody.close()


class CustodyMachine(RuleBasedStateMachine):
    """Any history of naming, bringing, damaging, pruning and restarting, against a model of what must be there."""

    blobs = st.sampled_from([b"", b"a", b"bb" * 50, b"c" * 299, b"d" * 300])
    payers = st.sampled_from([ANN, BOB])
    references = st.sampled_from([b"1", b"2", b"3"])

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.custody = Custody(Path(self.folder.name), SMALL)
        self.names: dict[tuple[bytes, bytes], bytes] = {}  # (blob, reference) -> payer
        self.held: set[bytes] = set()

    def teardown(self) -> None:
        self.custody.close()
        self.folder.cleanup()

    def named_by(self, payer: bytes) -> set[bytes]:
        return {data for (data, _), each in self.names.items() if each == payer}

    @rule(data=blobs, payer=payers, reference=references)
    def expect(self, data: bytes, payer: bytes, reference: bytes) -> None:
        known = (data, reference) in self.names
        fits = known or sum(map(len, self.named_by(payer) | {data})) <= SMALL.payer_bytes
        try:
            self.custody.expect(sha(data), len(data), payer=payer, reference=reference)
            assert fits
            self.names.setdefault((data, reference), payer)
        except QuotaExceeded:
            assert not fits

    @rule(data=blobs, honest=st.booleans())
    def bring(self, data: bytes, honest: bool) -> None:
        expected = any(each == data for each, _ in self.names)
        full = sum(map(len, self.held)) + len(data) > SMALL.total_bytes
        try:
            with self.custody.receive(sha(data), len(data)) as writer:
                writer.write(data if honest else data[::-1] + b"x")
            assert expected and honest
            self.held.add(data)
        except NotExpected:
            assert not expected
        except TooBig:
            assert not honest
        except StoreFull:
            assert full

    @rule(live=st.sets(references))
    def prune(self, live: set[bytes]) -> None:
        self.custody.prune(live)
        self.names = {key: payer for key, payer in self.names.items() if key[1] in live}
        self.held &= {data for data, _ in self.names}

    @rule()
    def restart(self) -> None:
        self.custody.close()
        self.custody = Custody(Path(self.folder.name), SMALL)

    @rule()
    def lose_the_index(self) -> None:
        self.custody.close()
        for path in Path(self.folder.name).glob(INDEX_FILE + "*"):
            path.unlink()
        self.custody = Custody(Path(self.folder.name), SMALL)
        for (data, reference), payer in self.names.items():
            self.custody.expect(sha(data), len(data), payer=payer, reference=reference)

    @invariant()
    def what_is_held_is_what_came_and_is_named(self) -> None:
        named = {data for data, _ in self.names}
        assert {data for data in named if self.custody.has(sha(data), len(data))} == self.held
        assert {blob.digest for blob in self.custody.missing()} == {sha(data) for data in named - self.held}
        assert self.custody.used_bytes() == sum(map(len, self.held)) <= SMALL.total_bytes
        assert files(self.custody) == {sha(data).hex() for data in self.held}
        for payer in (ANN, BOB):
            assert self.custody.named_bytes(payer) == sum(map(len, self.named_by(payer))) <= SMALL.payer_bytes


TestCustodyMachine = CustodyMachine.TestCase
TestCustodyMachine.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
