"""Real helper processes: killed, stopped, crashed, out of memory, time or processor; the asker goes on each time."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest
import torch

from pot_lab.crypto.canonical import encode
from pot_lab.forking import fork_folder
from pot_lab.judging import (
    CheckModel,
    CheckTestData,
    Finding,
    HelperLimits,
    JudgeHelper,
    Judgement,
    TensorSchema,
    start_helper,
)
from pot_lab.judging.client import Starter
from pot_lab.judging.forked import ForkedHelper, HelperForks
from pot_lab.judging.frames import HelperChannel, framed, read_frame
from pot_lab.judging.process import HELPER_MODULE, HelperProcess
from pot_lab.judging.records import HelperRequest
from pot_lab.scoring import save_dataset
from pot_lab.scoring.graph.model_graph import encode_graph
from tests.judging.cases import Case, make_case
from tests.running import is_running

PATIENT = HelperLimits(wall_s=600.0, start_s=600.0)


class Started:
    """Starts real helpers and remembers them."""

    def __init__(self, start: Starter) -> None:
        self.start = start
        self.helpers: list[HelperChannel] = []
        self.pids: list[int] = []

    def __call__(self, limits: HelperLimits) -> HelperChannel:
        self.helpers.append(self.start(limits))
        return self.helpers[-1]

    @property
    def pid(self) -> int:
        return pid_of(self.helpers[-1])


def pid_of(helper: HelperChannel) -> int:
    assert isinstance(helper, HelperProcess | ForkedHelper)
    assert helper.pid is not None
    return helper.pid


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("case"))


@pytest.fixture(params=[pytest.param("by its command", marks=pytest.mark.long), "forked"])
def starter(request: pytest.FixtureRequest) -> Starter:
    """Both ways to start a helper; whoever asks notices no difference.

    A command imports torch for seconds, and is the way only where helpers cannot be forked: of it the suite has the two
    tests that name it, and the long tests all.
    """
    if request.param == "forked":
        if sys.platform != "linux":
            pytest.skip("helpers are forked on Linux only")
        return HelperForks(fork_folder(Path("/nowhere")), otherwise=no_other_way)
    return start_helper


def no_other_way(limits: HelperLimits) -> HelperChannel:
    raise OSError("no helper was forked")


@pytest.fixture
def start(starter: Starter) -> Started:
    return Started(starter)


@pytest.fixture
def helper(start: Started) -> Iterator[JudgeHelper]:
    made = JudgeHelper(start, PATIENT)
    yield made
    made.close()
    for each in start.helpers:
        assert not is_running(pid_of(each))


def judged_while(helper: JudgeHelper, case: Case, act: signal.Signals, pid: int) -> Judgement:
    """A request to a helper that stands still, which then gets a signal."""
    os.kill(pid, signal.SIGSTOP)
    found: list[Judgement] = []
    asking = threading.Thread(target=lambda: found.append(helper.judge(case.dispute(case.honest, 3))))
    asking.start()
    os.kill(pid, act)
    os.kill(pid, signal.SIGCONT)
    asking.join()
    return found[0]


def test_a_helper_judges_and_is_replaced_when_it_is_killed_over_a_request(
    helper: JudgeHelper, start: Started, case: Case
) -> None:
    right = Judgement(finding=Finding.RIGHT, expected=int(case.honest.values[3]))
    assert helper.judge(case.dispute(case.honest, 3)) == right
    for act in (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT):
        before = start.pid
        found = judged_while(helper, case, act, before)
        assert (found.finding, found.code) == (Finding.NOT_JUDGED, "HelperDied"), act
        assert helper.judge(case.dispute(case.honest, 3)) == right
        assert start.pid != before


def test_a_helper_that_stands_still_is_killed_after_its_time(helper: JudgeHelper, start: Started, case: Case) -> None:
    helper.judge(case.model())
    before = start.pid
    os.kill(before, signal.SIGSTOP)
    found = helper.judge(case.dispute(case.honest, 3), wall_s=0.5)
    assert (found.finding, found.code) == (Finding.NOT_JUDGED, "HelperTooSlow")
    assert not is_running(before)
    assert helper.judge(case.model()).finding is Finding.RIGHT


def test_a_helper_that_was_killed_between_requests_costs_none(helper: JudgeHelper, start: Started, case: Case) -> None:
    helper.judge(case.model())
    os.kill(start.pid, signal.SIGKILL)
    psutil.Process(start.pid).wait(240)
    assert helper.judge(case.model()).finding is Finding.RIGHT


def large_model(folder: Path) -> CheckModel:
    """A model of 128 MiB of zeros, and its files."""
    import hashlib

    from pot_lab.scoring import model_id

    rows, columns = 4096, 8192
    graph = encode_graph(
        {
            "format": "pot-lab-graph",
            "version": 1,
            "inputs": [{"dtype": "float32", "shape": [None, columns]}],
            "state": [{"name": "w", "kind": "parameter", "dtype": "float32", "shape": [rows, columns]}],
            "aliases": {},
            "nodes": [{"op": "aten.linear.default", "args": [{"$": 1}, {"$": 0}], "kwargs": {}}],
            "outputs": [{"$": 2}],
        }
    )
    size = rows * columns * 4
    header = json.dumps({"w": {"dtype": "F32", "shape": [rows, columns], "data_offsets": [0, size]}}).encode()
    header += b" " * (-len(header) % 8)
    (folder / "g.json").write_bytes(graph)
    with (folder / "w.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(file.tell() + size)
    mid = model_id(hashlib.sha256(graph).digest(), (folder / "w.safetensors").read_bytes())
    return CheckModel(graph=str(folder / "g.json"), weights=str(folder / "w.safetensors"), mid=mid)


@pytest.mark.parametrize(
    ("memory_mib", "finding"), [(64, Finding.NOT_JUDGED), (200, Finding.NOT_JUDGED), (2048, Finding.RIGHT)]
)
def test_memory_that_ends_is_no_vote_and_costs_no_other_answer(
    tmp_path: Path, start: Started, case: Case, memory_mib: int, finding: Finding
) -> None:
    """64 MiB end while the file is read, 200 MiB while tensors are made of it, where readers call a file broken."""
    helper = JudgeHelper(start, msgspec.structs.replace(PATIENT, memory_bytes=memory_mib << 20))
    found = helper.judge(large_model(tmp_path))
    after = helper.judge(case.dispute(case.honest, 3))
    helper.close()
    assert found.finding is finding, found
    assert after.finding is Finding.RIGHT, after


def test_processor_time_that_ends_is_no_vote(tmp_path: Path, start: Started, case: Case) -> None:
    examples = 2_000_000
    path = tmp_path / "many.safetensors"
    save_dataset(path, torch.zeros(examples, 1), torch.zeros(examples, dtype=torch.int64))
    schema = (TensorSchema(dtype="float32", shape=(1,)), TensorSchema(dtype="int64", shape=()))
    body = CheckTestData(
        path=str(path),
        root=bytes(32),
        examples=examples,
        schema=schema,
        graph=case.graph,
        graph_digest=case.graph_digest,
        function=case.function,
        tree=str(tmp_path / "tree"),
    )
    helper = JudgeHelper(start, msgspec.structs.replace(PATIENT, cpu_s=1))
    found = helper.judge(body)
    assert (found.finding, found.code) == (Finding.NOT_JUDGED, "HelperDied")
    assert start.helpers[-1].exit_status() == -signal.SIGXCPU
    assert helper.judge(case.model()).finding is Finding.RIGHT
    helper.close()


def test_a_request_that_is_waited_for_longer_has_more_processor_time(start: Started, case: Case) -> None:
    helper = JudgeHelper(start, msgspec.structs.replace(PATIENT, wall_s=60.0, cpu_s=10))
    limits = []
    for wall_s in (None, 30.0, 600.0):
        assert helper.judge(case.model(), wall_s=wall_s).finding is Finding.RIGHT
        limits.append(psutil.Process(start.pid).rlimit(psutil.RLIMIT_CPU)[0])
    helper.close()
    assert limits[1] - limits[0] < 5 and limits[2] - limits[1] >= 85


@pytest.mark.parametrize("way", ["start_helper", "HelperForks(Path(sys.argv[1]))"])
def test_a_helper_whose_asker_died_ends(tmp_path: Path, way: str) -> None:
    code = (
        "import os, sys; from pathlib import Path\n"
        "from pot_lab.judging import HelperForks, HelperLimits, JudgeHelper, start_helper, CheckModel\n"
        f"start, started = {way}, []\n"
        "helper = JudgeHelper(lambda limits: started.append(start(limits)) or started[-1])\n"
        "helper.judge(CheckModel(graph='/g', weights='/w', mid=bytes(32)))\n"
        "print(started[0].pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    asker = subprocess.run(
        [sys.executable, "-c", code, fork_folder(tmp_path)],
        capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False,
    )  # fmt: skip
    assert asker.returncode == -signal.SIGKILL, asker.stderr
    orphan = int(asker.stdout)
    try:
        psutil.Process(orphan).wait(240)
    except psutil.NoSuchProcess:
        pass
    assert not is_running(orphan)


def test_a_helper_has_no_password_no_proxy_and_no_descriptor_of_its_asker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, starter: Starter
) -> None:
    monkeypatch.setenv("POT_LAB_PASSWORD", "secret")
    monkeypatch.setenv("http_proxy", "http://proxy")
    with open(tmp_path / "key", "w") as held:
        os.set_inheritable(held.fileno(), True)
        process = starter(PATIENT)
    try:
        read_frame(lambda size: process.receive(size, 600.0), PATIENT.reply_bytes)
        inside = psutil.Process(pid_of(process))
        environment = inside.environ()
        assert not {"POT_LAB_PASSWORD", "http_proxy"} & set(environment)
        assert str(tmp_path / "key") not in [each.path for each in inside.open_files()]
        assert inside.rlimit(psutil.RLIMIT_CORE) == (0, 0)
        assert inside.rlimit(psutil.RLIMIT_FSIZE)[1] == PATIENT.file_bytes
        assert inside.rlimit(psutil.RLIMIT_NOFILE)[1] == PATIENT.open_files
        assert inside.rlimit(psutil.RLIMIT_AS)[1] < PATIENT.memory_bytes + (4 << 30)
        assert os.getsid(inside.pid) != os.getsid(0)
        assert not [each for each in inside.net_connections("unix") if each.raddr or each.laddr]
    finally:
        process.kill()


def test_a_frame_that_no_client_sends_ends_the_helper(case: Case, starter: Starter) -> None:
    for frame in (
        framed(b"rubbish"),
        (1 << 31).to_bytes(4, "big"),
        framed(encode(HelperRequest(number=1, wall_s=-1, body=case.model()))),
        framed(encode(HelperRequest(number=1, wall_s=1 << 62, body=case.model()))),
        framed(encode(HelperRequest(number=1, wall_s=60, body=case.model())) + b"\0"),
    ):
        process = starter(PATIENT)
        read_frame(lambda size: process.receive(size, 600.0), PATIENT.reply_bytes)  # noqa: B023
        process.send(frame, 60.0)
        try:
            assert process.receive(1, 600.0) == b""
        except ConnectionResetError:
            pass
        process.kill()


def test_closing_ends_a_request_that_waits_on_another_thread(start: Started, case: Case) -> None:
    helper = JudgeHelper(start, PATIENT)
    helper.judge(case.model())
    os.kill(start.pid, signal.SIGSTOP)
    found: list[Judgement] = []
    asking = threading.Thread(target=lambda: found.append(helper.judge(case.model())))
    asking.start()
    helper.close()
    asking.join()
    assert found[0].finding is Finding.NOT_JUDGED
    assert not is_running(start.pid)


def test_the_helper_is_a_module_that_runs_by_name() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", HELPER_MODULE, msgspec.json.encode(PATIENT).decode()],
            stdin=theirs.fileno(),
            cwd=Path(__file__).parents[2],
        )
        theirs.close()
        read_frame(ours.recv, PATIENT.reply_bytes)
        ours.close()
        assert process.wait(240) == 0
