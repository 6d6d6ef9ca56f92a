"""What others on the host may read, and what a notebook may see: no salt, no model before its reveal, no password."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pot_lab.files import make_private_folder
from pot_lab.jobs.provider import ProviderLoop
from pot_lab.jobs.runner import JobRunner, without_secrets
from pot_lab.jobs.validator import ValidatorLoop
from pot_lab.jobs.workspace import TrainingTask
from pot_lab.protocol.cycle import Window
from pot_lab.store import Store
from tests.jobs.in_process import HeldRunner, InProcessClient, Market
from tests.jobs.test_validator import write_results
from tests.protocol.scenes import PROVIDERS, VALIDATORS

PASSWORD = "correct horse battery staple"
STORE_PASSWORD = "s3cret-of-the-store"


@pytest.fixture
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def others_may(folder: Path) -> list[str]:
    """Everything below, and the folder itself, that another account of the host has a right to."""
    return [
        f"{stat.filemode(path.lstat().st_mode)} {path.name}"
        for path in (folder, *folder.rglob("*"))
        if path.lstat().st_mode & 0o077
    ]


@pytest.mark.usefixtures("usual_umask")
def test_nothing_of_an_order_is_readable_by_others(
    market: Market, store: Store, tmp_path: Path, place: Callable[..., bytes]
) -> None:
    home = tmp_path / "home"
    loops = [
        kind(InProcessClient(market, who), store, HeldRunner(), Path("x.ipynb"), home, clock_ms=lambda: market.now_ms)
        for kind, who in ((ProviderLoop, PROVIDERS[0]), (ValidatorLoop, VALIDATORS[0]))
    ]
    for loop in loops:
        market.followers.append(loop.feed.on_batch)
    provider, validator = loops
    order_id = place()
    provider.step()
    task = TrainingTask(provider.order_folder(order_id))
    task.submit(b"the unrevealed model", 0.9, 1)
    task.record_evidence({"device": "cpu"})
    (task.checkpoints / "1.pt").touch(mode=0o600)
    provider.step()
    market.wait_for(order_id, Window.REVEAL)
    provider.step()
    market.release(order_id)
    validator.step()
    write_results(validator.order_folder(order_id))
    validator.step()
    assert (provider.order_folder(order_id) / "memory.json").is_file()
    assert (validator.order_folder(order_id) / "test.safetensors").is_file()
    by_the_test = (".bin", "results.json", "transcripts")
    assert [line for line in others_may(home / "work") if not line.endswith(by_the_test)] == []


@pytest.mark.usefixtures("usual_umask")
def test_a_jobs_folder_and_what_its_notebook_writes_are_private(
    tmp_path: Path, write_notebook: Callable[..., Path], runner: JobRunner
) -> None:
    job = runner.start(write_notebook("open('weights.bin', 'w').write('x'); print('done')"), {}, kind="provider")
    assert job.wait(400) == "done"
    assert (job.directory / "weights.bin").is_file()
    assert others_may(runner.home / "jobs") == []


@pytest.mark.usefixtures("usual_umask")
def test_a_folder_from_an_earlier_version_is_closed_to_others(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir(mode=0o755)
    make_private_folder(tmp_path / "work")
    make_private_folder(tmp_path / "a" / "b")
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("work", "a", "a/b")] == [0o700] * 3
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        make_private_folder(tmp_path / "file")


@pytest.mark.parametrize(
    "name",
    ["POT_LAB_PASSWORD", "JUPYTER_TOKEN", "AWS_SECRET_ACCESS_KEY", "DB_PASSWD", "my_private_key", "OPENAI_API_KEY"],
)
def test_variables_with_the_name_of_a_secret_are_left_out(name: str) -> None:
    assert without_secrets({name: "x", "LANG": "C"}) == {"LANG": "C"}


@pytest.mark.parametrize(
    "name", ["PATH", "PWD", "TOKENIZERS_PARALLELISM", "CUDA_VISIBLE_DEVICES", "COMPASS", "POT_LAB_HOME"]
)
def test_other_variables_stay(name: str) -> None:
    assert without_secrets({name: "/x"}) == {name: "/x"}


def test_after_an_order_nothing_that_was_planted_stands_anywhere(
    market: Market,
    store: Store,
    tmp_path: Path,
    runner: JobRunner,
    write_notebook: Callable[..., Path],
    place: Callable[..., bytes],
    until: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The recipe prints all that it can see, and fails with a traceback."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("POT_LAB_PASSWORD", PASSWORD)
    monkeypatch.setenv("https_proxy", f"http://me:{STORE_PASSWORD}@proxy.example:3128")
    me = PROVIDERS[0]
    recipe = write_notebook(
        "import os, sys\nprint(dict(os.environ), sys.argv)\nimport pot_lab\ntask = pot_lab.TrainingTask(workspace)",
        "task.submit(task.weights, 0.5, 1)",
        "raise ValueError(dict(os.environ))",
        parameters="workspace = ''",
    )
    loop = ProviderLoop(InProcessClient(market, me), store, runner, recipe, runner.home, clock_ms=lambda: market.now_ms)
    place()
    loop.step()
    (job,) = runner.jobs()
    until(lambda: job.state == "failed", job)
    assert "POT_LAB_JOB_DIR" in job.log.read_text()  # it did look
    planted = [PASSWORD, STORE_PASSWORD, me.secret.hex()]
    for path in (path for path in runner.home.rglob("*") if path.is_file()):
        text = path.read_bytes()
        assert [secret for secret in planted if secret.encode() in text] == [], path
    assert [secret for secret in planted if secret in caplog.text] == []


def test_a_file_in_the_working_folder_stands_for_no_module(
    tmp_path: Path, runner: JobRunner, write_notebook: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token.py").write_text("raise RuntimeError('my own token.py')")
    monkeypatch.chdir(tmp_path)
    job = runner.start(write_notebook("print(1)"), {}, kind="provider")
    assert job.wait(400) == "done", job.log.read_text()


def test_a_notebook_prints_what_it_likes_in_any_locale(
    runner: JobRunner, write_notebook: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    monkeypatch.setenv("LC_ALL", "C")
    job = runner.start(write_notebook("print('epoch 1 \\U0001f600')"), {}, kind="provider")
    assert job.wait(400) == "done", job.log.read_text()
    assert "\U0001f600" in job.log.read_text(encoding="utf-8")
