"""Where trials are stored: SQLite beside the search, or a database that many searches share."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from torch import nn

import edgewright as ew
from edgewright.core import Figures, Measurement
from edgewright.errors import StorageError, UsageError
from edgewright.pipeline import Recipe
from edgewright.search._candidate import Proposal
from edgewright.search._prepare import open_store
from edgewright.search._storage import (
    StoreLocation,
    find_store,
    locate_store,
    open_storage,
    without_password,
)
from edgewright.search._store import TrialStore
from edgewright.search._trial import Trial
from edgewright.task import Task

PASSWORD = "s3cret/word"  # noqa: S105 - of a server that the test starts
QUOTED = "s3cret%2Fword"


def make_trial(name: str, proposal: Proposal | None = None) -> Trial:
    figures = Figures.of(Measurement(name="size_bytes", value=9.0, kind="measured"),
                         Measurement(name="latency_ms", value=1.0, kind="measured"))
    return Trial(name=name, recipe=Recipe(), proposal=proposal, figures=figures, score=0.5,
                 seconds=1.0)


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """URL of a PostgreSQL server of its own, on this machine, without a database's name."""
    pytest.importorskip("psycopg", reason="needs the extra postgres")
    initdb, control = shutil.which("initdb"), shutil.which("pg_ctl")
    if initdb is None or control is None:
        pytest.skip("needs PostgreSQL's initdb and pg_ctl on the PATH")
    user = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="edgewright-"))
    password = folder / "password"
    password.write_text(PASSWORD)
    if user is not None:
        for path in (folder, password):
            shutil.chown(path, user)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def call(*words: str) -> None:
        subprocess.run(words, check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, timeout=120)

    data = str(folder / "data")
    call(initdb, "-D", data, "-U", "ann", "-A", "scram-sha-256", f"--pwfile={password}", "-N")
    call(control, "-D", data, "-w", "-l", str(folder / "log"),
         "-o", f"-F -h 127.0.0.1 -p {port} -k ''", "start")
    yield f"postgresql://ann:{QUOTED}@127.0.0.1:{port}"
    call(control, "-D", data, "-m", "immediate", "stop")
    shutil.rmtree(folder)


@pytest.mark.parametrize(("url", "shown"), [
    ("sqlite:////runs/a.db", "sqlite:////runs/a.db"),
    ("postgresql://ann:s3cret%2Fword@db:5432/t", "postgresql://ann@db:5432/t"),
    ("postgresql://db/t?user=ann&password=s3cret", "postgresql://db/t?user=ann")])
def test_a_password_is_not_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown


@pytest.mark.parametrize("url", ["trials.db", "ann:s3cret@db/t", "postgresql://ann:s3cret@db:x/t"])
def test_what_is_no_url_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(UsageError, match="is not the URL of a database; expected") as raised:
        locate_store(tmp_path, url)
    assert "s3cret" not in str(raised.value)


def test_many_searches_share_one_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'all.db'}"
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        open_store(tmp_path / name, url, 0).add(make_trial(name))
    for name in ("a", "b"):
        assert open_store(tmp_path / name, None, 0).trials() == [make_trial(name)]
        assert open_store(tmp_path / name, url, 0).ask()[0] == 0
        found = TrialStore(find_store(tmp_path / name), seed=0)
        assert [trial.name for trial in found.trials()] == [name]


def test_a_search_stays_in_its_database(tmp_path: Path) -> None:
    first, second = (f"sqlite:///{tmp_path / name}" for name in ("first.db", "second.db"))
    for name in ("elsewhere", "here"):
        (tmp_path / name).mkdir()
    open_store(tmp_path / "elsewhere", first, 0)
    with pytest.raises(StorageError, match=r"are stored at sqlite:.*first\.db, not at .*second\.db"):
        open_store(tmp_path / "elsewhere", second, 0)
    open_store(tmp_path / "here", None, 0)
    with pytest.raises(StorageError, match=r"are stored at sqlite:.*search\.db, not at .*first\.db"):
        open_store(tmp_path / "here", first, 0)


def test_a_database_that_could_not_be_opened_is_not_remembered(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot open the storage of trials at sqlite:"):
        open_store(tmp_path, "sqlite:////nowhere/at/all.db", 0)
    assert list(tmp_path.iterdir()) == []


def test_a_locked_database_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgewright.search._storage._WAIT_S", 0.1)
    store = open_store(tmp_path, None, 0)
    with closing(sqlite3.connect(tmp_path / "search.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StorageError, match=r"cannot use the storage of trials at sqlite:.*"
                                               r"search\.db: database is locked; check that"):
            store.add(make_trial("a"))
        with pytest.raises(StorageError, match=r"cannot open the storage .*: database is locked"):
            open_store(tmp_path, None, 0)
    store.add(make_trial("a"))
    assert store.trials() == [make_trial("a")]


def test_a_database_without_its_driver_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"at oracle://ann@db/t: .*No module named") as raised:
        open_store(tmp_path, "oracle://ann:s3cret@db/t", 0)
    assert "s3cret" not in str(raised.value)


def test_a_store_that_cannot_be_reached_is_refused_before_any_work(
        trained_net: nn.Module, quadrant_task: Task, tmp_path: Path) -> None:
    pytest.importorskip("psycopg", reason="needs the extra postgres")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # nobody listens
        place = f"127.0.0.1:{unused.getsockname()[1]}/trials"
        with pytest.raises(StorageError) as raised:
            ew.compress(trained_net, quadrant_task, ew.Budget(size="60 %"), out=tmp_path / "run",
                        store=f"postgresql://ann:{QUOTED}@{place}", quiet=True)
    assert f"cannot open the storage of trials at postgresql://ann@{place}" in str(raised.value)
    assert "s3cret" not in str(raised.value)
    assert not (tmp_path / "run" / "trials").exists()


def test_trials_in_postgresql(postgres: str, tmp_path: Path) -> None:
    url = f"{postgres}/postgres"
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    store, other = (open_store(tmp_path / name, url, 0) for name in ("a", "b"))
    number, factors = store.ask()
    first = make_trial("00-1", Proposal(number=number, factors=factors))
    store.tell(first, first.score, excess=-0.1)
    store.seconds = 12.5
    store.record_failure("01-1", "it diverged")
    again = open_store(tmp_path / "a", url, 0)
    assert (again.trials(), again.first_trials(), again.seconds) == ([first], [first], 12.5)
    assert again.failures() == {"01-1": "it diverged"}
    assert other.trials() == []
    assert "s3cret" not in (tmp_path / "a" / "store.json").read_text()


def test_postgresql_that_refuses_is_named_without_the_password(postgres: str,
                                                               tmp_path: Path) -> None:
    wrong = f"{postgres.replace(QUOTED, 'guessed')}/postgres"
    with pytest.raises(StorageError, match="password authentication failed") as raised:
        open_store(tmp_path, wrong, 0)
    assert "guessed" not in str(raised.value)
    with pytest.raises(StorageError, match='database "nothing" does not exist'):
        open_store(tmp_path, f"{postgres}/nothing", 0)


def test_a_locked_table_of_postgresql_is_named(postgres: str, tmp_path: Path,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgewright.search._storage._WAIT_S", 1)
    url = f"{postgres}/postgres"
    store = open_store(tmp_path, url, 0)
    with open_storage(url).engine.connect() as other:
        other.exec_driver_sql("LOCK TABLE study_user_attributes IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(StorageError, match=r"cannot use the storage .*lock timeout"):
            store.add(make_trial("a"))
    store.add(make_trial("a"))
    assert TrialStore(StoreLocation(url, store.location.study), 0).trials() == [make_trial("a")]
