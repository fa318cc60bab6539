"""A function's syntax tree in, small changes of its source out: what a slip of the hand would leave."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip
CALLS = {"min": "max", "max": "min", "any": "all", "all": "any"}
ENDS = {"low": "high", "high": "low"}  # of an interval


@dataclass(frozen=True)
class Mutation:
    """One change of a file: where it is, `what stood there → what stands there now`, and the file's new text."""

    function: str
    line: int
    change: str
    source: str


def mutations(source: str, functions: tuple[str, ...]) -> list[Mutation]:
    """A file's text and the names of functions, methods as `Class.method` → all mutations of their bodies.

    Raises `LookupError` if the file has no function of a name.
    """
    bodies = dict(_functions(ast.parse(source), ""))
    if lacking := set(functions) - set(bodies):
        raise LookupError(f"there is no {', '.join(sorted(lacking))}")
    return [mutation for name in functions for mutation in _of_function(source, name, bodies[name])]


def _of_function(source: str, name: str, function: ast.FunctionDef) -> Iterator[Mutation]:
    """Of changes that read alike the second is called so, and so on: no two of a function are of one name."""
    times: Counter[str] = Counter()
    for node, after in _changes(function):
        change = f"{_one_line(ast.get_source_segment(source, node) or '')} → {_one_line(after)}"
        times[change] += 1
        named = change if times[change] == 1 else f"{change} #{times[change]}"
        yield Mutation(name, node.lineno, named, _replaced(source, node, after))


def _functions(tree: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            yield f"{prefix}{node.name}", node
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{prefix}{node.name}.")


def _changes(function: ast.FunctionDef) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
    """(a node of the body, what takes its place)."""
    for statement in function.body:
        for node in _nodes(statement):
            if isinstance(node, ast.expr):
                yield from ((node, f"({after})") for after in _of_expression(node))
            elif isinstance(node, ast.stmt):
                yield from ((node, after) for after in _of_statement(node))
            for test in _tests(node):
                yield test, f"(not ({ast.unparse(test)}))"


def _nodes(node: ast.AST) -> Iterator[ast.AST]:
    """A statement and all below it, but for texts and annotations: what a sentence says is not what matters here."""
    if isinstance(node, ast.JoinedStr | ast.Constant) and not _is_number(node):
        return
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _nodes(child)


def _is_number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float)


def _of_expression(node: ast.expr) -> Iterator[str]:
    match node:
        case ast.Compare(left, ops, comparators):
            for place, operator in enumerate(ops):
                swapped = [*ops[:place], COMPARISONS[type(operator)](), *ops[place + 1 :]]
                yield ast.unparse(ast.Compare(left, swapped, comparators))
        case ast.BoolOp(operator, values):
            yield ast.unparse(ast.BoolOp(ast.Or() if isinstance(operator, ast.And) else ast.And(), values))
        case ast.UnaryOp(ast.Not() | ast.USub(), operand):
            yield ast.unparse(operand)
        case ast.BinOp(left, operator, right) if type(operator) in ARITHMETIC:
            yield ast.unparse(ast.BinOp(left, ARITHMETIC[type(operator)](), right))
        case ast.Constant(bool() as value):
            yield repr(not value)
        case ast.Constant(int() | float() as value):
            yield repr(value + 1)
        case ast.Attribute(value, name) if name in ENDS:
            yield ast.unparse(ast.Attribute(value, ENDS[name]))
        case ast.Subscript(value, ast.Constant(str() as name)) if name in ENDS:
            yield ast.unparse(ast.Subscript(value, ast.Constant(ENDS[name])))
        case ast.Call(ast.Name(name), arguments, keywords) if name in CALLS:
            yield ast.unparse(ast.Call(ast.Name(CALLS[name]), arguments, keywords))


def _of_statement(node: ast.stmt) -> Iterator[str]:
    """What is done is left out; what is returned is nothing."""
    match node:
        case ast.Expr(ast.Call()) | ast.Raise() | ast.AugAssign():
            yield "pass"
        case ast.Return(ast.expr() as value) if not isinstance(value, ast.Constant):
            yield "return None"


def _tests(node: ast.AST) -> Iterator[ast.expr]:
    """The condition of a node, turned round whole where no operator of it is turned round by itself."""
    if isinstance(node, ast.If | ast.IfExp | ast.While) and not isinstance(node.test, ast.Compare | ast.UnaryOp):
        yield node.test
    if isinstance(node, ast.comprehension):
        yield from (test for test in node.ifs if not isinstance(test, ast.Compare | ast.UnaryOp))


def _replaced(source: str, node: ast.expr | ast.stmt, after: str) -> str:
    """The text with a node's characters replaced; positions of a tree count bytes."""
    lines = source.encode().splitlines(keepends=True)
    start = sum(map(len, lines[: node.lineno - 1])) + node.col_offset
    assert node.end_lineno is not None and node.end_col_offset is not None
    end = sum(map(len, lines[: node.end_lineno - 1])) + node.end_col_offset
    whole = source.encode()
    return (whole[:start] + after.encode() + whole[end:]).decode()


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 70 else f"{line[:69]}…"
