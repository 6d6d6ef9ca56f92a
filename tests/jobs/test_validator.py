"""Validator and verifier against a real ledger: what is scored, committed to, opened, compared, and what survives."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from pot_lab.crypto.link import Link
from pot_lab.crypto.merkle import SumTree
from pot_lab.jobs import scorer
from pot_lab.jobs.loop import Loop
from pot_lab.jobs.validator import ValidatorLoop
from pot_lab.jobs.verifier import VerifierLoop, compare, wrong_example
from pot_lab.jobs.workspace import BadWorkspace, Workspace, read_results
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.records import ClaimScore, validation_commitment
from pot_lab.protocol.transactions import (
    Challenge,
    CommitScores,
    OpenChallenge,
    OpenedScore,
    OpenScores,
    Put,
    ScoreCommitment,
    Verdict,
)
from pot_lab.protocol.views import OrdersQuery, OrderSummary
from pot_lab.scoring import Transcript, score_function
from pot_lab.store import Store
from tests.jobs.in_process import HeldRunner, InProcessClient, Market, Wallet
from tests.protocol.scenes import PROVIDERS, VALIDATORS
from tests.protocol.world import WINDOWS, key

ME = VALIDATORS[0]
VERIFIER = key("verifier")
SALT = bytes(31) + b"\x01"


class Bench:
    """A scoring loop with everything that it works with; `again` makes a new one on the same folder."""

    def __init__(
        self, kind: type[Loop[Any]], identity: Any, market: Market, store: Store, home: Path, threads: int = 0
    ) -> None:
        self.kind, self.market, self.store, self.home, self.threads = kind, market, store, home, threads
        self.runner, self.client, self.wallet = HeldRunner(), InProcessClient(market, identity), Wallet()
        self.loop = self.again()

    def again(self) -> Loop[Any]:
        self.salts = iter(range(1, 1 << 20))
        self.loop = self.kind(
            self.client,
            self.store,
            self.runner,
            Path("recipe.ipynb"),
            self.home,
            make_claimer=lambda: self.wallet,
            clock_ms=lambda: self.market.now_ms,
            threads=self.threads,
            random_bytes=lambda count: next(self.salts).to_bytes(count, "big"),
        )
        self.market.followers.append(self.loop.feed.on_batch)
        return self.loop

    def of(self, kind: type) -> list[Any]:
        return [body for body in self.client.submitted if isinstance(body, kind)]

    def memory(self, order_id: bytes) -> dict[str, Any]:
        return json.loads((self.loop.order_folder(order_id) / "memory.json").read_text())

    def score(self, **changes: Any) -> None:
        """What the notebook does: results and transcripts for every model that is there."""
        write_results(self.runner.only.workspace, **changes)


def sum_tree(total: int) -> SumTree:
    return SumTree([1] * total + [0] * (100 - total))


def write_results(workspace: Path, **changes: Any) -> None:
    results, total = [], changes.get("total", 80)
    tree = sum_tree(total if isinstance(total, int) else 80)
    (workspace / "transcripts").mkdir(exist_ok=True)
    for mid in Workspace(workspace).order["models"]:
        name = f"transcripts/{mid}.bin"
        (workspace / name).write_bytes(b"transcript of " + mid.encode())
        result = {
            "mid": mid, "total": total, "count": 100, "valid": True, "root": tree.root.hex(), "transcript": name,
            "top_hash": tree.top.hash.hex(), "top_total": total, "error": None,
        }  # fmt: skip
        results.append({**result, **changes})
    (workspace / "results.json").write_text(json.dumps(results))


@pytest.fixture
def bench(market: Market, store: Store, tmp_path: Path) -> Bench:
    return Bench(ValidatorLoop, ME, market, store, tmp_path)


@pytest.fixture
def verifier(market: Market, store: Store, tmp_path: Path) -> Bench:
    return Bench(VerifierLoop, VERIFIER, market, store, tmp_path)


@pytest.fixture
def to_scores(market: Market, store: Store, place: Callable[..., bytes]) -> Callable[[], bytes]:
    """An order in its score window, with a model of each provider."""

    def bring(**changes: Any) -> bytes:
        order_id = place(**changes)
        models = {}
        for provider in PROVIDERS:
            models[provider] = market.seal_file(store, order_id, provider, b"weights of " + provider.address, SALT)
            market.must(provider, market.claim_of(order_id, provider, models[provider]))
        market.wait_for(order_id, Window.REVEAL)
        for provider, model in models.items():
            market.must(provider, market.reveal_of(order_id, model))
        market.release(order_id)
        assert market.order(order_id).window == Window.SCORE
        return order_id

    return bring


def test_an_assignment_becomes_a_workspace_and_a_job(bench: Bench, to_scores: Callable[[], bytes]) -> None:
    order_id = to_scores()
    bench.loop.step()
    assert bench.runner.only.kind == "validator"
    task = Workspace(bench.runner.only.workspace)
    mids = {claim.mid.hex() for claim in bench.market.order(order_id).claims.values()}
    assert (
        set(task.order["models"]) == mids
        and task.order["test_root"] == bench.market.order(order_id).order.test.root.hex()
    )
    assert (task.graph, task.read("test.safetensors")) == (b"graph0", b"test0")
    assert {task.read(f"models/{mid}.safetensors") for mid in mids} == {b"weights of " + p.address for p in PROVIDERS}
    bench.loop.step()
    assert len(bench.runner.jobs) == 1


def test_a_stranger_to_the_order_does_not_score(
    market: Market, store: Store, tmp_path: Path, to_scores: Callable[[], bytes]
) -> None:
    order_id = to_scores()
    late = key("late validator")
    market.stake(late, Role.VALIDATOR)
    bench = Bench(ValidatorLoop, late, market, store, tmp_path)
    bench.loop.step()
    assert not bench.runner.jobs and not bench.loop.has_begun(order_id) and bench.loop.finished == 0


@pytest.mark.parametrize("kind", ["bench", "verifier"])
def test_orders_of_strangers_hide_none_that_needs_scoring(
    kind: str, to_scores: Callable[[], bytes], request: pytest.FixtureRequest
) -> None:
    """More unfunded orders than the list of the newest has, all newer than the one that is to be scored."""
    one: Bench = request.getfixturevalue(kind)
    order_id, market = to_scores(), one.market
    market.now_ms += 10
    seal_by_s = market.now_ms // 1000 + 100_000
    for number in range(128):
        stranger = key(f"nobody {number % 2}")
        market.must(
            stranger, Put(market.new_order(client=stranger.address, nonce=10_000 + number, seal_by_s=seal_by_s))
        )
    newest = one.client._ask("orders", OrdersQuery(100), list[OrderSummary])
    assert order_id not in {summary.id for summary in newest}  # the attack, for whoever reads that list
    one.loop.step()
    assert one.loop.has_begun(order_id) and one.runner.only


def test_scores_are_committed_once_and_opened_with_their_transcripts(
    bench: Bench, to_scores: Callable[[], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    market = bench.market
    others = [Bench(ValidatorLoop, other, market, bench.store, bench.home) for other in VALIDATORS[1:]]
    order_id = to_scores()
    for other in others:
        other.loop.step()
        other.score()
    for other in others[1:]:
        other.loop.step()
    bench.loop.step()
    bench.loop.step()
    assert bench.of(CommitScores) == []  # the notebook has not ended
    bench.runner.only.worked_s = 90.0
    bench.score()
    bench.loop.step()
    (commit,) = bench.of(CommitScores)
    for number, item in enumerate(commit.items, 1):
        root, salt = sum_tree(80).root, number.to_bytes(32, "big")
        assert item.commitment == validation_commitment(
            market.network_id, order_id, item.mid, ME.address, ClaimScore(80, 100, True), root, salt
        )
    assert len(commit.items) == 2
    bench.loop.step()
    assert len(bench.of(CommitScores)) == 1 and bench.of(OpenScores) == []
    others[0].loop.step()
    assert market.order(order_id).window == Window.OPEN_SCORES  # all have committed
    for one in (bench, *others):
        one.loop.step()
    bench.loop.step()
    (opened,) = bench.of(OpenScores)
    assert bench.memory(order_id)["opened"]
    assert f"event=scores_opened order={order_id.hex()[:12]} models=2" in caplog.messages
    assert [one.mid for one in opened.items] == [item.mid for item in commit.items]
    for one in opened.items:
        transcript = bench.store.fetch(one.transcript, limit_bytes=1000, timeout_s=60)
        assert transcript == b"transcript of " + one.mid.hex().encode()
    assert {v.score for v in bench.client.order(order_id).validations} == {ClaimScore(80, 100, True)}
    market.wait_for(order_id, Window.FINALIZATION)
    bench.loop.step()
    assert bench.loop.finished == 0
    market.settle_all()
    bench.loop.step()
    assert bench.loop.finished == 1 and bench.memory(order_id)["outcome"] == "scored"
    earned_grains = bench.client.account(ME.address).earned_grains
    assert bench.wallet.claimed == [(ME.address, earned_grains)]
    (entry,) = bench.loop.earnings.book.entries()
    assert (entry.order_id, entry.outcome, entry.ended_ms) == (order_id.hex(), "scored", market.now_ms)
    assert entry.grains == earned_grains > 0 and entry.reasons and entry.worked_s == 90.0


def test_salts_are_on_disk_before_commitments_leave_and_are_used_again(
    bench: Bench, to_scores: Callable[[], bytes]
) -> None:
    order_id = to_scores()
    bench.loop.step()
    bench.score()
    bench.client.failing_submit = OSError("killed here")
    bench.loop.step()
    kept = bench.memory(order_id)
    assert not kept["committed"] and [item["salt"][-2:] for item in kept["items"]] == ["01", "02"]
    bench.client.failing_submit = None
    bench.again().step()
    (commit,) = bench.of(CommitScores)
    assert len(commit.items) == 2
    assert [{**item, "committed": False} for item in bench.memory(order_id)["items"]] == kept["items"]


def test_what_the_ledger_has_already_is_not_committed_again(bench: Bench, to_scores: Callable[[], bytes]) -> None:
    """Killed after the commitments were ordered and before that was written down."""
    order_id = to_scores()
    bench.loop.step()
    bench.score()
    bench.loop.step()
    path = bench.loop.order_folder(order_id) / "memory.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "committed": False}))
    bench.again().step()
    assert len(bench.of(CommitScores)) == 1 and bench.memory(order_id)["committed"]


def test_killed_while_the_workspace_was_made_it_is_made_again(bench: Bench, to_scores: Callable[[], bytes]) -> None:
    order_id = to_scores()
    bench.runner.refusal = OSError(28, "no room")
    bench.loop.step()
    assert not bench.runner.jobs and bench.loop.has_begun(order_id)
    bench.runner.refusal = None
    bench.again().step()
    assert len(Workspace(bench.runner.only.workspace).order["models"]) == 2


def test_a_model_that_cannot_be_fetched_is_left_out(
    bench: Bench, to_scores: Callable[[], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    order_id = to_scores()
    claim = next(iter(bench.market.order(order_id).claims.values()))
    assert claim.sealed is not None
    (bench.home / "blobs" / claim.sealed.ciphertext.digest.hex()).unlink()
    bench.loop.step()
    models = Workspace(bench.runner.only.workspace).order["models"]
    assert len(models) == 1 and claim.mid.hex() not in models
    named = f"event=model_irretrievable order={order_id.hex()[:12]} model={claim.mid.hex()[:12]} reason="
    assert named in caplog.text


def test_a_copy_that_does_not_open_to_its_model_is_left_out(
    bench: Bench, to_scores: Callable[[], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    order_id = to_scores()
    other, claim = bench.market.order(order_id).claims.values()
    assert claim.sealed is not None and other.sealed is not None
    claim.sealed.key = bytes(32)  # as a copy that was changed after the aggregators found it right
    bench.loop.step()
    task = Workspace(bench.runner.only.workspace)
    assert task.order["models"] == [other.mid.hex()] and "reason='the ciphertext does not open" in caplog.text
    assert [path.name for path in (task.folder / "models").iterdir()] == [f"{other.mid.hex()}.safetensors"]


@pytest.mark.parametrize("kind", ["bench", "verifier"])
def test_test_data_that_cannot_be_had_are_tried_again(
    kind: str, to_scores: Callable[[], bytes], request: pytest.FixtureRequest
) -> None:
    one: Bench = request.getfixturevalue(kind)
    order_id = to_scores()
    blob = one.home / "blobs" / one.market.order(order_id).order.test.link.digest.hex()
    content = blob.read_bytes()
    blob.unlink()
    one.loop.step()
    assert not one.runner.jobs and one.loop.finished == 0
    blob.write_bytes(content)
    one.again().step()
    assert Workspace(one.runner.only.workspace).read("test.safetensors") == b"test0"
    assert one.memory(order_id)["job_id"]


@pytest.mark.parametrize("kind", ["bench", "verifier"])
def test_test_data_that_are_not_what_was_promised_put_the_order_away(
    kind: str, to_scores: Callable[[], bytes], request: pytest.FixtureRequest, market: Market
) -> None:
    one: Bench = request.getfixturevalue(kind)
    order_id = to_scores()
    market.ledger.state.orders[order_id].test_key = bytes(32)
    one.loop.step()
    assert one.loop.finished == 1 and one.memory(order_id)["outcome"].startswith("unusable: ")
    assert list(one.loop.order_folder(order_id).glob("*test*")) == []


@pytest.mark.parametrize("threads", [0, 16])
def test_a_link_that_hangs_keeps_no_other_order_waiting(
    threads: int, market: Market, store: Store, tmp_path: Path, to_scores: Callable[..., bytes]
) -> None:
    """Without threads, which is the attack with the rule switched off, the loop waits with the link."""
    bench = Bench(ValidatorLoop, ME, market, store, tmp_path, threads=threads)
    to_scores(windows=structs.replace(WINDOWS, score_ms=60_000))
    while not bench.runner.jobs:
        bench.loop.step()
    evil = to_scores()
    hung = {each.sealed.ciphertext.digest for each in market.order(evil).claims.values() if each.sealed}
    fetch, go, hanging = store.fetch_file, threading.Event(), threading.Event()

    def fetch_file(link: Link, **options: Any) -> Path:
        if link.digest in hung:
            hanging.set()
            go.wait(240)
        return fetch(link, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "fetch_file", fetch_file)
        stepping = threading.Thread(target=bench.loop.step)
        stepping.start()
        assert hanging.wait(240)
        bench.score()
        if threads:
            stepping.join(240)
            bench.loop.step()
        assert len(bench.of(CommitScores)) == (1 if threads else 0)
        go.set()
        stepping.join(240)


def test_a_file_larger_than_weights_can_be_gets_an_invalid_score_without_a_download(
    bench: Bench, to_scores: Callable[[], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scorer, "HEADER_LIMIT_BYTES", 0)  # so that the scene's models are too large
    order_id = to_scores()
    asked: list[bytes] = []
    fetch = bench.store.fetch_file
    monkeypatch.setattr(bench.store, "fetch_file", lambda link, **k: (asked.append(link.digest), fetch(link, **k))[1])
    bench.loop.step()
    claims = bench.market.order(order_id).claims.values()
    assert not {each.sealed.ciphertext.digest for each in claims if each.sealed} & set(asked) and len(asked) == 2
    order = Workspace(bench.runner.only.workspace).order
    assert sorted(order["models"]) == sorted(order["oversize"]) == sorted(claim.mid.hex() for claim in claims)


@pytest.mark.parametrize(
    "changes", [{"mid": "zz"}, {"root": "aa"}, {"total": "80"}, {"valid": None}, {"root": "AA" * 32}, {"top_hash": ""}]
)
def test_results_of_another_shape_stop_neither_the_loop_nor_the_other_orders(
    changes: dict[str, Any], bench: Bench, to_scores: Callable[[], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    to_scores()
    bench.loop.step()
    bench.score(**changes)
    bench.loop.step()
    second = to_scores()
    bench.loop.step()
    assert "results cannot be read" in caplog.text and bench.of(CommitScores) == []
    assert second.hex()[:24] in {job.workspace.name for job in bench.runner.jobs.values()}
    with pytest.raises(BadWorkspace):
        read_results(next(iter(bench.runner.jobs.values())).workspace)


def test_a_job_that_is_gone_for_good_scores_nothing(bench: Bench, to_scores: Callable[[], bytes]) -> None:
    order_id = to_scores()
    bench.loop.step()
    bench.score()
    bench.runner.only.state = "cancelled"
    bench.loop.step()
    assert bench.of(CommitScores) == []
    bench.market.wait_for(order_id, Window.VOID)
    bench.market.settle_all()
    bench.loop.step()
    assert bench.memory(order_id)["outcome"] == "did not score"


def test_scores_that_come_after_their_window_are_not_submitted(bench: Bench, to_scores: Callable[[], bytes]) -> None:
    order_id = to_scores()
    bench.loop.step()
    bench.market.wait_for(order_id, Window.VOID)
    bench.score()
    bench.loop.step()
    assert bench.client.submitted == []


def test_scores_that_come_when_the_others_open_theirs_are_not_submitted(
    bench: Bench, to_scores: Callable[[], bytes]
) -> None:
    others = [Bench(ValidatorLoop, other, bench.market, bench.store, bench.home) for other in VALIDATORS[1:]]
    order_id = to_scores()
    for one in (bench, *others):
        one.loop.step()
    for other in others:
        other.score()
        other.loop.step()
    bench.market.wait_for(order_id, Window.OPEN_SCORES)
    bench.score()
    bench.loop.step()
    assert bench.client.submitted == [] and len(others[0].client.submitted) == 1


def test_an_order_that_left_its_score_window_meanwhile_is_not_begun(
    bench: Bench, to_scores: Callable[[], bytes]
) -> None:
    """The list was read in the score window, the order itself after it."""
    order_id = to_scores()
    bench.loop.feed.refresh()
    assert bench.loop.feed.summaries()[0].window is Window.SCORE
    bench.market.wait_for(order_id, Window.VOID)
    bench.loop.begin_new()
    assert not bench.runner.jobs and not bench.loop.has_begun(order_id)


def test_a_refused_opening_keeps_no_other_score_closed_and_is_not_repeated(
    bench: Bench, to_scores: Callable[[], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    order_id = to_scores()
    bench.loop.step()
    bench.score()
    bench.loop.step()
    bench.market.wait_for(order_id, Window.OPEN_SCORES)
    bench.loop.memories.active()[0].items[0].salt = bytes(32).hex()
    bench.loop.step()
    bench.loop.step()
    assert [len(body.items) for body in bench.of(OpenScores)] == [2, 1, 1]  # together, then each alone
    mine = [v for v in bench.client.order(order_id).validations if v.validator == ME.address]
    assert sorted(v.score is not None for v in mine) == [False, True]
    assert bench.memory(order_id)["opened"]
    assert f"event=scores_refused order={order_id.hex()[:12]} model=" in caplog.text


def test_a_verifier_names_every_validation_that_differs(
    verifier: Bench, bench: Bench, to_scores: Callable[[], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    market, order_id = verifier.market, to_scores()
    for one in (verifier, bench):
        one.loop.step()
    bench.score(total=79)
    verifier.score()
    bench.loop.step()
    verifier.loop.step()
    assert not (verifier.loop.order_folder(order_id) / "report.json").exists()  # nothing is open yet
    market.wait_for(order_id, Window.OPEN_SCORES)
    bench.loop.step()
    market.wait_for(order_id, Window.VOID)  # one of four validators is no quorum
    verifier.loop.step()
    report = json.loads((verifier.loop.order_folder(order_id) / "report.json").read_text())
    assert report["checked"] == 2 and len(report["differing"]) == 2 and report["order_id"] == order_id.hex()
    assert {one["validator"] for one in report["differing"]} == {ME.address.hex()}
    assert [one["seen"] for one in report["differing"]] == [[79, 100, True]] * 2
    assert "event=verified" in caplog.text
    assert verifier.loop.finished == 1
    assert verifier.memory(order_id)["outcome"] == "2 validations checked, 2 differ"


def test_equal_scores_do_not_differ_and_another_root_does(
    verifier: Bench, bench: Bench, to_scores: Callable[[], bytes]
) -> None:
    order_id = to_scores()
    for one in (verifier, bench):
        one.loop.step()
        one.score()
        one.loop.step()
    bench.market.wait_for(order_id, Window.OPEN_SCORES)
    bench.loop.step()
    view, results = bench.client.order(order_id), read_results(verifier.runner.only.workspace)
    assert results is not None
    assert compare(view, results).differing == [] and compare(view, results).checked == 2
    results[0].root = "00" * 32
    assert [one.mid for one in compare(view, results).differing] == [results[0].mid]
    assert compare(view, results[:1]).checked == 1  # a model that the verifier could not have


def test_a_verifier_that_cannot_score_puts_the_order_away(verifier: Bench, to_scores: Callable[[], bytes]) -> None:
    order_id = to_scores()
    verifier.loop.step()
    verifier.runner.only.state = "cancelled"
    verifier.loop.step()
    assert verifier.loop.finished == 1 and verifier.memory(order_id)["outcome"] == "could not score"


# --- challenges ------------------------------------------------------------------------------------------------------
def transcript_of(total: int) -> Transcript:
    return Transcript(score_function("accuracy"), True, np.array([1] * total + [0] * (100 - total), dtype=np.uint64))


def scored_by_all(market: Market, store: Store, order_id: bytes, total: int, *, apart: int | None = None) -> None:
    """Every validator with a seat opens `total` for each model; the first one opens `apart`, if that is given."""
    order = market.order(order_id)
    people = {each.address: each for each in VALIDATORS}
    opened: dict[bytes, OpenScores] = {}
    for place, address in enumerate(sorted({seat for seats in order.seats for seat in seats})):
        transcript = transcript_of(apart if apart is not None and place == 0 else total)
        items = tuple(
            OpenedScore(
                mid=claim.mid,
                score=ClaimScore(transcript.total, 100, True),
                transcript_root=transcript.root,
                top=transcript.tree.top,
                transcript=store.put(transcript.data),
                salt=SALT,
            )
            for claim in order.revealed()
        )
        opened[address] = OpenScores(order_id, items)
        commitments = tuple(
            ScoreCommitment(each.mid, market.commitment(order_id, people[address], each)) for each in items
        )
        market.must(people[address], CommitScores(order_id, commitments))
    for address, body in opened.items():
        market.must(people[address], body)
    assert market.order(order_id).window is Window.CHALLENGE


def checked_by(verifier: Bench, total: int) -> None:
    """The verifier's notebook finds this score for every model."""
    verifier.score(total=total)
    for path in (verifier.runner.only.workspace / "transcripts").iterdir():
        path.write_bytes(transcript_of(total).data)


def test_a_verifier_challenges_a_lie_that_all_validators_agree_on_and_is_paid(
    verifier: Bench, to_scores: Callable[[], bytes], store: Store
) -> None:
    market, order_id = verifier.market, to_scores()
    verifier.loop.step()
    checked_by(verifier, 80)
    scored_by_all(market, store, order_id, 95)
    verifier.loop.step()
    verifier.again()  # it remembers what it found
    verifier.loop.step()
    assert len(verifier.of(Challenge)) == 2, "one for each model"
    market.wait_for(order_id, Window.OPEN_CHALLENGES)
    verifier.loop.step()
    shown = verifier.of(OpenChallenge)
    assert [(each.proof.index, each.leaf) for each in shown] == [(80, 1)] * 2
    assert market.order(order_id).window is Window.JUDGE
    for aggregator in market.aggregators[:2]:
        for dispute in market.order(order_id).disputes:
            market.must(aggregator, Verdict(order_id, dispute.name, False))
    assert market.order(order_id).window is Window.VOID
    market.settle_all()
    verifier.loop.step()
    assert "2 challenged" in verifier.memory(order_id)["outcome"]
    paid = {payout.reason: payout.account for payout in market.order(order_id).payouts}
    assert paid["challenger"] == VERIFIER.address


@pytest.mark.parametrize(("theirs", "apart"), [(80, None), (95, 70)])
def test_right_scores_and_those_that_differ_anyway_are_not_challenged(
    verifier: Bench, to_scores: Callable[[], bytes], store: Store, theirs: int, apart: int | None
) -> None:
    market, order_id = verifier.market, to_scores()
    verifier.loop.step()
    checked_by(verifier, 80)
    scored_by_all(market, store, order_id, theirs, apart=apart)
    verifier.loop.step()
    market.wait(market.order(order_id).order.windows.challenge_ms)
    verifier.loop.step()
    assert verifier.of(Challenge) == []


def test_a_transcript_that_is_not_the_opened_one_proves_nothing(
    verifier: Bench, to_scores: Callable[[], bytes], store: Store, tmp_path: Path
) -> None:
    market, order_id = verifier.market, to_scores()
    scored_by_all(market, store, order_id, 95)
    validation = verifier.client.order(order_id).validations[0]
    own, theirs = tmp_path / "own", tmp_path / "theirs"
    own.write_bytes(transcript_of(80).data)
    for data, found in ((transcript_of(95).data, 80), (transcript_of(94).data, None), (b"\x00", None)):
        theirs.write_bytes(data)
        assert wrong_example(theirs, validation, own) == found
    assert wrong_example(tmp_path / "missing", validation, own) is None
