"""What a provider looks at before it works on an order: whether the order can be won, paid for, revealed and fed here.

Nothing here costs more than the order's record. An order that fails is passed over with its reason; what may change
while it is open (free stake, memory) is looked at again.
"""

from __future__ import annotations

from dataclasses import dataclass

import psutil

from pot_lab.protocol.parameters import GRAINS_PER_POT, Parameters, best_score, score_direction
from pot_lab.protocol.records import MICRO, ClaimScore, OrderRecord
from pot_lab.protocol.rewards import beats_baseline
from pot_lab.protocol.views import OrderView

CLOCK_TOLERANCE_MS = 2_500
"""How far a batch's time may be from ours; a window that is not longer may be over before a miner sees it."""
NEAR_UPLOAD_BYTES_PER_S = 64 << 20
FAR_UPLOAD_BYTES_PER_S = 1 << 20
"""What a provider counts on when it puts a model into a store on its own network, and elsewhere."""
FREE_BYTES = 64 << 20
GRAINS_PER_GIB = GRAINS_PER_POT // 20
"""An order must pay this much for each GiB that it makes a provider fetch, beyond the first FREE_BYTES."""
WEIGHTS_COPIES, DATA_COPIES = 6, 1
"""What training holds in memory: weights with gradient, two moments, average and the best so far; the mapped file."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What this provider asks of an order.

    Attributes:
        min_grains_per_hour: the least that the winner must get for each hour of training.
        upload_bytes_per_s: at what rate this host uploads.
    """

    min_grains_per_hour: int = 0
    upload_bytes_per_s: int = FAR_UPLOAD_BYTES_PER_S

    def objection(self, order: OrderRecord, parameters: Parameters) -> str | None:
        """Why a provider should never work on this order; None where nothing speaks against it."""
        return (
            _about_reward(order, parameters, self.min_grains_per_hour)
            or _about_baseline(order)
            or self._about_windows(order)
        )

    def _about_windows(self, order: OrderRecord) -> str | None:
        upload_ms = 1000 * order.weights.size_bytes // self.upload_bytes_per_s
        needed_ms = CLOCK_TOLERANCE_MS + upload_ms
        if order.windows.reveal_ms >= needed_ms:
            return None
        return (
            f"its reveal window of {order.windows.reveal_ms / 1000:g} s is too short to upload a model of "
            f"{order.weights.size_bytes} bytes at {self.upload_bytes_per_s} bytes/s: {needed_ms / 1000:g} s are needed"
        )


def _about_reward(order: OrderRecord, parameters: Parameters, min_grains_per_hour: int) -> str | None:
    won = order.reward_grains * parameters.winner_bp // 10_000
    per_hour = won * 3_600_000 // max(1, order.windows.train_ms)
    if per_hour < min_grains_per_hour:
        return (
            f"it pays its winner {per_hour / GRAINS_PER_POT:g} POT an hour, "
            f"and this provider asks for {min_grains_per_hour / GRAINS_PER_POT:g}"
        )
    size_bytes = order.model.size_bytes + order.weights.size_bytes + order.train.size_bytes
    wanted = max(0, size_bytes - FREE_BYTES) * GRAINS_PER_GIB >> 30
    if order.reward_grains < wanted:
        return (
            f"its reward of {order.reward_grains / GRAINS_PER_POT:g} POT is too small for {size_bytes} bytes to fetch: "
            f"{wanted / GRAINS_PER_POT:g} POT are asked for"
        )
    return None


def _about_baseline(order: OrderRecord) -> str | None:
    direction = score_direction(order.score.name, order.score.version)
    if direction is None:
        return f"its score function {order.score.name}/{order.score.version} is not known here"
    best = ClaimScore(best_score(order.score.name, order.score.version), 1, True)
    if beats_baseline(best, order.baseline_total, order.baseline_count, order.margin_micro, direction):
        return None
    return (
        f"no score can win: {best.total} for an example does not beat {order.baseline_total} of "
        f"{order.baseline_count} examples by {order.margin_micro / MICRO:g}"
    )


def training_bytes(order: OrderRecord) -> int:
    """About what training this order takes of the host's memory."""
    return WEIGHTS_COPIES * order.weights.size_bytes + DATA_COPIES * order.train.size_bytes


def passing_objection(view: OrderView, free_grains: int, promised_bytes: int = 0) -> str | None:
    """Why a provider cannot work on this order now, though it may later.

    Args:
        view: the order.
        free_grains: the provider's stake that nothing else is promised.
        promised_bytes: memory that the orders at hand may still take.
    """
    order = view.order
    if free_grains < view.next_bond_grains:
        return (
            f"the free stake of {free_grains / GRAINS_PER_POT:g} POT does not cover its claim bond of "
            f"{view.next_bond_grains / GRAINS_PER_POT:g} POT"
        )
    needed_bytes = training_bytes(order)
    available_bytes = max(0, psutil.virtual_memory().available - promised_bytes)
    if needed_bytes > available_bytes:
        return f"training needs about {needed_bytes} bytes of memory, and {available_bytes} are available"
    return None
