"""How many lines of code a job's user writes: those of its example, without the data's making."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import NamedTuple

_COMPRESS_CALL = 1


class Lines(NamedTuple):
    """Lines of code, without empty lines, comments and docstrings.

    Attributes:
        model: Of the network, which its owner has already.
        task: Of the task with an own loss and metric, and the call of `compress`.
    """

    model: int
    task: int


def count_lines(path: Path) -> Lines:
    """Count the lines of an example; the imports and the making of synthetic data do not count."""
    text = path.read_text(encoding="utf-8")
    model, task = 0, _COMPRESS_CALL
    for node in ast.parse(text).body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef) or node.name == "_samples":
            continue
        lines = len(_code_lines(node, text.splitlines()))
        if node.name == "make_task":
            task += lines - 1  # without its def
        elif _is_network(node):
            model += lines
        else:
            task += lines
    return Lines(model, task)


def _is_network(node: ast.ClassDef | ast.FunctionDef) -> bool:
    if isinstance(node, ast.ClassDef):
        return any(ast.unparse(base) == "nn.Module" for base in node.bases)
    return node.name == "make_model" or node.name.startswith("_")


def _code_lines(node: ast.ClassDef | ast.FunctionDef, text: list[str]) -> set[int]:
    first, last = node.lineno, node.end_lineno or node.lineno
    lines = {number for number in range(first, last + 1)
             if (line := text[number - 1].strip()) and not line.startswith("#")}
    for part in ast.walk(node):
        if isinstance(part, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(part):
            doc = part.body[0]
            lines -= set(range(doc.lineno, (doc.end_lineno or doc.lineno) + 1))
    return lines
