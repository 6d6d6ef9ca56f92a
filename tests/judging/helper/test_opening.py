"""Sealed files open to their plaintext or leave nothing behind; damage of a copy is told from a maker's fault."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from pot_lab.crypto.canonical import sha256
from pot_lab.crypto.cipher import CHUNK_BYTES, encrypt
from pot_lab.crypto.sealed_box import SealingKey
from pot_lab.crypto.sealed_model import BoxHolder, model_key, open_model_share, seal_model
from pot_lab.judging import Finding, OpenSealed
from pot_lab.judging.helper.answer import answer
from pot_lab.protocol.records import model_id
from tests.judging.cases import Case, make_case

replace = msgspec.structs.replace
KEY = bytes(range(32))


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return make_case(tmp_path / "case")


def finding(body: OpenSealed) -> tuple[Finding, str]:
    found = answer(body)
    assert found.sound
    assert Path(body.target).exists() is (found.judgement.finding is Finding.RIGHT)
    return found.judgement.finding, found.judgement.code


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 1])
def test_a_sealed_file_opens_to_its_plaintext(tmp_path: Path, size: int) -> None:
    plain = random.Random(size).randbytes(size)
    source, target = tmp_path / "sealed", tmp_path / "opened"
    source.write_bytes(encrypt(KEY, plain))
    body = OpenSealed(
        ciphertext=str(source), digest=sha256(source.read_bytes()), key=KEY, target=str(target), limit_bytes=size,
        promised=sha256(plain),
    )  # fmt: skip
    assert finding(body) == (Finding.RIGHT, "")
    assert target.read_bytes() == plain and target.stat().st_mode & 0o777 == 0o600
    target.unlink()
    assert finding(replace(body, promised=bytes(32))) == (Finding.WRONG, "BadOpening") and not target.exists()
    mid, graph = model_id(b"\x07" * 32, sha256(plain)), b"\x07" * 32
    assert finding(replace(body, promised=mid)) == (Finding.WRONG, "BadOpening")
    assert finding(replace(body, promised=mid, graph_digest=bytes(32))) == (Finding.WRONG, "BadOpening")
    assert finding(replace(body, promised=mid, graph_digest=graph)) == (Finding.RIGHT, "")
    if size:
        target.unlink()
        assert finding(replace(body, limit_bytes=size - 1)) == (Finding.WRONG, "Oversize")


def test_a_key_that_does_not_open_is_wrong_and_leaves_nothing(case: Case) -> None:
    body = case.sealed(KEY)
    assert finding(replace(body, key=bytes(32))) == (Finding.WRONG, "CannotDecrypt")
    assert finding(replace(body, key=b"short")) == (Finding.INVALID, "Malformed")


def test_a_ciphertext_that_its_maker_cut_is_wrong_and_a_damaged_copy_no_vote(case: Case) -> None:
    body = case.sealed(KEY)
    path = Path(body.ciphertext)
    path.write_bytes(path.read_bytes()[:-1])
    assert finding(body) == (Finding.NOT_JUDGED, "CopyDamaged")
    assert finding(replace(body, digest=sha256(path.read_bytes()))) == (Finding.WRONG, "CannotDecrypt")
    assert finding(replace(body, ciphertext="/nowhere")) == (Finding.NOT_JUDGED, "CopyDamaged")


def test_an_existing_file_or_a_link_is_not_written_over(case: Case, tmp_path: Path) -> None:
    body = case.sealed(KEY)
    kept = tmp_path / "kept"
    kept.write_bytes(b"kept")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    for target in (kept, link, tmp_path / "no folder" / "file"):
        assert answer(replace(body, target=str(target))).judgement.code == "CopyDamaged"
    assert kept.read_bytes() == b"kept" and not (tmp_path / "elsewhere").exists()


def test_from_a_provider_to_a_verdict_on_its_sealed_model(case: Case) -> None:
    """What the aggregators do with a revealed model: shares, key, plaintext, MID."""
    keys = [SealingKey.from_secret(bytes([i + 1]) * 32) for i in range(4)]
    holders = [BoxHolder(bytes([i + 1]) * 20, key.public) for i, key in enumerate(keys)]
    weights = Path(case.weights).read_bytes()
    made = seal_model(
        weights, holders, 3, random.Random(1).randbytes, network_id=b"n" * 32, order_id=b"o" * 32, provider=b"p" * 20
    )
    shares = [
        open_model_share(box, keys[i], binding=made.binding, holder=holders[i].account, place=i)
        for i, box in enumerate(made.boxes.boxes)
    ]
    key = model_key(shares[1:], threshold=3, binding=made.binding, commitment=made.boxes.key_commitment)
    source = case.folder / "sealed"
    source.write_bytes(made.ciphertext)
    opened = case.folder / "opened"
    body = OpenSealed(
        ciphertext=str(source), digest=sha256(made.ciphertext), key=key, target=str(opened), limit_bytes=len(weights),
        promised=sha256(weights),
    )  # fmt: skip
    assert finding(body) == (Finding.RIGHT, "")
    assert answer(replace(case.model(), weights=str(opened))).judgement.finding is Finding.RIGHT
    assert answer(replace(case.model(), weights=str(opened), mid=bytes(32))).judgement.finding is Finding.WRONG
