"""The documentation against the code: links and headings, the pages that are generated, the tutorial's code."""

from __future__ import annotations

import importlib.util
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

import pot_lab
from pot_lab.protocol.cycle import diagram
from pot_lab.protocol.parameters import Parameters

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pages() -> list[Path]:
    """Pages that are committed; those that are generated are not."""
    return [path for path in DOCS.rglob("*.md") if "generated" not in path.parts]


def anchors(page: Path) -> set[str]:
    """Of the page's headings, as forges and the site make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_cycle_diagram_is_drawn_from_the_table() -> None:
    text = (DOCS / "explanation" / "protocol.md").read_text()
    between = text.split("<!-- cycle diagram: begin -->")[1].split("<!-- cycle diagram: end -->")[0]
    assert between.strip() == f"```mermaid\n{diagram()}\n```", "run pot_lab.protocol.cycle.diagram() and paste it"


def test_every_page_and_heading_that_a_page_links_to_is_there(generate: ModuleType) -> None:
    generated = {generate.FOLDER / name for name in generate.PAGES}
    broken = []
    for page in [*ROOT.glob("*.md"), *pages()]:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if "://" in target:
                continue
            name, _, heading = target.partition("#")
            path = (page.parent / name).resolve() if name else page
            there = path.exists() or (path in generated and page.is_relative_to(DOCS))
            if not there or (heading and path.is_file() and heading not in anchors(path)):
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []


def test_every_page_has_its_place_in_the_table_of_contents(generate: ModuleType) -> None:
    listed = {line.strip() for line in (DOCS / "index.md").read_text().splitlines()}
    there = [path.relative_to(DOCS).with_suffix("").as_posix() for path in pages()]
    there += [f"reference/generated/{Path(name).stem}" for name in generate.PAGES]
    assert sorted(set(there) - listed) == ["index"]


def test_page_names_are_unique_since_docstrings_cite_them_by_name() -> None:
    names = [path.name for path in pages()]
    assert sorted(names) == sorted(set(names))


def test_the_tutorial_is_the_order_notebook(generate: ModuleType) -> None:
    cells = json.loads((ROOT / "notebooks" / "order.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]).strip() for cell in cells if cell["cell_type"] == "code"]
    tutorial = re.findall(r"```python\n(.*?)```", (DOCS / "tutorial" / "first-order.md").read_text(), re.S)
    assert [block.strip() for block in tutorial] == code


def test_the_api_reference_has_every_public_name_with_its_text(generate: ModuleType) -> None:
    page = generate.api()
    missing = []
    for name in generate.public_names():
        thing = getattr(pot_lab, name)
        if isinstance(thing, type) and issubclass(thing, BaseException):
            continue
        first = (thing.__doc__ or "no docstring").strip().splitlines()[0]
        if f"## `{name}`\n" not in page or first not in page:
            missing.append(name)
    assert missing == []
    assert "- `train_for`: " in page  # a parameter of `Lab.order`
    assert ":module: pot_lab" in page and "score: str = 'accuracy'" in page


def test_the_cli_reference_has_every_command_and_option(generate: ModuleType) -> None:
    from pot_lab.cli.main import cli

    def tree(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
        yield path, command
        for name, below in getattr(command, "commands", {}).items():
            yield from tree(below, f"{path} {name}")

    parts = re.split(r"^#+ `(pot-lab[^`]*)`$", generate.cli(), flags=re.M)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    commands = dict(tree(cli, "pot-lab"))
    assert set(sections) == set(commands)
    for path, command in commands.items():
        options = [option for option in command.params if isinstance(option, click.Option) and not option.hidden]
        assert [option.opts for option in options if f"`{option.opts[-1]}" not in sections[path]] == [], path


def test_the_error_list_has_every_error_with_its_rule(generate: ModuleType) -> None:
    page, found = generate.error_pages(), generate.errors()
    assert {"PotLabError", "Malformed", "TooLate", "NoTestnet", "WrongServerKey"} <= set(found)
    assert "Lab" not in found
    assert [name for name, error in found.items() if not error.rule or f"| `{name}` | {error.rule} |" not in page] == []
    bases = {base for error in found.values() for base in error.bases}
    assert [name for name, error in found.items() if not error.remedy and name not in bases] == []  # "What to do: ..."


def test_the_parameter_table_has_every_parameter_and_its_default(generate: ModuleType) -> None:
    page = generate.parameters()
    rows = {row.split("`")[1]: row for row in page.splitlines() if row.startswith("| `")}
    assert set(rows) == set(Parameters.__struct_fields__)
    assert [name for name, row in rows.items() if row.endswith("|  |")] == []  # each has a meaning
    assert "| `seats_per_order` | 7 | 3 to 63 |" in page


def test_the_network_toml_reference_has_every_key_with_its_meaning(generate: ModuleType) -> None:
    from pot_lab.network.network_file import AggregatorTable, ChainTable, NetworkTable, StoreTable

    rows = [row for row in generate.network_toml().splitlines() if row.startswith("| `")]
    keys = [
        key for struct in (NetworkTable, AggregatorTable, ChainTable, StoreTable) for key in struct.__struct_fields__
    ]
    assert [row.split("`")[1] for row in rows] == keys
    assert [row for row in rows if row.endswith("|  |")] == []  # each has a meaning
    assert "| `peer_port` | a TCP port, 1 .. 65535 | required |" in rows[11]
    assert "| `durability` | fsync or flush | `fsync` |" in rows[6]


def test_the_score_function_list_has_every_function(generate: ModuleType) -> None:
    from pot_lab.protocol.parameters import SCORE_FUNCTIONS

    page = generate.score_functions()
    assert [name for name, version in SCORE_FUNCTIONS if f"| `{name}/{version}` |" not in page] == []


def test_a_docstring_becomes_markdown(generate: ModuleType) -> None:
    text = generate.markdown(
        """Do it.

        Args:
            first, second: what to do,
                and how.
        Returns: the outcome
            of it.
        Raises:
            TooLate: it is over.

        Example:
            do(1, 2)

        More prose.
        """
    )
    assert text.splitlines() == [
        "Do it.", "", "More prose.", "",
        "**Parameters**", "", "- `first`, `second`: what to do, and how.", "",
        "**Returns** the outcome of it.", "",
        "**Raises**", "", "- `TooLate`: it is over.", "",
        "**Example**", "", "```python", "do(1, 2)", "```",
    ]  # fmt: skip


def test_generated_pages_are_written_once_and_old_ones_go(generate: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "of-yesterday.md").write_text("# Gone\n")
    generate.write(tmp_path)
    first = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert set(first) == set(generate.PAGES)
    generate.write(tmp_path)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == first


def test_the_table_of_rooms_names_every_room() -> None:
    there = {path.name for path in (ROOT / "pot_lab").iterdir() if path.is_dir() and (path / "__init__.py").is_file()}
    there |= {path.name for path in (ROOT / "pot_lab").glob("*.py")} - {"__init__.py"}
    table = (ROOT / "CONTRIBUTING.md").read_text().split("## The house")[1].split("## Language")[0]
    assert {name for name in there if f"`{name}/`" not in table and f"`{name}`" not in table} == set()


def test_the_changelog_has_an_entry_for_this_version() -> None:
    versions = re.findall(r"^## \[(\S+)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert versions[0] == "Unreleased"
    assert versions[1] == pot_lab.__version__


def test_package_and_front_end_have_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    package = json.loads((ROOT / "labextension" / "package.json").read_text())
    lock = json.loads((ROOT / "labextension" / "package-lock.json").read_text())
    found = {project["version"], package["version"], lock["version"], lock["packages"][""]["version"]}
    assert found == {pot_lab.__version__}


def test_every_path_that_a_page_names_is_there() -> None:
    named = re.compile(r"`((?:[\w.-]+/)+[\w-]+\.(?:py|ipynb|sol|md))`")
    absent = []
    for page in [*ROOT.glob("*.md"), *pages()]:
        for name in named.findall(page.read_text()):
            if not any((base / name).exists() for base in (ROOT, ROOT / "pot_lab", page.parent)):
                absent.append(f"{page.relative_to(ROOT)}: {name}")
    assert absent == []


def test_prose_has_at_most_100_columns() -> None:
    """Tables and code may be wider: their lines cannot be broken."""
    long = []
    for page in [*ROOT.glob("*.md"), *pages()]:
        code = False
        for number, line in enumerate(page.read_text().splitlines(), 1):
            code ^= line.lstrip().startswith("```")
            if len(line) > 100 and " " in line and not code and not line.startswith(("|", "<!--", "![")):
                long.append(f"{page.relative_to(ROOT)}:{number}")
    assert long == []
