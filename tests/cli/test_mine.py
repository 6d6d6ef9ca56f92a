"""`pot-lab mine`: parameters of the notebook."""

from __future__ import annotations

import click
import pytest

from pot_lab.cli.main import main
from pot_lab.cli.mine import notebook_parameters


def test_parameters_are_json_or_text() -> None:
    given = ["epochs=3", "rate=0.1", 'name="3"', "optimiser=adam", "note=a=b", "flag=true", "empty="]
    assert notebook_parameters(None, None, given) == {
        "epochs": 3, "rate": 0.1, "name": "3", "optimiser": "adam", "note": "a=b", "flag": True, "empty": ""
    }  # fmt: skip


@pytest.mark.parametrize("item", ["learning rate 0.1", "epochs", "=3", "learning rate=0.1", "3=3"])
def test_an_unreadable_parameter_is_named(item: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(click.BadParameter):
        notebook_parameters(None, None, [item])
    assert main(["mine", "provider", "--set", item]) == 2
    assert "is not NAME=VALUE" in capsys.readouterr().err
