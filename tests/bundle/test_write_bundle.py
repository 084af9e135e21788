"""The file says its own size, is the same for the same content, and appears whole or not."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgewright.bundle import read_bundle, write_bundle
from edgewright.core import Breach, Budget, Figures, Manifest, Measurement, RunReport
from edgewright.errors import StorageError, UsageError


def test_bundle_round_trips(tmp_path: Path, make_manifest: Callable[..., Manifest],
                            segments: dict[str, bytes]) -> None:
    path = tmp_path / "model.edge"
    written = write_bundle(path, make_manifest(), segments)
    bundle = read_bundle(path)
    assert bundle.path == path
    assert bundle.manifest == written
    assert dict(bundle.segments) == segments
    assert list(bundle.segments) == [segment.file for segment in written.model.segments]
    for segment in written.model.segments:
        data = segments[segment.file]
        assert segment.sha256 == hashlib.sha256(data).hexdigest()
        assert segment.size_bytes == len(data)


def test_bundle_states_its_own_size(bundle_path: Path) -> None:
    size = read_bundle(bundle_path).manifest.report.compressed.find("size_bytes")
    assert size is not None
    assert (size.value, size.kind, size.runtime) == (bundle_path.stat().st_size, "measured", None)


def test_other_figures_are_kept(bundle_path: Path) -> None:
    assert read_bundle(bundle_path).manifest.report.compressed["accuracy"] == 0.9


@settings(max_examples=40, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(model=st.text(max_size=200), data=st.binary(max_size=2000))
def test_stated_size_is_exact_whatever_the_content(tmp_path: Path,
                                                   make_manifest: Callable[..., Manifest],
                                                   model: Any, data: Any) -> None:
    path = tmp_path / "any.edge"
    manifest = make_manifest(names=("s/0.onnx",), name=model)
    written = write_bundle(path, manifest, {"s/0.onnx": data})
    assert written.report.compressed["size_bytes"] == path.stat().st_size
    assert read_bundle(path).manifest.model.name == model


def test_equal_content_gives_equal_bytes(tmp_path: Path, make_manifest: Callable[..., Manifest],
                                         segments: dict[str, bytes]) -> None:
    write_bundle(tmp_path / "a.edge", make_manifest(), segments)
    backwards = dict(reversed(segments.items()))
    write_bundle(tmp_path / "b.edge", make_manifest(), backwards)
    assert (tmp_path / "a.edge").read_bytes() == (tmp_path / "b.edge").read_bytes()


def test_any_zip_reader_opens_it_and_finds_fixed_metadata(bundle_path: Path) -> None:
    with zipfile.ZipFile(bundle_path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["manifest.json", "segments/0.onnx", "segments/1.onnx"]
        for info in archive.infolist():
            assert info.date_time == (1980, 1, 1, 0, 0, 0)
            assert info.external_attr >> 16 == 0o100644
            assert info.compress_type in {zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA}


def test_rewriting_a_bundle_that_was_read_changes_nothing(bundle_path: Path,
                                                          tmp_path: Path) -> None:
    bundle = read_bundle(bundle_path)
    assert write_bundle(tmp_path / "copy.edge", bundle.manifest, bundle.segments) == bundle.manifest
    assert (tmp_path / "copy.edge").read_bytes() == bundle_path.read_bytes()


def _with_breaches(manifest: Manifest) -> Manifest:
    breaches = manifest.report.budget.breaches(manifest.report.compressed, Figures())
    return manifest.with_report(breaches=breaches)


def test_a_breach_without_a_figure_can_be_stored(tmp_path: Path,
                                                 make_manifest: Callable[..., Manifest],
                                                 segments: dict[str, bytes]) -> None:
    breach = Breach(constraint="latency", figure="latency_ms", value=None, limit=2.0)
    path = tmp_path / "model.edge"
    write_bundle(path, make_manifest(breaches=(breach,)), segments)
    assert read_bundle(path).manifest.report.breaches == (breach,)


def test_finish_sees_the_final_size_for_every_limit_near_it(tmp_path: Path,
                                                            make_manifest: Callable[..., Manifest],
                                                            segments: dict[str, bytes]) -> None:
    path = tmp_path / "model.edge"
    around = int(write_bundle(path, make_manifest(), segments).report.compressed["size_bytes"])
    verdicts = set()
    for limit in range(around - 20, around + 100):
        manifest = make_manifest(budget=Budget(size=limit))
        written = write_bundle(path, manifest, segments, finish=_with_breaches)
        size = path.stat().st_size
        assert written.report.compressed["size_bytes"] == size
        assert bool(written.report.breaches) == (size > limit)
        assert read_bundle(path).manifest == written
        verdicts.add(bool(written.report.breaches))
    assert verdicts == {True, False}


def test_finish_that_shrinks_the_manifest_is_padded_to_the_exact_size(tmp_path: Path, make_manifest: Callable[..., Manifest],
                                                                      segments: dict[str, bytes]) -> Any:
    def finish(manifest: Manifest) -> Manifest:
        notes = () if manifest.report.compressed["size_bytes"] > 1000 else ("x" * 5000 + "y",)
        return manifest.with_report(uncounted=notes)

    path = tmp_path / "model.edge"
    written = write_bundle(path, make_manifest(), segments, finish=finish)
    assert written.report.compressed["size_bytes"] == path.stat().st_size == os.path.getsize(path)


def test_finish_that_never_settles_is_refused(tmp_path: Path,
                                              make_manifest: Callable[..., Manifest],
                                              segments: dict[str, bytes]) -> Any:
    calls: list[int] = []

    def finish(manifest: Manifest) -> Manifest:
        calls.append(0)
        noise = random.Random(0).randbytes(100 * len(calls)).hex()  # noqa: S311
        return manifest.with_report(uncounted=(noise,))

    with pytest.raises(UsageError, match="size does not converge"):
        write_bundle(tmp_path / "model.edge", make_manifest(), segments, finish=finish)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", [{}, {"segments/0.onnx": b""}, {"other": b""}])
def test_segments_must_match_the_manifest(tmp_path: Path, make_manifest: Callable[..., Manifest],
                                          given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="give each listed file once and no other"):
        write_bundle(tmp_path / "model.edge", make_manifest(), given)


@pytest.mark.parametrize("name", ["../evil", "/etc/x", "a//b", "a\\b", "manifest.json", "", ".x"])
def test_segment_names_are_plain_relative_paths(tmp_path: Path,
                                                make_manifest: Callable[..., Manifest],
                                                name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a segment"):
        write_bundle(tmp_path / "model.edge", make_manifest(names=(name,)), {name: b""})


def test_manifest_without_segments_is_refused(tmp_path: Path,
                                              make_manifest: Callable[..., Manifest]) -> None:
    with pytest.raises(UsageError, match="lists no segment"):
        write_bundle(tmp_path / "model.edge", make_manifest(names=()), {})


def test_manifest_that_would_not_read_back_is_refused(tmp_path: Path,
                                                      make_manifest: Callable[..., Manifest],
                                                      segments: dict[str, bytes]) -> None:
    whole = make_manifest()
    report = RunReport.model_construct(**dict(whole.report) | {"machine": None})
    incomplete = Manifest.model_construct(**dict(whole) | {"report": report})
    with pytest.raises(UsageError, match=r"the manifest cannot be stored: report\.machine: Field required"):
        write_bundle(tmp_path / "model.edge", incomplete, segments)
    unknown = Measurement(name="macs", value=float("nan"), kind="modelled")
    with pytest.raises(UsageError, match=r"cannot be stored: report.original.measurements.0.value: "):
        write_bundle(tmp_path / "model.edge", make_manifest(original=Figures.of(unknown)), segments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("where", "reason"), [
    ("missing/model.edge", "No such file"), ("taken/model.edge", "Not a directory"), ("folder", ""),
])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path,
                                                 make_manifest: Callable[..., Manifest],
                                                 segments: dict[str, bytes], where: str,
                                                 reason: str) -> None:
    (tmp_path / "taken").write_text("a file")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match=f"cannot write .*{where}: {reason}"):
        write_bundle(tmp_path / where, make_manifest(), segments)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "taken"]


_ON_A_FULL_DISK = """
import resource, signal, sys
from edgewright.bundle import read_bundle, write_bundle
from edgewright.errors import StorageError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
bundle = read_bundle(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
for path in sys.argv[1:]:
    try:
        write_bundle(path, bundle.manifest.with_report(seed=1), bundle.segments)
    except StorageError as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on file sizes")
def test_full_disk_leaves_nothing_behind_and_the_old_bundle_whole(bundle_path: Path) -> None:
    before = bundle_path.read_bytes()
    new = bundle_path.with_name("new.edge")
    done = subprocess.run([sys.executable, "-c", _ON_A_FULL_DISK, bundle_path, new],
                          capture_output=True, text=True, check=True)
    messages = done.stdout.splitlines()
    assert len(messages) == 2, done.stderr
    for message, path in zip(messages, (bundle_path, new), strict=True):
        assert message.startswith(f"cannot write {path}: File too large; free ")
    assert list(bundle_path.parent.iterdir()) == [bundle_path]
    assert bundle_path.read_bytes() == before


def test_interrupted_write_leaves_nothing_behind(tmp_path: Path,
                                                 make_manifest: Callable[..., Manifest],
                                                 segments: dict[str, bytes],
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_bundle(tmp_path / "model.edge", make_manifest(), segments)
    assert list(Path(tmp_path).iterdir()) == []
