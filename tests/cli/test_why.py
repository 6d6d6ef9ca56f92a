"""`pot-lab why`: what is missing is named, and facts are the ledger's."""

from __future__ import annotations

import pytest

from pot_lab.cli.main import main
from pot_lab.cli.why import why_facts
from pot_lab.protocol.views import WhyLine, WhyView

VIEW = WhyView(
    order_id=b"\x09" * 32,
    account=b"\x01" * 20,
    lines=(WhyLine("paid 2 POT: it won", 2 * 10**9, "Money"), WhyLine("2 POT in all", 0, "Settlement")),
)


def test_an_order_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["why"]) == 2
    assert "Missing argument 'ORDER'" in capsys.readouterr().err
    assert main(["why", "ab", "--account", "0x" + "1" * 40]) == 1
    assert "NoTestnet" in capsys.readouterr().err


def test_each_line_has_its_rule() -> None:
    assert repr(VIEW).splitlines() == [
        "paid 2 POT: it won  [protocol.md, Money]",
        "2 POT in all  [protocol.md, Settlement]",
    ]
    assert why_facts(VIEW)["lines"][0] == {"text": "paid 2 POT: it won", "grains": 2 * 10**9, "rule": "Money"}
