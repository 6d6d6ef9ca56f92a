"""Small changes to a module's source, each of which a test should notice.

A mutant changes one place: a comparison or its boundary, an integer by one, `and` for `or`, a negated condition, two
neighbouring arguments swapped, an arithmetic operator, a removed statement, `min` for `max`. Docstrings, type
annotations, decorators and what a `raise` says are left alone: they decide nothing.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import islice
from typing import Final

_COMPARISONS: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_OPERATORS: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Add,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
}
_FUNCTIONS: Final = {"min": "max", "max": "min", "any": "all", "all": "any", "sorted": "list"}
_CHILDREN_LEFT_ALONE: Final = (ast.Raise, ast.JoinedStr, ast.Import, ast.ImportFrom)


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One change to a module.

    Attributes:
        place: its number among all changes of the module.
        line: its line in the original.
        what: the change in words, e.g. `a < b  ->  a <= b`.
    """

    place: int
    line: int
    what: str


def mutants(source: str, functions: str = "*") -> list[Mutant]:
    """Every mutant of a module's source, in the order of its lines; the same source gives the same list.

    Args:
        functions: only mutants inside functions with a name of this pattern; "*" takes what is outside too.
    """
    inside = _lines_of(source, functions)
    found = [
        Mutant(place=place, line=getattr(node, "lineno", 0), what=f"{_short(node)}  ->  {_short(changed)}")
        for place, (node, changed) in enumerate(_sites(ast.parse(source)))
        if ast.dump(node) != ast.dump(changed) and (inside is None or getattr(node, "lineno", 0) in inside)
    ]
    return sorted(found, key=lambda mutant: mutant.line)


def _lines_of(source: str, functions: str) -> set[int] | None:
    """Lines inside functions with a name of a pattern; None for all lines."""
    if functions == "*":
        return None
    found = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef) and fnmatch(n.name, functions)]
    return {line for node in found for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)}


def mutated(source: str, mutant: Mutant) -> str:
    """The module's source with this change."""
    tree = ast.parse(source)
    node, changed = next(islice(_sites(tree), mutant.place, None))
    return ast.unparse(ast.fix_missing_locations(_Replace(node, changed).visit(tree)))


class _Replace(ast.NodeTransformer):
    def __init__(self, target: ast.AST, changed: ast.AST) -> None:
        self._target, self._changed = target, changed

    def visit(self, node: ast.AST) -> ast.AST:
        if node is self._target:
            return self._changed
        return super().generic_visit(node)


def _short(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 160 else text[:157] + "..."


def _sites(node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
    """Pairs of a node and what stands there instead."""
    for child in _children(node):
        yield from ((child, ast.copy_location(changed, child)) for changed in _changed(child))
        if not isinstance(child, _CHILDREN_LEFT_ALONE):
            yield from _sites(child)


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """The children of a node that hold code which decides something."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "bases", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                continue  # a docstring
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Assign) and ast.unparse(child.targets[0]) == "__all__":
                continue
            if isinstance(child, ast.AST):
                yield child


def _changed(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Compare():
            for i, op in enumerate(node.ops):
                ops = [*node.ops[:i], _COMPARISONS[type(op)](), *node.ops[i + 1 :]]
                yield ast.Compare(node.left, ops, node.comparators)
        case ast.Constant(value=bool()):
            yield ast.Constant(not node.value)
        case ast.Constant(value=int()):
            yield ast.Constant(node.value + 1)
            yield ast.Constant(node.value - 1)
        case ast.BoolOp():
            yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield node.operand
        case ast.BinOp() if type(node.op) in _OPERATORS:
            yield ast.BinOp(node.left, _OPERATORS[type(node.op)](), node.right)
        case ast.IfExp():
            yield ast.IfExp(node.test, node.orelse, node.body)
        case ast.If() if not isinstance(node.test, ast.Compare):
            yield ast.If(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse)
        case ast.Call():
            yield from _changed_call(node)
        case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Delete() | ast.Raise():
            yield ast.Pass()
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript(), *_]):
            yield ast.Pass()
        case ast.Assign(targets=[ast.Tuple()], value=ast.Tuple(elts=[*elements])):
            for i in range(len(elements) - 1):
                swapped = [*elements[:i], elements[i + 1], elements[i], *elements[i + 2 :]]
                yield ast.Assign(node.targets, ast.copy_location(ast.Tuple(swapped, ast.Load()), node.value))
        case ast.Break():
            yield ast.Continue()
        case ast.Continue():
            yield ast.Break()
        case _:
            return


def _changed_call(node: ast.Call) -> Iterator[ast.AST]:
    if isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS:
        yield ast.Call(ast.Name(_FUNCTIONS[node.func.id], ast.Load()), node.args, node.keywords)
    args, keywords = node.args, node.keywords
    for i in range(len(args) - 1):
        if not isinstance(args[i], ast.Starred) and not isinstance(args[i + 1], ast.Starred):
            yield ast.Call(node.func, [*args[:i], args[i + 1], args[i], *args[i + 2 :]], keywords)
    for i in range(len(keywords) - 1):
        one, two = keywords[i], keywords[i + 1]
        if one.arg and two.arg:
            swapped = [ast.keyword(one.arg, two.value), ast.keyword(two.arg, one.value)]
            yield ast.Call(node.func, args, [*keywords[:i], *swapped, *keywords[i + 2 :]])
