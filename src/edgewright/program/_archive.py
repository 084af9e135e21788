"""Save and load programs without unpickling anything."""

from __future__ import annotations

import json
import re
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Final

import torch
from torch.export import ExportedProgram

from edgewright.errors import ModelError, StorageError

METADATA: Final = "edgewright.json"
FORMAT_VERSION: Final = 1

# What a program of ours can hold; anything else in an archive is refused before it is loaded.
_SAFE_TARGET: Final = re.compile(r"torch\.ops\.(aten|quantized_decomposed)\.\w+\.\w+"
                                 r"|_operator\.(getitem|mul|add|sub|floordiv|mod|neg|pow)"
                                 r"|math\.(ceil|floor|trunc)|torch\.sym_(max|min|int|float|not)")
_SAFE_CHARACTERS: Final = re.compile(r"[\w\s'(),.=<>|&~!+*/-]*", re.ASCII)
_SAFE_WORD: Final = re.compile(r"[su]\d+|\d\w*|Symbol|Integer|Rational|Add|Mul|Pow|Max|Min|Mod"
                               r"|FloorDiv|CeilDiv|PythonMod|CleanDiv|positive|integer|nonnegative"
                               r"|finite|int_oo|oo|True|False|Eq|Ne|Le|Lt|Ge|Gt")


def save_archive(exported: ExportedProgram, path: Path, metadata: dict[str, Any]) -> None:
    """Write a program and its metadata atomically.

    Raises:
        ModelError: The program holds an object that only pickle could store.
        StorageError: The disk cannot take it.
    """
    content = json.dumps({"format_version": FORMAT_VERSION, **metadata}, sort_keys=True)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            draft = Path(folder) / "program.pt2"
            torch.export.save(exported, draft, extra_files={METADATA: content})
            _refuse_code(draft)
            draft.replace(path)
    except (OSError, RuntimeError) as error:
        raise StorageError(f"cannot write {path}: {error}; free some space or choose another "
                           "place, then run again") from error


def load_archive(path: Path) -> tuple[ExportedProgram, dict[str, Any]]:
    """Read what `save_archive` wrote, refusing an archive that could run code.

    Raises:
        ModelError: Not an archive of ours, damaged, or holding pickled objects.
    """
    _refuse_code(path)
    extra = {METADATA: ""}
    try:
        exported = torch.export.load(path, extra_files=extra)
        metadata = json.loads(extra[METADATA] or "{}")
    except (OSError, RuntimeError, ValueError, LookupError, AssertionError) as error:
        raise ModelError(f"cannot load the program {path}: {error}") from error
    if metadata.get("format_version") != FORMAT_VERSION:
        raise ModelError(f"{path} is no Edgewright program of format {FORMAT_VERSION}: "
                         f"it says {metadata.get('format_version')!r}")
    return exported, metadata


def _refuse_code(path: Path) -> None:
    """Look through the archive's JSON for anything whose loading could run code."""
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(".json"):
                    _inspect(path, name, json.loads(archive.read(name)))
    except (OSError, zipfile.BadZipFile, ValueError, KeyError) as error:
        raise ModelError(f"cannot read the program {path}: {error}; "
                         "it is missing, truncated or not a saved program") from error


def _inspect(path: Path, name: str, document: Any) -> None:
    pending = [document]
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending.extend(item)
        elif isinstance(item, dict):
            reason = _danger(item)
            if reason:
                raise ModelError(f"refused to load {path}: {name} holds {reason}, which could "
                                 "run code; save the program again with Program.save")
            pending.extend(item.values())


def _danger(item: dict[str, Any]) -> str | None:
    if item.get("use_pickle"):
        return f"a pickled object ({item.get('path_name')!r})"
    target = item.get("target")
    if isinstance(target, str) and "inputs" in item and not _SAFE_TARGET.fullmatch(target):
        return f"a call to {target!r}"
    expression = item.get("expr_str")
    if isinstance(expression, str) and not _is_safe_expression(expression):
        return f"the expression {expression!r}"
    stored = item.get("path_name")
    if isinstance(stored, str) and not stored.startswith(("weight_", "tensor_")):
        return f"a custom object ({stored!r})"
    return None


def _is_safe_expression(text: str) -> bool:
    """Whether a size expression is arithmetic on size symbols and nothing else."""
    return bool(_SAFE_CHARACTERS.fullmatch(text)) and all(
        _SAFE_WORD.fullmatch(word) for word in re.findall(r"\w+", text))
