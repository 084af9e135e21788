"""Whatever happened to the file, reading it gives its content or says what is wrong."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgewright.bundle import read_bundle
from edgewright.core import FORMAT_VERSION
from edgewright.errors import BundleError

Members = dict[str, bytes]


def _members(path: Path) -> Members:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _forge(path: Path, members: Members, *, resealed: bool = True,
           compression: int = zipfile.ZIP_DEFLATED, padding: int = 0) -> None:
    """Write the members as a tamperer would who knows the format."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        digest = hashlib.sha256(members.get("manifest.json", b"")).hexdigest() if resealed else "0"
        archive.comment = b"edgewright sha256 " + digest.encode() + b" " * padding


def _edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    members = _members(path)
    fields = json.loads(members["manifest.json"])
    change(fields)
    size = next(m for m in fields["report"]["compressed"]["measurements"] if m["name"] == "size_bytes")
    size["value"] = 2 * path.stat().st_size + 1000
    members["manifest.json"] = json.dumps(fields).encode()
    _forge(path, members)
    _forge(path, members, padding=size["value"] - path.stat().st_size)


def _error(path: Path) -> str:
    with pytest.raises(BundleError) as caught:
        read_bundle(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@settings(max_examples=300, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_changed_byte_is_found_or_harmless(bundle_path: Path, where: Any, flip: Any) -> None:
    whole = bundle_path.read_bytes()
    before = read_bundle(bundle_path)
    damaged = bytearray(whole)
    damaged[int(where * len(whole))] ^= flip
    copy = bundle_path.with_name("damaged.edge")
    copy.write_bytes(damaged)
    try:
        after = read_bundle(copy)
    except BundleError:
        return
    assert after.manifest == before.manifest
    assert dict(after.segments) == dict(before.segments)


def test_a_truncated_bundle_is_refused_wherever_it_ends(bundle_path: Path) -> None:
    whole = bundle_path.read_bytes()
    cut = bundle_path.with_name("cut.edge")
    for size in [*range(0, len(whole), 37), len(whole) - 1]:
        cut.write_bytes(whole[:size])
        assert "cut" in _error(cut)


def test_bytes_before_or_after_are_refused(bundle_path: Path) -> None:
    whole = bundle_path.read_bytes()
    for data in (b"x" + whole, whole + b"x"):
        bundle_path.write_bytes(data)
        _error(bundle_path)


def test_missing_file(tmp_path: Path) -> None:
    assert "No such file or directory; check the path" in _error(tmp_path / "none.edge")


def test_folder_is_no_bundle(tmp_path: Path) -> None:
    assert "directory" in _error(tmp_path).lower()


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04" + bytes(100)])
def test_other_files_are_no_bundles(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "model.edge"
    path.write_bytes(content)
    assert "is not a bundle" in _error(path)


def test_zip_without_manifest(bundle_path: Path) -> None:
    members = _members(bundle_path)
    del members["manifest.json"]
    _forge(bundle_path, members)
    assert "contains no manifest.json" in _error(bundle_path)


def test_altered_manifest(bundle_path: Path) -> None:
    members = _members(bundle_path)
    members["manifest.json"] = members["manifest.json"].replace(b"0.9", b"0.8")
    _forge(bundle_path, members, resealed=False)
    assert "the manifest was altered" in _error(bundle_path)


def test_wrong_size_statement(bundle_path: Path) -> None:
    _forge(bundle_path, _members(bundle_path), padding=500)   # not its own
    assert re.search(r"is \d+ bytes, but its manifest states \d+", _error(bundle_path))


@pytest.mark.parametrize(("version", "remedy"), [
    (FORMAT_VERSION + 1, "pip install --upgrade edgewright"),
    (FORMAT_VERSION - 1, "create it again with edgewright compress"),
])
def test_another_format(bundle_path: Path, version: Any, remedy: str) -> None:
    _edit(bundle_path, lambda fields: fields.update(format_version=version, novelty={"a": 1}))
    message = _error(bundle_path)
    assert f"has bundle format {version}, but this version of edgewright reads only" in message
    assert remedy in message


def test_stored_bytes_are_what_the_members_take(bundle_path: Path) -> None:
    def change(fields: dict[str, Any]) -> None:
        fields["model"]["segments"][0]["stored_bytes"] = 17

    _edit(bundle_path, change)
    assert re.search(r"segments/0.onnx takes \d+ bytes, but its manifest states 17",
                     _error(bundle_path))


def test_reading_tells_how_long_unpacking_took(bundle_path: Path) -> None:
    bundle = read_bundle(bundle_path)
    assert bundle.unpacking_ms > 0
    assert bundle == read_bundle(bundle_path)


def _merge(fields: dict[str, Any], change: dict[str, Any]) -> None:
    for name, value in change.items():
        if isinstance(value, dict) and isinstance(fields.get(name), dict) and name != "budget":
            _merge(fields[name], value)
        else:
            fields[name] = value


@pytest.mark.parametrize(("change", "found"), [
    ({"model": {"segments": "none"}}, "model.segments"),
    ({"report": {"budget": {"size": "5 stones"}}}, "unknown unit"),
    ({"format_version": -1}, "format_version"), ({"stranger": 1}, "stranger"),
])
def test_manifest_with_other_fields(bundle_path: Path, change: dict[str, Any], found: str) -> None:
    _edit(bundle_path, lambda fields: _merge(fields, change))
    message = _error(bundle_path)
    assert "the manifest cannot be read" in message
    assert found in message


@pytest.mark.parametrize("text", [b"{", b"", b"\xff", b"[" * 100_000, b"[]", b"null"])
def test_manifest_that_is_no_record(bundle_path: Path, text: Any) -> None:
    _forge(bundle_path, {**_members(bundle_path), "manifest.json": text})
    assert "the manifest cannot be read" in _error(bundle_path)


def test_missing_segment(bundle_path: Path) -> None:
    def change(fields: dict[str, Any]) -> None:
        fields["model"]["segments"].append({**fields["model"]["segments"][0], "file": "segments/2.onnx"})

    _edit(bundle_path, change)
    assert ("contains the files [segments/0.onnx, segments/1.onnx], but its manifest lists "
            "[segments/0.onnx, segments/1.onnx, segments/2.onnx]") in _error(bundle_path)


def test_extra_file(bundle_path: Path) -> None:
    def change(fields: dict[str, Any]) -> None:
        fields["model"]["segments"].pop()

    _edit(bundle_path, change)
    assert "its manifest lists [segments/0.onnx]" in _error(bundle_path)


def test_same_segment_twice(bundle_path: Path) -> None:
    def change(fields: dict[str, Any]) -> None:
        fields["model"]["segments"][1] = fields["model"]["segments"][0]

    _edit(bundle_path, change)
    assert "was altered" in _error(bundle_path)


def test_altered_segment(bundle_path: Path) -> None:
    def change(fields: dict[str, Any]) -> None:
        fields["model"]["segments"][1]["sha256"] = "0" * 64

    _edit(bundle_path, change)
    assert "segments/1.onnx was altered" in _error(bundle_path)


@pytest.mark.parametrize("size", [-7, 0, 3])
def test_segment_that_unpacks_to_more_than_it_states(bundle_path: Path, size: int) -> None:
    def change(fields: dict[str, Any]) -> None:
        fields["model"]["segments"][0]["size_bytes"] = size

    _edit(bundle_path, change)
    assert "segments/0.onnx unpacks to more than" in _error(bundle_path)


def test_bundle_that_would_fill_the_memory(bundle_path: Path) -> None:
    def change(fields: dict[str, Any]) -> None:
        fields["model"]["segments"][0]["size_bytes"] = 1 << 40
        fields["model"]["segments"][1]["size_bytes"] = -(1 << 40)

    _edit(bundle_path, change)
    assert "expected at most 2147483648" in _error(bundle_path)


def test_other_compression(bundle_path: Path) -> None:
    _forge(bundle_path, _members(bundle_path), compression=zipfile.ZIP_BZIP2)
    assert "unknown compression" in _error(bundle_path)
