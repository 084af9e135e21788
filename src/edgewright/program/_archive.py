"""Save and load programs without unpickling anything."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any, Final

import torch
from torch._export.verifier import SpecViolationError
from torch.export import ExportedProgram

from edgewright.core import write_atomically
from edgewright.errors import ModelError

METADATA: Final = "edgewright.json"
FORMAT_VERSION: Final = 3

# The files of an archive; torch also looks for several others, which it would unpickle or run.
_FOLDER: Final = "program/"
_SAMPLE_INPUTS: Final = "data/sample_inputs/model.pt"
_MEMBER: Final = re.compile(
    r"archive_(format|version)|byteorder|\.data/(version|serialization_id)"
    rf"|models/model\.json|extra/{re.escape(METADATA)}|{re.escape(_SAMPLE_INPUTS)}"
    r"|data/weights/(weight_\d+|model_weights_config\.json)"
    r"|data/constants/(tensor_\d+|model_constants_config\.json)", re.ASCII)

# What a program can contain; anything else in an archive is refused before it is loaded.
_SAFE_TARGET: Final = re.compile(r"torch\.ops\.(aten|quantized_decomposed)\.\w+\.\w+"
                                 r"|torch\.ops\.edgewright\.route\.default"
                                 r"|_operator\.(getitem|mul|add|sub|floordiv|mod|neg|pow)"
                                 r"|math\.(ceil|floor|trunc)|torch\.sym_(max|min|int|float|not)")
# Operators that take a string (a mode, a padding, an equation), and the one that maps a file.
_STRING_TARGET: Final = re.compile(
    r"torch\.ops\.aten\.(conv[123]d|pad|gelu_?|div_?|einsum|scatter_reduce|index_reduce"
    r"|_assert_scalar|_assert_async|meshgrid|bucketize|searchsorted|linalg_\w+)\.")
_FILE_TARGET: Final = re.compile(r"torch\.ops\.aten\.from_file\b")
_SAFE_CHARACTERS: Final = re.compile(r"[\w\s'(),.=<>|&~!+*/-]*", re.ASCII)
_SAFE_WORD: Final = re.compile(r"[su]\d+|\d\w*|Symbol|Integer|Rational|Add|Mul|Pow|Max|Min|Mod"
                               r"|FloorDiv|CeilDiv|PythonMod|CleanDiv|positive|integer|nonnegative"
                               r"|finite|int_oo|oo|True|False|Eq|Ne|Le|Lt|Ge|Gt")


def save_archive(exported: ExportedProgram, path: Path, metadata: dict[str, Any]) -> None:
    """Write a program and its metadata atomically.

    torch writes to memory only, because its writer aborts the process if a disk is full.

    Raises:
        ModelError: The program contains an object that can only be stored with pickle.
        StorageError: The file cannot be written.
    """
    content = json.dumps({"format_version": FORMAT_VERSION, **metadata}, sort_keys=True)
    draft = io.BytesIO()
    try:
        torch.export.save(exported, draft, extra_files={METADATA: content})
    except RuntimeError as error:  # what torch's own serialization cannot write
        raise ModelError(f"the program cannot be saved as {path}: {error}") from error
    write_atomically(path, _copy_checked(draft, path, f"refused to save {path}").getbuffer())


def load_archive(path: Path) -> tuple[ExportedProgram, dict[str, Any]]:
    """Read an archive written by `save_archive`, refusing one that could run code.

    Raises:
        ModelError: The file is not such an archive, is damaged, or has pickled objects.
    """
    clean = _copy_checked(path, path, f"refused to load {path}")
    extra = {METADATA: ""}
    try:
        exported = torch.export.load(clean, extra_files=extra)
        metadata = json.loads(extra[METADATA] or "{}")
    except (OSError, RuntimeError, ValueError, TypeError, LookupError, AssertionError,
            AttributeError, SpecViolationError) as error:
        raise ModelError(f"cannot load the program {path}: {error}") from error
    version = metadata.get("format_version") if isinstance(metadata, dict) else metadata
    if version != FORMAT_VERSION:
        raise ModelError(f"{path} is not an Edgewright program of format {FORMAT_VERSION}: "
                         f"its format version is {version!r}")
    return exported, metadata


def _copy_checked(source: Path | io.BytesIO, path: Path, refusal: str) -> io.BytesIO:
    """Copy an archive to memory, checking every member.

    Only the copy is loaded, so that torch reads exactly the bytes that were checked.
    """
    clean = io.BytesIO()
    try:
        with zipfile.ZipFile(source) as archive, zipfile.ZipFile(clean, "w") as copied:
            names = archive.namelist()
            for name in names:
                member = name.partition("/")[2]
                if not _MEMBER.fullmatch(member) or names.count(name) > 1:
                    raise ModelError(_refusal_message(refusal, name,
                                                      "content that no program needs"))
                content = archive.read(name)
                if member.endswith(".json"):
                    _check_document(json.loads(content), name, refusal)
                elif member == _SAMPLE_INPUTS:
                    _check_sample_inputs(content, name, refusal)
                copied.writestr(zipfile.ZipInfo(f"{_FOLDER}{member}"), content)  # no timestamp
    except (OSError, zipfile.BadZipFile, ValueError, KeyError, NotImplementedError) as error:
        raise ModelError(f"cannot read the program {path}: {error}; "
                         "it is missing, truncated or not a saved program") from error
    clean.seek(0)
    return clean


def _refusal_message(refusal: str, name: str, reason: str) -> str:
    return (f"{refusal}: {name} contains {reason}, which could run code; "
            "a program contains only plain operators and tensors")


def _check_document(document: Any, name: str, refusal: str) -> None:
    pending = [document]
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending.extend(item)
        elif isinstance(item, dict):
            reason = _find_danger(item)
            if reason:
                raise ModelError(_refusal_message(refusal, name, reason))
            pending.extend(item.values())
        elif isinstance(item, str) and item.lstrip().startswith(("[", "{")):
            with contextlib.suppress(ValueError):
                pending.append(json.loads(item))


def _check_sample_inputs(content: bytes, name: str, refusal: str) -> None:
    """Check that torch can read the example inputs without falling back to full pickle."""
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, TypeError, LookupError,
            AttributeError, AssertionError, EOFError) as error:
        raise ModelError(_refusal_message(refusal, name, "a pickled object")) from error


def _find_danger(item: dict[str, Any]) -> str | None:
    if item.get("use_pickle"):
        return f"a pickled object ({item.get('path_name')!r})"
    target = item.get("target")
    if isinstance(target, str) and "inputs" in item and not _is_safe_call(target, item["inputs"]):
        return f"a call to {target!r}"
    expression = item.get("expr_str")
    if isinstance(expression, str) and not _is_safe_expression(expression):
        return f"the expression {expression!r}"
    if {"default_factory_module", "__enum__"} & item.keys():
        return "the name of a class to import"
    stored = item.get("path_name")
    if isinstance(stored, str) and not stored.startswith(("weight_", "tensor_")):
        return f"a custom object ({stored!r})"
    return None


def _is_safe_call(target: str, inputs: Any) -> bool:
    """Whether a call only computes: no operator that opens files, no unexpected strings."""
    if not _SAFE_TARGET.fullmatch(target) or _FILE_TARGET.match(target):
        return False
    return "as_string" not in json.dumps(inputs) or bool(_STRING_TARGET.match(target))


def _is_safe_expression(text: str) -> bool:
    """Whether a size expression is only arithmetic on size symbols."""
    return bool(_SAFE_CHARACTERS.fullmatch(text)) and all(
        _SAFE_WORD.fullmatch(word) for word in re.findall(r"\w+", text))
