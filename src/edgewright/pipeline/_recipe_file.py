"""Recipe files: YAML, with the line of every setting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import yaml

from edgewright.errors import Fault, SettingsError, UsageError


@final
@dataclass(frozen=True)
class RecipeFile:
    """The content of a recipe file.

    Attributes:
        path: The file.
        content: What it contains.
        root: Its nodes, which know their lines; None if the file is empty.
    """

    path: Path
    content: Any
    root: yaml.Node | None

    @classmethod
    def read(cls, path: Path) -> RecipeFile:
        """Read a file.

        Raises:
            UsageError: It cannot be read, or is no YAML.
        """
        try:
            text = path.read_text(encoding="utf-8")
            return cls(path, yaml.safe_load(text), yaml.compose(text, yaml.SafeLoader))
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = "" if mark is None else f":{mark.line + 1}"
            reason = " ".join(filter(None, (error.context, error.problem)))
            raise UsageError(f"cannot read the recipe {path}{line}: {reason}") from error
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())
            raise UsageError(f"cannot read the recipe {path}: {reason}") from error

    def repeated(self) -> list[Fault]:
        """A fault for every setting that the file gives twice; YAML would keep the last one."""
        return list(_find_repeated(self.root, ()))

    def error(self, faults: Sequence[Fault]) -> SettingsError:
        """The error that lists faults by file and line, in the order of the lines."""
        ordered = sorted(faults, key=lambda fault: self._line(fault.path))
        return SettingsError(ordered, [f"{self.path}:{self._line(fault.path)}"
                                       for fault in ordered])

    def _line(self, path: Sequence[str | int]) -> int:
        """The line of a setting, or of the innermost one around it that the file has."""
        line, node = 1, self.root
        for name in path:
            found = _find_child(node, name)
            if found is None:
                break
            mark, node = found
            line = mark.line + 1
        return line


def _find_child(node: yaml.Node | None, name: str | int) -> tuple[Any, yaml.Node] | None:
    """The mark and the value of a mapping's key (the last of equal ones) or a list's element."""
    if isinstance(node, yaml.MappingNode):
        return next(((key.start_mark, value) for key, value in reversed(node.value)
                     if key.value == str(name)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(name, int) and name < len(node.value):
        return node.value[name].start_mark, node.value[name]
    return None


def _find_repeated(node: yaml.Node | None, path: tuple[str | int, ...]) -> Iterator[Fault]:
    if isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _find_repeated(value, (*path, index))
    if not isinstance(node, yaml.MappingNode):
        return
    known: dict[str, int] = {}
    for key, value in node.value:
        if key.value in known:
            yield Fault((*path, key.value), f"given twice, first in line {known[key.value]}")
        known.setdefault(key.value, key.start_mark.line + 1)
        yield from _find_repeated(value, (*path, key.value))
