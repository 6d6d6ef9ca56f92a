"""`pot-lab completion`: what a shell is answered."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pot_lab.cli.main import main


def completed(words: str, position: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setenv("_POT_LAB_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(position))
    assert main([]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "position", "wanted"),
    [
        ("pot-lab te", 1, ["testnet"]),
        ("pot-lab testnet ", 2, ["down", "status", "up"]),
        ("pot-lab wallet st", 2, ["stake"]),
        ("pot-lab mine v", 2, ["validator", "verifier"]),
        ("pot-lab testnet up --fr", 3, ["--fresh"]),
        ("pot-lab testnet up --durability f", 4, ["fsync", "flush"]),
    ],
)
def test_commands_options_and_choices_are_completed(
    words: str,
    position: int,
    wanted: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = completed(words, position, monkeypatch, capsys).splitlines()
    assert sorted(line.partition(",")[2] for line in lines) == sorted(wanted)


def test_clicks_own_way_to_the_script_works_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    monkeypatch.setenv("_POT_LAB_COMPLETE", "bash_source")
    assert main([]) == 0
    assert capsys.readouterr().out.strip() == script.strip()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script_that_calls_back(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    printed = capsys.readouterr().out
    assert f"_POT_LAB_COMPLETE={shell}_complete" in printed and "pot-lab" in printed


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on this machine")
def test_bash_completes_with_the_script(tmp_path: Path) -> None:
    program = tmp_path / "pot-lab"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pot_lab.cli "$@"\n')
    program.chmod(0o755)
    script = (
        f'PATH="{tmp_path}:$PATH"; eval "$(pot-lab completion bash)"; '
        'COMP_WORDS=(pot-lab wallet st) COMP_CWORD=2; _pot_lab_completion pot-lab; echo "${COMPREPLY[@]}"'
    )
    ended = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=300, check=True)
    assert ended.stdout.split() == ["stake"]
