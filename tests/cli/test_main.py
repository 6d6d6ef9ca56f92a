"""`pot-lab` as a user types it: exit codes, refusals in one line, help, Ctrl-C."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import pot_lab
from pot_lab.cli.main import cli, keep_interrupts, main
from pot_lab.errors import PotLabError
from pot_lab.testnet.testnet import Testnet
from tests.begin import heeding_interrupts


def commands(group: click.Group = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


@pytest.mark.parametrize(
    "arguments",
    [
        ["orders"],
        ["wallet"],
        ["seat"],
        ["testnet", "status"],
        ["testnet", "down"],
        ["mine", "provider"],
        ["orders", "--network", "x"],
    ],
)
def test_without_a_network_each_command_refuses_in_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("pot-lab: NoTestnet: ") and "pot-lab testnet up" in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([], "Usage: pot-lab"),
        (["dance"], "No such command 'dance'"),
        (["mine", "gold"], "'gold' is not one of 'provider', 'validator', 'verifier'"),
        (["testnet"], "Usage: pot-lab testnet"),
        (["testnet", "sideways"], "No such command 'sideways'"),
        (["wallet", "sideways"], "No such command 'sideways'"),
        (["testnet", "up", "--aggregators", "many"], "'many' is not a valid integer"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert error in printed.err and printed.out == ""


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"pot-lab, version {pot_lab.__version__}\n"


def test_every_command_explains_itself_in_lists_that_are_not_cut_off(capsys: pytest.CaptureFixture[str]) -> None:
    for path, command in commands():
        assert main([*path, "--help"]) == 0
        printed = capsys.readouterr().out
        assert command.help and command.help.split("\n\n")[0] in printed
        assert "..." not in "\n".join(line for line in printed.splitlines() if not line.startswith("Usage: ")), path


def test_every_option_is_explained() -> None:
    silent = [
        (path, parameter.name)
        for path, command in commands()
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.help
    ]
    assert silent == []


def test_durability_is_as_safe_as_a_real_networks_unless_chosen() -> None:
    options = [parameter for _, command in commands() for parameter in command.params if parameter.name == "durability"]
    assert len(options) == 3
    for option in options:
        assert option.default == "fsync" and option.type.choices == ("fsync", "flush")  # type: ignore[attr-defined]


def test_each_command_that_reports_has_json() -> None:
    others = {("aggregator",), ("completion",)}
    without = {
        path
        for path, command in commands()
        if not isinstance(command, click.Group)
        if "--json" not in {name for parameter in command.params for name in parameter.opts}
    }
    assert without == others


def test_help_loads_nothing_that_a_command_would_need() -> None:
    code = (
        "import sys; from pot_lab.cli.main import main; main(['--help']); main(['simulate', '--help']);"
        "print(*sorted({'torch', 'numpy', 'web3', 'zmq', 'coincurve', 'cryptography', 'msgspec', 'psutil', 'asyncio'}"
        " & set(sys.modules)), file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stderr.strip() == ""


def refusing(error: BaseException) -> click.Command:
    def refuse() -> None:
        raise error

    return click.Command("orders", callback=refuse)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (PotLabError("two\nlines", seen=b"\x01", wanted="a\tb"), 1, "PotLabError: two lines (seen: 0x01, wanted: a b)"),
        (TimeoutError("no answer"), 1, "no answer"),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
)  # fmt: skip
def test_what_ends_a_command_is_one_line_and_an_exit_code(
    error: BaseException,
    code: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(cli.commands, "orders", refusing(error))
    assert main(["orders"]) == code
    assert capsys.readouterr().err == f"pot-lab: {line}\n"


def test_a_bug_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cli.commands, "orders", refusing(KeyError("a bug")))
    with pytest.raises(KeyError):
        main(["orders"])


def test_a_reader_that_goes_away_ends_the_command() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "pot_lab.cli", "simulate", "--help"]
    # With a buffer, as in a user's shell: what is left in it must not be written once more at the end.
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    ended = subprocess.run(
        command, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=300, check=False, env=buffered
    )
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (1, "")


INTERRUPTED_WHILE_DELETING = """
import os, signal, sys, time
import click
from pot_lab.cli import main as cli

class Old:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)

def begin():
    old = Old()
    del old
    time.sleep(200)

sys.argv = ["pot-lab", "orders"]
cli.cli.commands["orders"] = click.Command("orders", callback=begin)
sys.exit(cli.main())
"""


def test_an_interrupt_is_heeded_even_while_an_object_is_deleted() -> None:
    command = heeding_interrupts([sys.executable, "-c", INTERRUPTED_WHILE_DELETING])
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (ended.returncode, ended.stderr) == (130, "pot-lab: stopped\n")


INTERRUPTED_WHILE_A_STRING_RUNS = """
import os, signal, sys
import click
from pot_lab.cli import main

cli = main.cli
cli.commands["orders"] = click.Command(
    "orders", callback=lambda: exec("os.kill(os.getpid(), signal.SIGINT)\\nwhile True: pass", globals())
)
if __name__ == "__main__":
    sys.exit(main.main())
"""


def test_an_interrupt_while_code_of_a_string_runs_ends_with_the_code_of_an_interrupt(tmp_path: Path) -> None:
    """As when a dataclass is being made while modules load: `python -m` then died by the signal instead."""
    (tmp_path / "interrupted.py").write_text(INTERRUPTED_WHILE_A_STRING_RUNS)
    root = str(Path(__file__).resolve().parents[2])
    ended = subprocess.run(
        heeding_interrupts([sys.executable, "-m", "interrupted", "orders"]),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (130, "pot-lab: stopped\n")


def test_sigterm_ends_a_command_as_an_interrupt_does() -> None:
    code = (
        "import os, signal, time, click\n"
        "from pot_lab.cli import main\n"
        "from pot_lab.cli.common import interrupt_on_sigterm\n"
        "def begin():\n"
        "    interrupt_on_sigterm(); os.kill(os.getpid(), signal.SIGTERM); time.sleep(200)\n"
        "main.cli.commands['orders'] = click.Command('orders', callback=begin)\n"
        "raise SystemExit(main.main(['orders']))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert (ended.returncode, ended.stderr) == (130, "pot-lab: stopped\n")


def test_only_interrupts_are_sent_again(capsys: pytest.CaptureFixture[str]) -> None:
    class Broken:
        def __del__(self) -> None:
            raise ValueError("a bug in a destructor")

    before = sys.unraisablehook
    sys.unraisablehook = keep_interrupts
    try:
        Broken()
    finally:
        sys.unraisablehook = before
    assert "a bug in a destructor" in capsys.readouterr().err


def test_a_damaged_network_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "network.toml"
    path.write_text("this is = = no toml")
    assert main(["orders", "--network", str(path), "--account", str(path)]) == 1
    assert "pot-lab: " in capsys.readouterr().err


def test_one_command_stands_in_each_file() -> None:
    """A group below a command has a file of its own: `chain proposal` stands in `chain_proposal.py`."""
    folder = Path(pot_lab.__file__).parent / "cli"
    shared = {"__init__", "__main__", "main", "common", "paying"}
    files = {path.stem for path in folder.glob("*.py")} - shared
    groups = {
        f"{name}_{sub}"
        for name, command in cli.commands.items()
        if isinstance(command, click.Group)
        for sub, below in command.commands.items()
        if isinstance(below, click.Group)
    }
    assert files == set(cli.commands) | groups
    for name in files:
        assert name.rpartition("_")[2] in {
            node.name
            for node in ast.parse((folder / f"{name}.py").read_text()).body
            if isinstance(node, ast.FunctionDef)
        }


def test_a_home_that_is_a_file_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("POT_LAB_HOME", str(tmp_path / "file"))
    assert main(["testnet", "up"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("pot-lab: CannotWrite: the files of a testnet cannot be written: Not a directory (seen: ")
    assert str(tmp_path) in told and "POT_LAB_HOME" in told and told.count("\n") == 1


def test_an_error_of_the_system_that_names_no_file_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(Testnet, "all_running", lambda name: fail())
    with pytest.raises(OSError, match="Invalid argument"):
        main(["testnet", "down"])


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-8"])
def test_a_title_that_the_terminal_cannot_show_ends_no_command(encoding: str) -> None:
    code = (
        "import click; from pot_lab.cli import main\n"
        "def tell(): click.echo('Z\\u00e4hler \\U0001f600'); raise main.PotLabError('\\U0001f600', seen='\\u4e2d')\n"
        "main.cli = click.Command('x', callback=tell); raise SystemExit(main.main())"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env={**os.environ, "PYTHONIOENCODING": encoding}
    )
    assert told.returncode == 1 and b"Traceback" not in told.stderr, told.stderr
    shown = "Z\u00e4hler \U0001f600".encode(encoding, "backslashreplace")
    assert told.stdout.strip() == shown
