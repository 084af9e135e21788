"""The database of a search's trials: its address, and what is said if it cannot be used."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import optuna
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from edgewright.core import write_atomically
from edgewright.errors import MissingExtraError, StorageError, UsageError

_FILE: Final = "search.db"
_LOCATION: Final = "store.json"  # of a search whose trials are in a database elsewhere
_STUDY: Final = "edgewright"
_PASSWORD: Final = "password"  # noqa: S105 - the name of a part of a URL
_WAIT_S: Final = 10            # for a connection, or for a lock to be released
_REASON: Final = 300           # characters of a database's message


@final
@dataclass(frozen=True)
class StoreLocation:
    """Where a search's trials are.

    Attributes:
        url: The database, as SQLAlchemy writes it.
        study: Name of the search in it.
    """

    url: str
    study: str = _STUDY


def locate_store(folder: Path, url: str | None = None) -> StoreLocation:
    """Where the trials of a search are, or are to be.

    Args:
        folder: The search's directory.
        url: The database; None for the one that the search has used so far, or else an SQLite file
            in the directory. Many searches may share one: each gets a name of its own in it.

    Raises:
        StorageError: The search's trials are in another database.
        UsageError: The URL cannot be read.

    Example:
        >>> locate_store(Path("/runs/a"))
        StoreLocation(url='sqlite:////runs/a/search.db', study='edgewright')
    """
    file, location = folder / _FILE, folder / _LOCATION
    if location.is_file():
        kept = json.loads(location.read_text(encoding="utf-8"))
        if url is not None and without_password(url) != kept["url"]:
            raise _elsewhere(folder, kept["url"], url)
        return StoreLocation(url or kept["url"], kept["study"])
    if url is None:
        return StoreLocation(f"sqlite:///{file.resolve()}")
    if file.is_file():
        raise _elsewhere(folder, f"sqlite:///{file.resolve()}", url)
    without_password(url)
    return StoreLocation(url, f"{folder.resolve().name}-{uuid.uuid4().hex[:8]}")


def find_store(folder: Path, url: str | None = None) -> StoreLocation:
    """Where the trials of a search are that was begun in a directory.

    Args:
        folder: The search's directory.
        url: See `locate_store`.

    Raises:
        StorageError: There is no search, or its trials are in another database.
    """
    if not (folder / _FILE).is_file() and not (folder / _LOCATION).is_file():
        raise StorageError(f"{folder} holds no search; give the --out of a command that was run "
                           "with a budget and without a recipe")
    return locate_store(folder, url)


def remember_store(folder: Path, location: StoreLocation) -> None:
    """Note in a search's directory that its trials are elsewhere, without the password."""
    write_atomically(folder / _LOCATION, json.dumps(
        {"url": without_password(location.url), "study": location.study}, indent=1).encode())


def open_storage(url: str) -> optuna.storages.RDBStorage:
    """Connect to a database.

    Raises:
        MissingExtraError: It is PostgreSQL, whose driver is not installed.
        StorageError: It cannot be reached, or stays locked.
        UsageError: The URL cannot be read.
    """
    parsed = _parse(url)
    settings: dict[str, Any] = {"pool_pre_ping": True}
    if parsed.get_backend_name() == "sqlite":
        settings["connect_args"] = {"timeout": _WAIT_S}
    elif parsed.get_backend_name() == "postgresql":
        _require_psycopg()
        parsed = parsed.set(drivername="postgresql+psycopg")
        settings["connect_args"] = {"connect_timeout": _WAIT_S,
                                    "options": f"-c lock_timeout={_WAIT_S}s"}
    address = parsed.render_as_string(hide_password=False)
    try:
        with reporting(url, "open"):
            return optuna.storages.RDBStorage(address, engine_kwargs=settings)
    except (ImportError, RuntimeError) as error:  # no driver; tables of another version of Optuna
        raise StorageError(f"cannot open the storage of trials at {without_password(url)}: "
                           f"{_reason(error, url)}") from error


@contextmanager
def reporting(url: str, what: str = "use") -> Iterator[None]:
    """Report failures of a database as `StorageError`, which names it without its password.

    Args:
        url: The database.
        what: What is done with it.
    """
    try:
        yield
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError) as error:
        raise StorageError(
            f"cannot {what} the storage of trials at {without_password(url)}: "
            f"{_reason(error, url)}; check that it can be reached and that no other process locks "
            "it, then repeat the command: what is stored is kept") from error


def without_password(url: str) -> str:
    """A database's URL as it may be shown.

    Raises:
        UsageError: The URL cannot be read.

    Example:
        >>> without_password("postgresql://ann:secret@db.example:5432/trials")
        'postgresql://ann@db.example:5432/trials'
    """
    parsed = _parse(url)
    return parsed._replace(password=None).difference_update_query([_PASSWORD]).render_as_string()


def _parse(url: str) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError) as error:
        shown = re.sub(r":[^:/]*@", ":...@", url)
        raise UsageError(f"{shown!r} is not the URL of a database; expected for example "
                         "sqlite:///trials.db or postgresql://USER@HOST/DATABASE") from error


def _reason(error: BaseException, url: str) -> str:
    """The message of the first cause, without the password."""
    while error.__cause__ is not None:
        error = error.__cause__
    parsed, text = _parse(url), " ".join(str(error).split())[:_REASON]
    for secret in (parsed.password, parsed.query.get(_PASSWORD)):
        text = text.replace(str(secret), "...") if secret else text
    return text.rstrip(".")


def _require_psycopg() -> None:
    try:
        import psycopg  # noqa: F401, PLC0415 - only where it is needed
    except ImportError as error:
        raise MissingExtraError("storing trials in PostgreSQL", "postgres") from error


def _elsewhere(folder: Path, kept: str, url: str) -> StorageError:
    return StorageError(f"the trials of the search in {folder} are stored at {kept}, not at "
                        f"{without_password(url)}; give that URL, or choose another --out")
