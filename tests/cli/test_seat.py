"""`pot-lab seat`: missing options are named; the commands themselves run in tests/network/test_members.py."""

from __future__ import annotations

import pytest

from pot_lab.cli.main import main


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["join"], "Missing option '--keys'"),
        (["join", "--keys", "k"], "missing option --listen HOST PEER_PORT CLIENT_PORT"),
        (["join", "--keys", "k", "--listen", "h", "1", "1"], "Invalid value for '--listen'"),
        (["rotate", "--keys", "k", "--listen", "h", "0", "1"], "Invalid value for '--listen'"),
        (["rotate"], "Missing option '--keys'"),
        (["leave"], "Missing option '--keys'"),
        (["vote", "--keys", "k"], "Missing argument 'ACCOUNT'"),
        (["remove", "--keys", "k"], "Missing argument 'ACCOUNT'"),
        (["vote", "0x00"], "Missing option '--keys'"),
        (["remove", "0x00"], "Missing option '--keys'"),
    ],
)
def test_what_is_missing_is_named(arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["seat", *arguments]) == 2
    assert error in capsys.readouterr().err
