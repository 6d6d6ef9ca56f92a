"""Scores in the user's words."""

from __future__ import annotations

import pytest

from pot_lab.cards.scores import score_text
from pot_lab.protocol.records import ScoreSpec


@pytest.mark.parametrize(
    ("name", "total", "count", "words"),
    [
        ("accuracy", 95, 100, "95 of 100"),
        ("top_k_accuracy[k=3]", 7, 9, "7 of 9"),
        ("macro_f1[classes=3]", 500_000, 1, "50 % (total 500000, count 1)"),
        ("cross_entropy", 824_000, 2, "0.412 nats (total 824000, count 2)"),
        ("mse[decimals=3]", 4_500, 3, "1.5 (total 4500, count 3)"),
    ],
)
def test_a_score_is_written_in_its_unit(name: str, total: int, count: int, words: str) -> None:
    assert score_text(ScoreSpec(name=name, version=1), total, count) == words
