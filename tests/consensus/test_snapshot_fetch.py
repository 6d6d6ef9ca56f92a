"""Fetching what was missed, where the others go on and the way to them is slow."""

from __future__ import annotations

from collections import Counter

import pytest

from pot_lab.consensus.messages import FetchChunk, Offer, decode_message
from tests.consensus.cluster import Cluster
from tests.consensus.test_checkpointing import SMALL, together, work

LIMIT = 1 << 24


@pytest.mark.parametrize("slow_ms", [60, 200])
def test_questions_for_a_snapshot_that_has_moved_on_do_not_multiply(slow_ms: int) -> None:
    """Each of the chunks asked for is answered with an offer of the next snapshot; that must not ask for each anew."""
    cluster = Cluster(4, parameters=SMALL)
    said = Counter[type]()
    usual = cluster.send

    def send(sender: int, to: int, data: bytes) -> None:
        if 3 not in (sender, to):
            usual(sender, to, data)
            return
        assert sum(said.values()) < 20_000, said
        said[type(decode_message(data, limit_bytes=LIMIT))] += 1
        cluster.after(slow_ms, lambda: usual(sender, to, data))

    node = cluster.nodes[3]
    node.crash()
    work(cluster, range(60))
    cluster.send = send  # type: ignore[method-assign]
    node.start()
    work(cluster, range(60, 460))
    assert said[Offer] > 3  # it has moved on several times
    assert said[FetchChunk] < 40 * said[Offer] and said[Offer] < 200, said
    cluster.run_until(lambda: together(cluster), 120_000)
