"""What validator and verifier share: lay out a workspace with the opened test data and the models to score."""

from __future__ import annotations

import logging
from pathlib import Path

from pot_lab.crypto.canonical import sha256
from pot_lab.crypto.cipher import decrypt
from pot_lab.errors import PotLabError
from pot_lab.jobs.loop import Loop
from pot_lab.jobs.workspace import Workspace
from pot_lab.protocol.views import ClaimView, OrderView

log = logging.getLogger(__name__)


class BadTestData(PotLabError):
    """The opened test data is not what the order promised; nobody can score with it."""


def open_test_data(loop: Loop, view: OrderView) -> bytes:
    """Fetch and decrypt an order's test data and check it against the order.

    Raises:
        BadTestData, CannotDecrypt, LinkDead, ...: it cannot be had, or is not what was promised.
    """
    test = view.order.test
    data = decrypt(view.test_key, loop.download(test.link))
    if sha256(data) != test.plain_digest:
        raise BadTestData("the test data is not what the order names", seen=sha256(data), wanted=test.plain_digest)
    return data


def lay_out(loop: Loop, view: OrderView, claims: list[ClaimView]) -> Path:
    """Make the workspace of a scoring job; a model that cannot be had is left out and logged."""
    folder = loop.order_folder(view.id)
    files = {"graph.json": loop.download(view.order.model), "test.safetensors": open_test_data(loop, view)}
    mids = []
    for claim in claims:
        assert claim.weights is not None
        try:
            files[f"models/{claim.mid.hex()}.safetensors"] = loop.download(claim.weights)
            mids.append(claim.mid.hex())
        except PotLabError as error:
            log.warning(
                "event=model_irretrievable order=%s model=%s reason=%r",
                view.id.hex()[:12],
                claim.mid.hex()[:12],
                str(error),
            )
    score = view.order.score
    facts = {
        "order_id": view.id.hex(),
        "title": view.order.title,
        "score": f"{score.name}/{score.version}",
        "models": mids,
        "test_root": view.order.test.root.hex(),
    }
    Workspace.create(folder, facts, files)
    return folder
