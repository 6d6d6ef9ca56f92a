"""The provider's loop against a real ledger: what it commits to and when, what it reveals, and how it survives."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from pot_lab.crypto.canonical import decode, sha256
from pot_lab.crypto.cipher import encrypted_bytes
from pot_lab.crypto.link import Link
from pot_lab.crypto.sealed_model import KeyBoxes
from pot_lab.jobs import provider
from pot_lab.jobs.errors import NotebookUnusable
from pot_lab.jobs.order_files import ASIDE_MS, DISK_RESERVE_BYTES, TRIES
from pot_lab.jobs.provider import (
    COMMIT_MARGIN_MS,
    MIN_COMMIT_INTERVAL_MS,
    ProviderLoop,
    submitted_models,
)
from pot_lab.jobs.scorer import DATA_LIMIT_BYTES, GRAPH_LIMIT_BYTES, WEIGHTS_LIMIT_BYTES
from pot_lab.jobs.terms import Terms, training_bytes
from pot_lab.jobs.workspace import TrainingTask
from pot_lab.network.errors import Unreachable
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.records import HeldBlob, claim_commitment, model_id
from pot_lab.protocol.transactions import Claim, Put, RevealModel
from pot_lab.store import Store
from tests.jobs.in_process import HeldRunner, InProcessClient, Market, Wallet
from tests.protocol.scenes import PROVIDERS
from tests.protocol.world import POT, WINDOWS

ME = PROVIDERS[0]


class Bench:
    """A loop with everything that it works with; `again` makes a new one on the same folder, as after a crash."""

    def __init__(self, market: Market, store: Store, home: Path, **options: Any) -> None:
        self.market, self.store, self.home, self.options = market, store, home, options
        self.runner, self.client, self.wallet = HeldRunner(), InProcessClient(market, ME), Wallet()
        self.salts = iter(range(1, 1 << 20))
        self.loop = self.again()

    def again(self) -> ProviderLoop:
        self.loop = ProviderLoop(
            self.client,
            self.store,
            self.runner,
            Path("provider.ipynb"),
            self.home,
            make_claimer=lambda: self.wallet,
            clock_ms=lambda: self.market.now_ms,
            threads=0,
            random_bytes=lambda count: next(self.salts).to_bytes(count, "big"),
            **self.options,
        )
        self.market.followers[:] = [self.loop.feed.on_batch]
        return self.loop

    def of(self, kind: type) -> list[Any]:
        return [body for body in self.client.submitted if isinstance(body, kind)]

    def submit_model(self, data: bytes) -> None:
        TrainingTask(self.runner.only.workspace).submit(data, 0.5, 1)

    def later(self, milliseconds: int) -> None:
        self.market.wait(milliseconds)
        self.loop.step()


@pytest.fixture
def bench(market: Market, store: Store, tmp_path: Path) -> Bench:
    return Bench(market, store, tmp_path)


def test_an_order_becomes_a_workspace_and_a_job(bench: Bench, place: Callable[..., bytes]) -> None:
    bench = Bench(bench.market, bench.store, bench.home, settings={"threads": 1})
    order_id = place()
    bench.loop.step()
    job = bench.runner.only
    assert job.kind == "provider" and job.parameters["threads"] == 1
    task = TrainingTask(job.workspace)
    assert (task.graph, task.weights, task.read("train.safetensors")) == (b"graph0", b"weights0", b"train0")
    closes_ms = bench.market.order(order_id).closes_ms
    assert task.order == {
        "order_id": order_id.hex(),
        "title": "digits",
        "score": "accuracy/1",
        "reward_grains": 25 * POT,
        "closes_ms": closes_ms,
        "stop_training_ms": closes_ms - COMMIT_MARGIN_MS,
    }


def test_the_best_paid_order_is_trained_first_and_one_at_a_time(bench: Bench, place: Callable[..., bytes]) -> None:
    place(reward_grains=10 * POT)
    best = place(reward_grains=30 * POT)
    place(reward_grains=20 * POT)
    for _ in range(3):
        bench.loop.step()
    assert bench.runner.only.parameters["workspace"].endswith(best.hex()[:24])


def test_as_many_orders_are_trained_as_there_are_places(bench: Bench, place: Callable[..., bytes]) -> None:
    bench = Bench(bench.market, bench.store, bench.home, jobs_at_once=2)
    orders = {place(reward_grains=pot * POT): pot for pot in (10, 30, 20)}
    for _ in range(4):
        bench.loop.step()
    folders = {str(job.parameters["workspace"])[-24:] for job in bench.runner.jobs.values()}
    assert folders == {order_id.hex()[:24] for order_id, pot in orders.items() if pot != 10}
    for job in bench.runner.jobs.values():
        TrainingTask(job.workspace).submit(b"a model", 0.5, 1)
    bench.loop.step()
    assert len(bench.of(Claim)) == 2


def test_stake_and_memory_are_promised_once(bench: Bench, place: Callable[..., bytes]) -> None:
    """Two orders at once must not count on the same stake: the second claim would be refused, its training lost."""
    order_id = place()
    bench = Bench(bench.market, bench.store, bench.home, jobs_at_once=2)
    bench.loop.step()
    order = bench.market.order(order_id).order
    assert bench.loop._promised() == (order.claim_bond_grains, training_bytes(order))
    bench.submit_model(b"a model")
    for _ in range(2):
        bench.loop.step()
    assert bench.loop._promised() == (0, training_bytes(order))  # the ledger has locked the bond
    bench.market.wait_for(order_id, Window.REVEAL)
    bench.loop.step()
    assert bench.loop._promised() == (0, 0)


def test_models_that_are_never_revealed_are_removed(bench: Bench, place: Callable[..., bytes]) -> None:
    """A model of 1 GB, better once a minute, would fill the disk in an hour."""
    order_id = place()
    bench.loop.step()
    folder = bench.loop.order_folder(order_id)
    for number in range(1, 8):
        bench.submit_model(b"model %d" % number)
        if number != 6:  # one that is overtaken before it was committed to
            bench.later(MIN_COMMIT_INTERVAL_MS)
        assert len(submitted_models(folder)) <= 2
    assert [path.name for path in submitted_models(folder)] == ["00007.safetensors"]
    assert (folder / "models" / "00007.safetensors").read_bytes() == b"model 7"
    bench.submit_model(b"model 8")
    bench.client.failing_submit = Unreachable("gone")  # nobody knows whether the ledger has it
    bench.later(MIN_COMMIT_INTERVAL_MS)
    assert [path.read_bytes() for path in submitted_models(folder)] == [b"model 7", b"model 8"]
    bench.client.failing_submit = None
    bench.market.wait_for(order_id, Window.REVEAL)
    bench.again().step()
    (reveal,) = bench.of(RevealModel)
    assert bench.market.read_model(bench.store, ME, reveal) == b"model 7"


def test_own_orders_and_those_about_to_close_are_left_alone(bench: Bench, place: Callable[..., bytes]) -> None:
    bench.market.client = ME
    place(client=ME.address)
    bench.loop.step()
    assert not bench.runner.jobs
    bench.market.client = PROVIDERS[1]
    late = place(client=PROVIDERS[1].address)
    bench.market.now_ms = bench.market.order(late).closes_ms - 2 * COMMIT_MARGIN_MS + 1
    bench.loop.step()
    assert not bench.runner.jobs
    bench.market.now_ms -= 1
    bench.loop.step()
    assert bench.runner.only


def test_each_better_model_is_committed_to_but_not_too_often(bench: Bench, place: Callable[..., bytes]) -> None:
    order_id = place()
    bench.loop.step()
    bench.loop.step()
    assert bench.of(Claim) == []  # no model yet
    graph = bench.market.order(order_id).order.model.digest

    def commitment(data: bytes) -> bytes:
        kept = bench.loop.memories.active()[0].commits[-1]
        assert kept.mid == model_id(graph, sha256(data)).hex()
        boxes = decode(bytes.fromhex(kept.boxes), KeyBoxes, limit_bytes=1 << 16)
        mid, salt, digest = map(bytes.fromhex, (kept.mid, kept.salt, kept.ciphertext))
        blob = HeldBlob(digest, encrypted_bytes(len(data)))
        return claim_commitment(bench.market.network_id, order_id, ME.address, mid, blob, boxes.root, salt)

    bench.submit_model(b"first")
    bench.loop.step()
    assert [claim.commitment for claim in bench.of(Claim)] == [commitment(b"first")]
    bench.loop.step()
    assert len(bench.of(Claim)) == 1
    bench.submit_model(b"second")
    bench.later(MIN_COMMIT_INTERVAL_MS - 1)
    assert len(bench.of(Claim)) == 1
    bench.later(1)
    assert [claim.commitment for claim in bench.of(Claim)][1:] == [commitment(b"second")]


def test_a_model_that_was_not_trained_is_not_claimed(
    bench: Bench, place: Callable[..., bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """The order's own weights cannot win; their claim would only bind its bond."""
    order_id = place()
    bench.loop.step()
    bench.submit_model(b"weights0")
    for _ in range(3):
        bench.later(MIN_COMMIT_INTERVAL_MS)
    assert bench.of(Claim) == [] and caplog.text.count("event=untrained_model") == 1
    bench.submit_model(b"trained")
    bench.later(MIN_COMMIT_INTERVAL_MS)
    assert len(bench.of(Claim)) == 1
    bench.market.wait(bench.market.order(order_id).closes_ms - bench.market.now_ms)
    bench.loop.step()
    assert len(bench.of(RevealModel)) == 1


def test_the_last_model_before_the_deadline_is_committed_to_at_once(bench: Bench, place: Callable[..., bytes]) -> None:
    order_id = place()
    bench.loop.step()
    closes_ms = bench.market.order(order_id).closes_ms
    bench.market.now_ms = closes_ms - COMMIT_MARGIN_MS - 1
    bench.submit_model(b"first")
    bench.loop.step()
    bench.submit_model(b"second")
    bench.loop.step()
    assert len(bench.of(Claim)) == 1
    bench.market.now_ms += 1
    bench.loop.step()
    assert len(bench.of(Claim)) == 2


def test_the_salt_is_on_disk_before_the_commitment_leaves(bench: Bench, place: Callable[..., bytes]) -> None:
    order_id = place()
    bench.loop.step()
    bench.submit_model(b"model")
    bench.client.failing_submit = OSError("killed here")
    bench.loop.step()
    assert bench.of(Claim) == []
    (kept,) = json.loads((bench.loop.order_folder(order_id) / "memory.json").read_text())["commits"]
    assert kept["submitted"] is False and kept["salt"] == (1).to_bytes(32, "big").hex()
    bench.client.failing_submit = None
    bench.again().step()
    bench.market.wait(MIN_COMMIT_INTERVAL_MS)
    bench.loop.step()
    (claim,) = bench.of(Claim)
    boxes = decode(bytes.fromhex(kept["boxes"]), KeyBoxes, limit_bytes=1 << 16)
    mid, salt, digest = (bytes.fromhex(kept[name]) for name in ("mid", "salt", "ciphertext"))
    blob = HeldBlob(digest, kept["size_bytes"])
    assert claim.commitment == claim_commitment(
        bench.market.network_id, order_id, ME.address, mid, blob, boxes.root, salt
    )
    bench.later(10 * MIN_COMMIT_INTERVAL_MS)
    assert len(bench.of(Claim)) == 1


def test_the_commitment_that_the_ledger_has_is_revealed_once(
    bench: Bench, place: Callable[..., bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """A later model that was not committed to in time stays on this host."""
    caplog.set_level(logging.INFO)
    order_id = place()
    bench.loop.step()
    bench.submit_model(b"in time")
    bench.loop.step()
    bench.submit_model(b"too late")
    bench.market.wait_for(order_id, Window.REVEAL)
    bench.loop.step()
    (reveal,) = bench.of(RevealModel)
    for event in ("committed", "revealed"):
        assert f"event={event} order={order_id.hex()[:12]} model={reveal.mid.hex()[:12]}" in caplog.messages
    assert reveal.mid == model_id(bench.market.order(order_id).order.model.digest, sha256(b"in time"))
    assert bench.market.read_model(bench.store, ME, reveal) == b"in time"
    assert b"in time" not in bench.store.fetch(reveal.ciphertext, limit_bytes=1_000, timeout_s=60)
    bench.loop.step()
    assert len(bench.of(RevealModel)) == 1
    assert not bench.loop.memories.active()[0].training


def test_a_miner_restored_from_a_backup_reveals_what_it_had_committed_to(
    bench: Bench, place: Callable[..., bytes], tmp_path: Path
) -> None:
    """The salt and the model are under its home and nowhere else."""
    order_id = place()
    bench.loop.step()
    bench.submit_model(b"model")
    bench.loop.step()
    (claim,) = bench.of(Claim)
    backup = tmp_path / "backup"
    shutil.copytree(bench.home / "work", backup / "work")
    shutil.rmtree(bench.home / "work")  # the disk is gone
    bench.home = backup
    bench.again().step()
    bench.market.wait_for(order_id, Window.REVEAL)
    bench.loop.step()
    (reveal,) = bench.of(RevealModel)
    assert bench.of(Claim) == [claim]
    assert bench.market.read_model(bench.store, ME, reveal) == b"model"


def test_a_refused_commitment_is_not_repeated(
    bench: Bench, place: Callable[..., bytes], caplog: pytest.LogCaptureFixture
) -> None:
    order_id = place()
    bench.loop.step()
    bench.submit_model(b"model")
    held = bench.loop.feed.view(order_id)
    bench.market.now_ms = bench.market.order(order_id).closes_ms
    assert held is not None
    with caplog.at_level(logging.INFO):
        bench.loop.advance(bench.loop.memories.active()[0], held)  # as the loop saw it a moment ago
        bench.loop.advance(bench.loop.memories.active()[0], held)
    assert len(bench.of(Claim)) == 1
    assert "event=commit_too_late" in caplog.text


def test_a_winner_claims_when_the_epoch_is_confirmed(bench: Bench, place: Callable[..., bytes]) -> None:
    market = bench.market
    order_id = place()
    bench.loop.step()
    bench.submit_model(b"model")
    bench.loop.step()
    market.wait_for(order_id, Window.REVEAL)
    bench.loop.step()
    finish_with(market, order_id, total=90)
    bench.loop.step()
    assert bench.loop.finished == 0 and bench.wallet.claimed == []
    market.settle_all()
    bench.loop.step()
    assert bench.wallet.claimed == [(ME.address, bench.client.account(ME.address).earned_grains)]
    assert bench.loop.finished == 1
    memory = json.loads((bench.loop.order_folder(order_id) / "memory.json").read_text())
    assert (memory["finished"], memory["outcome"]) == (True, "won")


def finish_with(market: Market, order_id: bytes, total: int) -> None:
    """Validators score the revealed models alike until the order is sealed."""
    from pot_lab.crypto.merkle import SumTree
    from pot_lab.protocol.records import ClaimScore, validation_commitment
    from pot_lab.protocol.transactions import CommitScores, OpenedScore, OpenScores, ScoreCommitment
    from tests.protocol.scenes import VALIDATORS
    from tests.protocol.world import link

    market.release(order_id)
    tree = SumTree([1] * total + [0] * (100 - total))
    mids = [claim.mid for claim in market.order(order_id).claims.values() if claim.mid]
    opened = [
        OpenedScore(
            mid=mid,
            score=ClaimScore(total, 100, True),
            transcript_root=tree.root,
            top=tree.top,
            transcript=link("t"),
            salt=bytes(32),
        )
        for mid in mids
    ]
    for validator in VALIDATORS:
        items = tuple(
            ScoreCommitment(
                one.mid,
                validation_commitment(
                    market.network_id, order_id, one.mid, validator.address, one.score, one.transcript_root,
                    one.salt,
                ),
            )
            for one in opened
        )  # fmt: skip
        market.must(validator, CommitScores(order_id, items))
    for validator in VALIDATORS:
        market.must(validator, OpenScores(order_id, tuple(opened)))
    market.wait_for(order_id, Window.FINALIZATION)


def test_an_order_that_nobody_trained_is_archive(bench: Bench, place: Callable[..., bytes]) -> None:
    order_id = place()
    bench.loop.step()
    bench.market.wait_for(order_id, Window.VOID)
    bench.loop.step()
    assert bench.loop.finished == 0  # the client's refund may hold a payout
    bench.market.settle_all()
    bench.loop.step()
    assert bench.loop.finished == 1 and bench.loop.memories.active() == []
    assert bench.loop.has_begun(order_id) and bench.again().has_begun(order_id)


def test_an_order_without_its_data_rests_while_others_are_trained_and_is_put_away_in_the_end(
    bench: Bench, place: Callable[..., bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    windows = structs.replace(WINDOWS, train_ms=3_600_000)
    bad = place(reward_grains=30 * POT, windows=windows)
    (tmp_path / "blobs" / bench.market.order(bad).order.train.digest.hex()).unlink()
    good = place(reward_grains=10 * POT, windows=windows)
    bench.loop.step()
    assert f"event=order_set_aside role=provider order={bad.hex()[:12]} pause_s=15 reason='there is no" in caplog.text
    bench.loop.step()
    assert bench.runner.only.parameters["workspace"].endswith(good.hex()[:24])
    bench.runner.only.state = "cancelled"  # so that this one has its turn again
    bench.loop.step()
    for tries in range(2, TRIES):
        bench.later(ASIDE_MS << (tries - 2))
        assert caplog.text.count("event=order_set_aside") == tries
    bench.later(ASIDE_MS << (TRIES - 2))
    memory = json.loads((bench.loop.order_folder(bad) / "memory.json").read_text())
    assert memory["finished"] and memory["outcome"].startswith("unusable: there is no such blob")


def test_data_that_come_while_an_order_rests_are_used(
    bench: Bench, place: Callable[..., bytes], tmp_path: Path
) -> None:
    order_id = place(windows=structs.replace(WINDOWS, train_ms=3_600_000))
    blob = tmp_path / "blobs" / bench.market.order(order_id).order.train.digest.hex()
    content = blob.read_bytes()
    blob.unlink()
    bench.loop.step()
    blob.write_bytes(content)
    bench.later(ASIDE_MS - 1)
    assert not bench.runner.jobs
    bench.later(1)
    assert bench.runner.only


def test_a_recipe_that_cannot_be_run_is_not_the_orders_fault(
    bench: Bench, place: Callable[..., bytes], caplog: pytest.LogCaptureFixture
) -> None:
    place()
    bench.runner.refusal = NotebookUnusable("the notebook is too large")
    bench.loop.step()
    bench.loop.step()
    assert bench.loop.finished == 0 and caplog.text.count("the notebook is too large") == 1
    bench.runner.refusal = None
    bench.loop.step()
    assert bench.runner.only


@pytest.mark.parametrize(
    ("field", "limit_bytes"),
    [("model", GRAPH_LIMIT_BYTES), ("weights", WEIGHTS_LIMIT_BYTES), ("train", DATA_LIMIT_BYTES)],
)
def test_files_larger_than_their_kind_are_refused_before_the_first_byte(
    field: str, limit_bytes: int, bench: Bench, market: Market, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = Link(digest=sha256(b"x"), size_bytes=limit_bytes + 1, uri="http://127.0.0.1:9/x")
    order = market.new_order(**{field: big}, reward_grains=500 * POT)
    least_ms = order.least_windows_ms(market.parameters)
    longer = {name: max(least, getattr(order.windows, name)) for name, least in least_ms.items()}
    order = structs.replace(order, windows=structs.replace(order.windows, **longer))
    market.have_validators()
    market.must(market.client, Put(order))
    market.escrow(order)
    monkeypatch.setattr(store, "fetch_file", lambda *a, **k: pytest.fail("asked for"))
    monkeypatch.setattr(
        provider, "passing_objection", lambda view, free_grains, promised_bytes: None
    )  # this machine's memory
    bench.loop.terms = Terms(upload_bytes_per_s=1 << 40)
    bench.loop.step()
    memory = json.loads((bench.loop.order_folder(order.id) / "memory.json").read_text())
    assert memory["finished"] and "larger than such a file may be" in memory["outcome"]


def test_an_order_that_the_disk_has_no_room_for_keeps_no_smaller_one_waiting(
    bench: Bench, place: Callable[..., bytes], market: Market, caplog: pytest.LogCaptureFixture
) -> None:
    large = Link(digest=sha256(b"x"), size_bytes=1000, uri="http://127.0.0.1:9/x")
    order = market.new_order(train=large, reward_grains=50 * POT)
    market.must(market.client, Put(order))
    market.escrow(order)
    small = place(reward_grains=10 * POT)
    usage = shutil.disk_usage(bench.home)._replace(free=DISK_RESERVE_BYTES + 1000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage)
        bench.loop.step()
        bench.loop.step()
    assert "the disk has no room" in caplog.text and bench.loop.finished == 0
    assert bench.runner.only.parameters["workspace"].endswith(small.hex()[:24])


def test_a_lost_job_is_resumed_three_times_and_frees_the_provider_then(
    bench: Bench, place: Callable[..., bytes], caplog: pytest.LogCaptureFixture
) -> None:
    place(reward_grains=30 * POT)
    other = place(reward_grains=10 * POT)
    bench.loop.step()
    job = bench.runner.only
    for tries in (1, 2, 3):
        job.state = "lost"
        bench.loop.step()
        assert bench.runner.resumed == [job.id] * tries and job.state == "running"
    assert len(bench.runner.jobs) == 1
    job.state = "failed"
    bench.loop.step()
    assert bench.runner.resumed == [job.id] * 3 and "event=job_failed" in caplog.text
    assert [str(one.workspace)[-24:] for one in bench.runner.jobs.values()][1:] == [other.hex()[:24]]


def test_the_limit_counts_orders_at_hand(market: Market, store: Store, tmp_path: Path, place) -> None:
    bench = Bench(market, store, tmp_path, limit=1)
    place(reward_grains=30 * POT)
    place(reward_grains=10 * POT)
    bench.loop.step()
    bench.runner.only.state = "cancelled"
    bench.loop.step()
    bench.loop.step()
    assert len(bench.runner.jobs) == 1


def test_a_lost_salt_is_logged_and_harms_nothing(
    bench: Bench, place: Callable[..., bytes], caplog: pytest.LogCaptureFixture
) -> None:
    order_id = place()
    bench.loop.step()
    bench.submit_model(b"model")
    bench.loop.step()
    bench.loop.memories.active()[0].commits.clear()
    bench.market.wait_for(order_id, Window.REVEAL)
    bench.loop.step()
    assert "event=salt_lost" in caplog.text and bench.of(RevealModel) == []


def test_models_are_listed_oldest_first(tmp_path: Path) -> None:
    assert submitted_models(tmp_path) == []
    (tmp_path / "models").mkdir()
    for name in ("00002.safetensors", "00010.safetensors", "00001.safetensors", "note.txt"):
        (tmp_path / "models" / name).touch()
    assert [path.name[:5] for path in submitted_models(tmp_path)] == ["00001", "00002", "00010"]
