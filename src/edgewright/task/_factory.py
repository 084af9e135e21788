"""References to the user's own code: ``file.py:factory`` and ``package.module:factory``."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeVar

from edgewright.errors import EdgewrightError, InputError

T = TypeVar("T")

_MODULE_NAME: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_FILE_COUNTER: Final = itertools.count()
_FOLDERS: Final[set[Path]] = set()  # of the files that were run


def is_factory(ref: str) -> bool:
    """Whether a reference has the form of a factory reference.

    Example:
        >>> is_factory("nets/tiny.py:make"), is_factory("pkg.nets:make"), is_factory("digits")
        (True, True, False)
    """
    place, separator, name = ref.rpartition(":")
    return bool(separator) and name.isidentifier() and (
        place.endswith(".py") or _MODULE_NAME.fullmatch(place) is not None)


def build(ref: str, kind: type[T], error: type[InputError]) -> T:
    """Import the user's module, call its factory without arguments, and check the result's type.

    A file is run under a unique module name. Its folder comes first on the import path while the
    file and the factory run, so that they can import the modules next to it. The name may also
    refer to an object of the right type instead of a factory.

    Args:
        ref: ``file.py:factory`` (relative to the working directory) or ``package.module:factory``.
        kind: What the factory must return.
        error: The exception type to raise, with the cause, if anything fails.
    """
    place, _, name = ref.rpartition(":")
    with _import_path(Path(place).resolve().parent if place.endswith(".py") else Path.cwd()):
        module = (_run_file(Path(place), ref, error) if place.endswith(".py")
                  else _import_module(place, ref, error))
        factory = _attribute(module, name, ref, error)
        found = factory if isinstance(factory, kind) else _call(factory, ref, error)
    if not isinstance(found, kind):
        raise error(f"{ref} returned a {type(found).__name__}; expected a {kind.__name__}")
    return found


def user_modules() -> tuple[ModuleType, ...]:
    """The modules that were run from files, and those beside them that these imported.

    Another process cannot import them by name.
    """
    return tuple(module for module in list(sys.modules.values())
                 if (file := getattr(module, "__file__", None)) is not None
                 and Path(file).parent in _FOLDERS)


def _run_file(path: Path, ref: str, error: type[InputError]) -> ModuleType:
    if not path.is_file():
        raise error(f"{ref}: there is no file {path.resolve()}")
    name = f"_edgewright_{path.stem}_{next(_FILE_COUNTER)}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise error(f"{ref}: {path} cannot be run as a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    _FOLDERS.add(path.resolve().parent)
    try:
        spec.loader.exec_module(module)
    except Exception as cause:
        del sys.modules[name]
        raise error(f"{ref}: running {path} failed: {_describe(cause)}") from cause
    return module


def _import_module(name: str, ref: str, error: type[InputError]) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as cause:
        raise error(f"{ref}: importing {name} failed: {_describe(cause)}") from cause


def _attribute(module: ModuleType, name: str, ref: str, error: type[InputError]) -> Any:
    if hasattr(module, name):
        return getattr(module, name)
    public = [known for known in vars(module) if not known.startswith("_")]
    near = get_close_matches(name, public, n=5) or public[:5]
    raise error(f"{ref}: the module has no {name!r}; it has: {', '.join(near) or 'no public name'}")


def _call(factory: Any, ref: str, error: type[InputError]) -> Any:
    if not callable(factory):
        raise error(f"{ref} is a {type(factory).__name__}; expected a function without arguments")
    try:
        return factory()
    except EdgewrightError:
        raise
    except Exception as cause:
        raise error(f"{ref}: calling it failed: {_describe(cause)}") from cause


@contextmanager
def _import_path(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        if str(folder) in sys.path:
            sys.path.remove(str(folder))


def _describe(cause: Exception) -> str:
    return f"{type(cause).__name__}: {cause}"
