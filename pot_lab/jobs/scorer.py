"""What validator and verifier share: lay out a workspace with the opened test data and the models to score."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from pot_lab.crypto.canonical import sha256
from pot_lab.crypto.cipher import decrypt
from pot_lab.crypto.link import Link
from pot_lab.errors import PotLabError
from pot_lab.jobs.workspace import Workspace
from pot_lab.protocol.views import ClaimView, OrderView

log = logging.getLogger(__name__)


class BadTestData(PotLabError):
    """The opened test data is not what the order promised; nobody can score with it.

    What to do: nothing: the order ends void without a quorum. If it is your order, order again.
    """


def open_test_data(view: OrderView, download: Callable[[Link], bytes]) -> bytes:
    """Fetch and decrypt an order's test data and check it against the order.

    Args:
        view: the order, whose test key is released.
        download: fetches what a link names, checked by size and hash.

    Raises:
        BadTestData: the data is not what was promised.
        CannotDecrypt: the key does not open it.
        LinkDead, TooSlow, ...: it cannot be fetched.
    """
    test = view.order.test
    data = decrypt(view.test_key, download(test.link))
    if sha256(data) != test.plain_digest:
        raise BadTestData("the test data does not have the order's hash", seen=sha256(data), wanted=test.plain_digest)
    return data


def lay_out(view: OrderView, claims: Iterable[ClaimView], folder: Path, download: Callable[[Link], bytes]) -> list[str]:
    """Make the workspace of a scoring job; a model that cannot be fetched is left out and logged.

    Args:
        view: the order, whose test key is released.
        claims: revealed claims whose models are to be scored.
        folder: the workspace to make.
        download: fetches what a link names, checked by size and hash.

    Returns: the ids, in hex, of the models that are there.
    Raises:
        BadTestData, CannotDecrypt, LinkDead, ...: the graph or the test data cannot be had.
    """
    files = {"graph.json": download(view.order.model), "test.safetensors": open_test_data(view, download)}
    mids = []
    for claim in claims:
        try:
            if claim.weights is None:
                raise BadTestData("the claim's model is not revealed", seen=claim.commitment)
            files[f"models/{claim.mid.hex()}.safetensors"] = download(claim.weights)
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
    return mids
