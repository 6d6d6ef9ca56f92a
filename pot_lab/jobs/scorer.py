"""What validator and verifier share: which files a scoring job needs, and how its workspace is made of them.

Test data and models are decrypted a part at a time, so that memory does not grow with them.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from pot_lab.crypto.cipher import CannotDecrypt, decrypt_stream, encrypted_bytes
from pot_lab.errors import Malformed, PotLabError
from pot_lab.files import make_private_folder, move_durably
from pot_lab.jobs.downloads import Wanted
from pot_lab.jobs.workspace import Workspace
from pot_lab.protocol.records import OrderRecord, model_id
from pot_lab.protocol.views import ClaimView, OrderView

log = logging.getLogger(__name__)

GRAPH_LIMIT_BYTES = 8 << 20
"""What the graph's own reader takes."""
WEIGHTS_LIMIT_BYTES = 4 << 30
DATA_LIMIT_BYTES = 8 << 30
HEADER_LIMIT_BYTES = 16 << 20
"""What the head of a file of weights may have beside the tensors, whose sizes the graph fixes."""
LEAST_TEST_BYTES = 1 << 20
"""A file of test data may have this much, whatever the order says of it."""

SEALED = ".encrypted"
GRAPH, CIPHERTEXT, TEST = "graph.json", f"test{SEALED}", "test.safetensors"


class BadTestData(PotLabError):
    """The opened test data is not what the order promised; nobody can score with it.

    What to do: nothing: the order ends void without a quorum. If it is your order, order again.
    """


class BadModel(PotLabError):
    """An opened model is not the one that was claimed.

    What to do: nothing: the copy of its ciphertext that came to this host is at fault, and the model is left out.
    """


def weights_limit_bytes(order: OrderRecord) -> int:
    """The most that a file with weights of this order's model can have: tensors as in the first weights, and a head."""
    return min(WEIGHTS_LIMIT_BYTES, order.weights.size_bytes + HEADER_LIMIT_BYTES)


def files_to_score(view: OrderView, claims: Iterable[ClaimView]) -> list[Wanted]:
    """What a scoring job of these revealed claims needs. A model whose file is larger than weights of this order can be
    is not among them: its score is invalid, whatever it holds.
    """
    order = view.order
    test_bytes = min(DATA_LIMIT_BYTES, max(LEAST_TEST_BYTES, encrypted_bytes(order.test.plain_bytes)))
    files = [
        Wanted(name=GRAPH, link=order.model, limit_bytes=GRAPH_LIMIT_BYTES),
        Wanted(name=CIPHERTEXT, link=order.test.link, limit_bytes=test_bytes),
    ]
    limit_bytes = encrypted_bytes(weights_limit_bytes(order))
    for claim in claims:
        if claim.ciphertext is not None and claim.ciphertext.size_bytes <= limit_bytes:
            files.append(Wanted(name=_sealed(claim), link=claim.ciphertext, limit_bytes=limit_bytes, required=False))
    return files


def lay_out(
    view: OrderView,
    claims: Sequence[ClaimView],
    folder: Path,
    files: Mapping[str, Path],
    failures: Mapping[str, PotLabError],
) -> None:
    """Make the workspace of a scoring job; a model that could not be fetched is left out and logged.

    Args:
        view: the order, whose test key is released.
        claims: the revealed claims whose models are to be scored.
        folder: the workspace to make.
        files, failures: what became of `files_to_score`, by name.

    Raises:
        BadTestData: the test data is not what was promised.
        CannotDecrypt: the key does not open it.
    """
    order = view.order
    open_test_data(view, files[CIPHERTEXT], folder / TEST)
    limit_bytes = encrypted_bytes(weights_limit_bytes(order))
    mids: list[str] = []
    oversize: dict[str, str] = {}
    for claim in claims:
        mid = claim.mid.hex()
        reason: object = "it is not revealed"
        if claim.ciphertext is not None and claim.ciphertext.size_bytes > limit_bytes:
            oversize[mid] = f"{claim.ciphertext.size_bytes} bytes, at most {limit_bytes}"
        elif _sealed(claim) not in files or (reason := _open_model(view, claim, files[_sealed(claim)], folder)):
            reason = failures.get(_sealed(claim), reason)
            log.warning(
                "event=model_irretrievable order=%s model=%s reason=%r", view.id.hex()[:12], mid[:12], str(reason)
            )
            continue
        mids.append(mid)
    facts = {
        "order_id": view.id.hex(),
        "title": order.title,
        "score": f"{order.score.name}/{order.score.version}",
        "models": mids,
        "oversize": oversize,
        "test_root": order.test.root.hex(),
    }
    Workspace.create(folder, facts, {name: path for name, path in files.items() if not name.endswith(SEALED)})


def open_test_data(view: OrderView, ciphertext: Path, target: Path) -> None:
    """Decrypt an order's test data into `target`, and check it against the order.

    Raises:
        BadTestData: the data is not what was promised; there is no `target` then.
        CannotDecrypt: the key does not open it.
    """
    wanted = view.order.test.plain_digest
    _decrypt(
        view.test_key,
        ciphertext,
        target,
        lambda digest: (
            None
            if digest == wanted
            else BadTestData("the test data does not have the order's hash", seen=digest, wanted=wanted)
        ),
    )


def _open_model(view: OrderView, claim: ClaimView, ciphertext: Path, folder: Path) -> PotLabError | None:
    """Decrypt a model into the workspace; returns why it could not be. The aggregators found it right, so it is this
    host's copy.
    """
    graph = view.order.model.digest

    def check(digest: bytes) -> PotLabError | None:
        mid = model_id(graph, digest)
        return None if mid == claim.mid else BadModel("this is not the claimed model", seen=mid, wanted=claim.mid)

    try:
        _decrypt(claim.key, ciphertext, folder / _file_of(claim), check)
    except (BadModel, CannotDecrypt, Malformed) as error:
        return error
    return None


def _decrypt(key: bytes, ciphertext: Path, target: Path, check: Callable[[bytes], PotLabError | None]) -> None:
    """Decrypt a file into `target`, unless `check` objects to its SHA-256; there is no `target` then."""
    make_private_folder(target.parent)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with ciphertext.open("rb") as source, temporary.open("x+b") as plain:
            temporary.chmod(0o600)
            decrypt_stream(key, source, plain)
            plain.seek(0)
            digest = hashlib.file_digest(plain, "sha256").digest()
        if (objection := check(digest)) is not None:
            raise objection
        move_durably(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _sealed(claim: ClaimView) -> str:
    return f"models/{claim.mid.hex()}{SEALED}"


def _file_of(claim: ClaimView) -> str:
    return f"models/{claim.mid.hex()}.safetensors"
