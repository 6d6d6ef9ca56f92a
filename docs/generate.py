"""Writes the reference pages that must never be kept by hand: they are read off the code each time the site is built.

`python docs/generate.py [FOLDER]` writes them; the site's configuration (`conf.py`) does so before every build. A page
is a function here that returns Markdown. Errors, parameters and `network.toml` are read from source text or from the
types that check them; only the public face and the command line are imported, and neither needs a network.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "pot_lab"
FOLDER = Path(__file__).resolve().parent / "reference" / "generated"
REMEDY = "What to do:"
"""How the paragraph of an error's docstring begins that says how to go on."""

_SECTION = re.compile(r"^(Args|Attributes|Raises|Returns|Yields|Example|Examples):[ \t]*(.*)$")
_ITEM = re.compile(r"^([*\w][\w*, .|\[\]]*):\s+(.*)$")


class Section(NamedTuple):
    """One named part of a docstring: its title, and its lines without indentation."""

    title: str
    text: str


def sections(docstring: str) -> tuple[str, list[Section]]:
    """A docstring's prose, and its named sections in order (Google's style, as everywhere in the package)."""
    prose: list[str] = []
    found: list[tuple[str, list[str]]] = []
    inside = False
    for line in inspect.cleandoc(docstring).splitlines():
        heading = _SECTION.match(line)
        if heading:
            found.append((heading[1], [heading[2]] if heading[2] else []))
            inside = True
        elif inside and (line.startswith(" ") or not line.strip() or _goes_on(*found[-1])):
            found[-1][1].append(line)
        else:
            inside = False
            prose.append(line)
    return "\n".join(prose).strip(), [Section(title, _dedented(lines)) for title, lines in found]


def _goes_on(title: str, lines: list[str]) -> bool:
    """Whether a line without indentation belongs to the section: a return value's text may run on below its heading."""
    return title in ("Returns", "Yields") and bool(lines) and bool(lines[-1].strip())


def _dedented(lines: list[str]) -> str:
    """Lines below a heading without the indentation they share; the text beside the heading has none."""
    first = lines[:1] if lines and lines[0].strip() and not lines[0].startswith(" ") else []
    return "\n".join([*first, textwrap.dedent("\n".join(lines[len(first) :]))]).strip("\n")


def items(text: str) -> list[tuple[str, str]]:
    """`name: meaning` entries of a section; lines that are indented further go on with the entry before."""
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        entry = _ITEM.match(line)
        if entry and not line.startswith(" "):
            found.append((entry[1], entry[2]))
        elif found:
            found[-1] = (found[-1][0], f"{found[-1][1]} {line.strip()}".rstrip())
        elif line.strip():
            found.append(("", line.strip()))
    return found


def markdown(docstring: str) -> str:
    """A docstring as Markdown: prose as it stands, `Args:` and its like as lists, an example as code."""
    prose, parts = sections(docstring)
    out = [prose] if prose else []
    for title, text in parts:
        if title in ("Example", "Examples"):
            out.append(f"**{title}**\n\n```python\n{textwrap.dedent(text)}\n```")
        elif title in ("Returns", "Yields"):
            out.append(f"**{title}** {' '.join(text.split())}")
        else:
            named = {"Args": "Parameters"}.get(title, title)
            entries = [f"- {_names(name)}{meaning}" for name, meaning in items(text)]
            out.append("\n".join([f"**{named}**", "", *entries]))
    return "\n\n".join(out)


def _names(names: str) -> str:
    return "".join([", ".join(f"`{name.strip()}`" for name in names.split(",")), ": "]) if names else ""


def one_line(text: str) -> str:
    """Text for a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(one_line(cell) for cell in row) + " |" for row in rows)])


# --- the public face ---------------------------------------------------------------------------------------------


def public_names() -> list[str]:
    """The names of `pot_lab.__all__` that are objects with a page entry, errors last."""
    face = importlib.import_module("pot_lab")
    return [name for name in face.__all__ if not name.startswith("__")]


def api() -> str:
    """Every public name with its signature and docstring."""
    out = [
        "# The public API",
        "What `import pot_lab` offers. Each name loads when it is first used.",
        "Errors have [a page of their own](errors.md).",
    ]
    face = importlib.import_module("pot_lab")
    for name in public_names():
        thing = getattr(face, name)
        if inspect.isclass(thing) and issubclass(thing, BaseException):
            continue
        out.append(f"## `{name}`")
        out.append(_directive(name, thing))
    return "\n\n".join(out) + "\n"


def _directive(name: str, thing: Any) -> str:
    if not inspect.isclass(thing):
        return _fenced("py:function", f"{name}{_signature(thing)}", markdown(inspect.getdoc(thing) or ""), 3)
    body = [markdown(inspect.getdoc(thing) or "")]
    for member, value in _public_members(thing):
        doc = markdown(inspect.getdoc(value) or "")
        if isinstance(value, property) or not callable(getattr(thing, member)):
            body.append(_fenced("py:property", member, doc, 3))
        else:
            kind = "py:classmethod" if isinstance(value, classmethod) else "py:method"
            body.append(_fenced(kind, f"{member}{_signature(getattr(thing, member))}", doc, 3))
    return _fenced("py:class", f"{name}{_signature(thing)}", "\n\n".join(body), 4)


def _public_members(thing: type) -> Iterator[tuple[str, Any]]:
    ours = [one for one in thing.__mro__ if one.__module__.startswith("pot_lab.")]
    members = {member: value for one in reversed(ours) for member, value in vars(one).items()}
    for member, value in members.items():
        described = isinstance(value, property | classmethod | staticmethod) or inspect.isfunction(value)
        if not member.startswith("_") and described:
            yield member, value


def _signature(thing: Any) -> str:
    try:
        found = inspect.signature(thing)
    except (TypeError, ValueError):
        return "()"
    kept = [
        one.replace(annotation=_Verbatim.of(one.annotation))
        for one in found.parameters.values()
        if one.name not in ("self", "cls")
    ]
    return str(found.replace(parameters=kept, return_annotation=_Verbatim.of(found.return_annotation)))


class _Verbatim(str):
    """An annotation that shows as it is written: annotations are strings here, which would show in quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)

    @classmethod
    def of(cls, annotation: Any) -> Any:
        return cls(annotation) if isinstance(annotation, str) else annotation


def _fenced(kind: str, argument: str, body: str, ticks: int) -> str:
    fence = "`" * (ticks + 1)
    return f"{fence}{{{kind}}} {argument}\n:module: pot_lab\n\n{body}\n{fence}"


# --- the command line --------------------------------------------------------------------------------------------


def cli() -> str:
    """Every command with its arguments and options, from the tree of click's commands."""
    import click

    root = importlib.import_module("pot_lab.cli.main").cli
    out = [
        "# The command line",
        "Usage errors end with exit code 2. A refusal is one line on stderr and exit code 1. Ctrl-C ends with 130.",
    ]
    for path, command in _commands(root, "pot-lab"):
        context = click.Context(command, info_name=path)
        out += [
            f"{'#' * (2 + path.count(' '))} `{path}`",
            f"```text\n{' '.join([path, *command.collect_usage_pieces(context)])}\n```",
            _PREFORMATTED.sub(r"```text\n\1\n```", inspect.cleandoc(command.help or "")),
        ]
        records = [one.get_help_record(context) for one in command.get_params(context) if "--help" not in one.opts]
        if found := [(f"`{record[0]}`", record[1]) for record in records if record and record[1]]:
            out.append(table(("option", "meaning"), found))
    return "\n\n".join(part for part in out if part) + "\n"


_PREFORMATTED = re.compile(r"^\x08\n(.*?)(?=\n\s*\n|\Z)", re.M | re.S)
"""What click prints as it stands: a paragraph below a backspace."""


def _commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    import click

    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None and not below.hidden:
                yield from _commands(below, f"{path} {name}")


# --- errors ------------------------------------------------------------------------------------------------------


class ErrorClass(NamedTuple):
    """An error as its source text gives it."""

    name: str
    bases: tuple[str, ...]
    module: str
    rule: str
    remedy: str


def errors() -> dict[str, ErrorClass]:
    """Every subclass of PotLabError in the package by name, read from the source text."""
    classes: dict[str, ErrorClass] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        if "labextension" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                prose, _ = sections(ast.get_docstring(node) or "")
                paragraphs = re.split(r"\n\s*\n", prose)
                remedy = [part.removeprefix(REMEDY).strip() for part in paragraphs if part.startswith(REMEDY)]
                rule = " ".join(part for part in paragraphs if not part.startswith(REMEDY))
                bases = tuple(ast.unparse(base).rpartition(".")[2] for base in node.bases)
                module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
                classes[node.name] = ErrorClass(node.name, bases, module, one_line(rule), " ".join(remedy))

    def is_error(name: str) -> bool:
        return name == "PotLabError" or (name in classes and any(is_error(base) for base in classes[name].bases))

    return {name: found for name, found in sorted(classes.items()) if is_error(name)}


def error_pages() -> str:
    """The error list: code, rule, what to do; by the part of the package that raises it."""
    rooms: dict[str, list[ErrorClass]] = {}
    for found in errors().values():
        rooms.setdefault(found.module.split(".")[1], []).append(found)
    out = [
        "# Errors",
        one_line(
            """
            Every refusal is a `PotLabError`. Its `code` is the name of its class: on the command line, over the
            wire and in a notebook alike. Its message adds the value seen and the value wanted.
            """
        ),
    ]
    for room, members in sorted(rooms.items(), key=lambda entry: (entry[0] != "errors", entry[0])):
        out.append("## Everywhere" if room == "errors" else f"## `{room}`")
        out.append(table(("code", "rule", "what to do"), [(f"`{one.name}`", one.rule, one.remedy) for one in members]))
    return "\n\n".join(out) + "\n"


# --- parameters and network.toml ---------------------------------------------------------------------------------


def described_fields(path: Path, name: str) -> list[tuple[str, str, str, str]]:
    """Fields of a record: name, type, default, meaning (a text below the field, or the docstring's `Attributes:`)."""
    tree = ast.parse(path.read_text())
    record = next(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == name)
    meanings: dict[str, str] = {}
    for section in sections(ast.get_docstring(record) or "")[1]:
        if section.title == "Attributes":
            for names, meaning in items(section.text):
                meanings |= {one.strip(): meaning for one in names.split(",")}
    found = []
    for place, node in enumerate(record.body):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        after = record.body[place + 1] if place + 1 < len(record.body) else None
        below = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
        default = ast.unparse(node.value) if node.value is not None else ""
        meaning = str(below) or meanings.get(node.target.id, "")
        found.append((node.target.id, ast.unparse(node.annotation), default, " ".join(meaning.split())))
    return found


def parameters() -> str:
    """The parameters that the network's members may set: default, hard bounds, meaning."""
    module = importlib.import_module("pot_lab.protocol.parameters")
    usual = module.Parameters()
    bounds = {name: f"{low:,} to {high:,}" for name, low, high in module._BOUNDS}
    rows = []
    for name, _, _, meaning in described_fields(PACKAGE / "protocol" / "parameters.py", "Parameters"):
        rows.append((f"`{name}`", _shown(getattr(usual, name)), bounds.get(name, ""), meaning))
    return (
        "\n\n".join(
            [
                "# Parameters",
                one_line(
                    """
                    What the members of a network may set, with the hard bounds that no vote can leave. `_ms` is
                    milliseconds, `_grains` is money (10^9 to one POT), `_bp` is basis points (10,000 are all).
                    An order keeps the parameters that were in force when it started.
                    """
                ),
                table(("parameter", "default", "bounds", "meaning"), rows),
            ]
        )
        + "\n"
    )


def _shown(value: Any) -> str:
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, tuple):
        return ", ".join(_shown(one) for one in value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def network_toml() -> str:
    """The keys of `network.toml`: types and defaults from the structs that check it, meanings from the records."""
    file = importlib.import_module("pot_lab.network.network_file")
    meanings = {
        record: {name: meaning for name, _, _, meaning in described_fields(PACKAGE / "network" / "config.py", record)}
        for record in ("NetworkConfig", "AggregatorEntry", "ChainConfig")
    }
    top = meanings["NetworkConfig"]
    out = [
        "# `network.toml`",
        one_line(
            """
            Everything public that a process must know to join a network. It holds no secret. `pot-lab testnet up`
            writes one; `$POT_LAB_NETWORK` or `--network` names it.
            """
        ),
    ]
    for title, struct, known in (
        ("Top level", file.NetworkTable, {**top, "store": "where blobs are put."}),
        ("`[[aggregators]]`", file.AggregatorTable, meanings["AggregatorEntry"]),
        ("`[chain]`", file.ChainTable, meanings["ChainConfig"]),
        ("`[store]`", file.StoreTable, {"url": top["store_url"], "private_links": top["private_links"]}),
    ):
        rows = [
            (f"`{field.name}`", _described(field.type), _default(field), known.get(field.name, ""))
            for field in _fields_of(struct)
        ]
        out += [f"## {title}", table(("key", "value", "default", "meaning"), rows)]
    out.append("`[parameters]` may set any of the ledger's first [parameters](parameters.md).")
    return "\n\n".join(out) + "\n"


def _fields_of(struct: Any) -> Any:
    import msgspec

    return msgspec.structs.fields(struct)


def _described(annotation: Any) -> str:
    """What an annotated type's `description` says a value must be."""
    said = [one.description for one in getattr(annotation, "__metadata__", ()) if getattr(one, "description", None)]
    return said[0] if said else str(annotation)


def _default(field: Any) -> str:
    if field.required:
        return "required"
    if isinstance(field.default, str | int) and field.default != "":
        return f"`{field.default}`"
    return "none"


# --- score functions ---------------------------------------------------------------------------------------------


def score_functions() -> str:
    """What `score=` of an order may name, from the table of score functions."""
    functions = importlib.import_module("pot_lab.scoring.functions")
    rows = []
    for (name, version), family in functions.FUNCTIONS.items():
        made = family.make(**{one: b.low if b.usual is None else b.usual for one, b in family.parameters.items()})
        bounds = [
            f"`{one}` {b.low} to {b.high} ({'must be given' if b.usual is None else f'default {b.usual}'})"
            for one, b in family.parameters.items()
        ]
        better = "higher" if made.higher_is_better else "lower"
        rows.append((f"`{name}/{version}`", ", ".join(bounds), made.unit, better))
    return (
        "\n\n".join(
            [
                "# Score functions",
                one_line(
                    """
                    What `score=` of `Lab.order` and `--score` may name. A client chooses one and never supplies
                    code. Parameters follow in brackets, in alphabetical order: `top_k_accuracy[k=3]`. Every
                    function has the parameter `slices`, 1 (default: about as accurate as float32) or 2 (close
                    to float64).
                    """
                ),
                table(("identifier", "parameters", "one unit of the total", "better"), rows),
                "[The scoring specification](../scoring-spec.md#8-score-functions) defines each to the bit.",
            ]
        )
        + "\n"
    )


PAGES: dict[str, Callable[[], str]] = {
    "api.md": api,
    "cli.md": cli,
    "errors.md": error_pages,
    "network-toml.md": network_toml,
    "parameters.md": parameters,
    "score-functions.md": score_functions,
}


def write(folder: Path = FOLDER) -> None:
    """Write every page, and touch none whose text is unchanged, so that a second build is quick."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in set(folder.glob("*.md")) - {folder / name for name in PAGES}:
        old.unlink()
    for name, page in PAGES.items():
        text = page()
        if not (folder / name).is_file() or (folder / name).read_text() != text:
            (folder / name).write_text(text)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
