"""Order again: an earlier order's model, data and terms, from the winner's weights if there is one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pot_lab.crypto.link import Link
from pot_lab.notebook.errors import BadArgument, NoModel
from pot_lab.notebook.order import Order
from pot_lab.notebook.quantities import pot

if TYPE_CHECKING:
    from pot_lab.notebook.data import Data
    from pot_lab.scoring import ModelArtifact


def order_again(
    place: Callable[..., Order], order: Order, test: Data | None, *, from_winner: bool, changes: dict[str, Any]
) -> Order:
    """Place an order like an earlier one.

    Args:
        place: `Lab.order`.
        order: the earlier one.
        test: test data that nobody has seen; None takes the earlier one's, while they are secret.
        from_winner: begin with the winner's weights, if a model won.
        changes: arguments of `Lab.order` that differ.
    Raises:
        BadArgument: the earlier test data are public, or their key is not known in this kernel.
    """
    from pot_lab.scoring import ModelArtifact

    view = order.view()
    record = view.order
    if test is None and view.test_key:
        raise BadArgument(
            "the earlier order's test data are public, so a provider could train on them",
            seen="no `test`",
            wanted="test=..., examples that nobody has seen",
        )
    if from_winner and view.winner:
        graph, weights = order.model_files()
    else:
        graph, weights = order.fetch(record.model), order.fetch(record.weights)
    model: ModelArtifact = ModelArtifact(graph=graph, weights=weights)
    terms: dict[str, Any] = {
        "reward": pot(record.reward_grains),
        "train_for": record.windows.train_ms / 1000,
        "score": f"{record.score.name}/{record.score.version}",
        "title": record.title,
        "tags": record.tags,
    }
    if test is None:
        try:
            test = order.test_data()
        except NoModel as error:
            raise BadArgument(
                "this kernel has not the key of the earlier order's test data", seen="no `test`", wanted="test=..."
            ) from error
    with tempfile.TemporaryDirectory() as folder:
        train = changes.pop("train", None)
        if train is None:
            train = _kept(order, record.train, Path(folder) / "train.safetensors")
        return place(model, train, test, **{**terms, **changes})


def _kept(order: Order, link: Link, path: Path) -> Path:
    path.write_bytes(order.fetch(link))
    return path
