"""Sparse segments are packed with LZMA; what a member may ask of its decoder is bounded."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.bundle import _lzma, read_bundle, write_bundle
from edgewright.core import Manifest
from edgewright.errors import BundleError

NAME = "segments/0.onnx"


def int8_weights(share_of_zeros: float) -> bytes:
    generator = np.random.default_rng(0)
    values = generator.normal(0, 30, 60_000).round().clip(-127, 127).astype(np.int8)
    values[generator.random(len(values)) < share_of_zeros] = 0
    return values.tobytes()


@pytest.fixture
def sparse_path(tmp_path: Path, make_manifest: Callable[..., Manifest]) -> Any:
    path = tmp_path / "sparse.edge"
    write_bundle(path, make_manifest((NAME,)), {NAME: int8_weights(0.8)})
    return path


def packing(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        return {info.filename: info.compress_type for info in archive.infolist()}


@pytest.mark.parametrize(("zeros", "want"), [(0.0, zipfile.ZIP_DEFLATED), (0.1, zipfile.ZIP_DEFLATED),
                                             (0.5, zipfile.ZIP_LZMA), (0.9, zipfile.ZIP_LZMA)])
def test_segments_of_many_zeros_are_packed_with_lzma(tmp_path: Path,
                                                     make_manifest: Callable[..., Manifest],
                                                     zeros: float, want: Any) -> None:
    path, data = tmp_path / "a.edge", int8_weights(zeros)
    written = write_bundle(path, make_manifest((NAME,)), {NAME: data})
    assert packing(path) == {"manifest.json": zipfile.ZIP_DEFLATED, NAME: want}
    bundle = read_bundle(path)
    assert bundle.segments[NAME] == data
    assert bundle.manifest == written
    assert written.report.compressed["size_bytes"] == path.stat().st_size


def test_more_zeros_are_fewer_bytes(tmp_path: Path, make_manifest: Callable[..., Manifest]) -> None:
    sizes = []
    for zeros in (0.0, 0.5, 0.8, 0.9):
        path = tmp_path / f"{zeros}.edge"
        write_bundle(path, make_manifest((NAME,)), {NAME: int8_weights(zeros)})
        sizes.append(path.stat().st_size)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[2] < 0.4 * sizes[0]
    assert sizes[3] < 0.25 * sizes[0]


def test_equal_content_gives_equal_bytes(sparse_path: Any, tmp_path: Path,
                                         make_manifest: Callable[..., Manifest]) -> None:
    again = tmp_path / "again.edge"
    write_bundle(again, make_manifest((NAME,)), {NAME: int8_weights(0.8)})
    assert again.read_bytes() == sparse_path.read_bytes()


def test_a_member_that_asks_for_too_much_memory_is_refused(sparse_path: Any) -> None:
    with zipfile.ZipFile(sparse_path) as archive:
        info = archive.getinfo(NAME)
        assert _lzma.read_dictionary_bytes(archive, info) <= _lzma.MAX_DICTIONARY_BYTES
        offset = info.header_offset + 30 + len(NAME) + 5
    data = bytearray(sparse_path.read_bytes())
    data[offset:offset + 4] = (0xFFFFFFFF).to_bytes(4, "little")
    sparse_path.write_bytes(data)
    with pytest.raises(BundleError, match=r"cannot be unpacked \(decompressing it would need too much memory"):
        read_bundle(sparse_path)


def test_a_python_without_lzma_says_so(sparse_path: Any, tmp_path: Path,
                                       make_manifest: Callable[..., Manifest],
                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lzma, "AVAILABLE", False)
    with pytest.raises(BundleError, match="compressed with LZMA, which this Python was built without"):
        read_bundle(sparse_path)
    other = tmp_path / "other.edge"
    write_bundle(other, make_manifest((NAME,)), {NAME: int8_weights(0.8)})
    assert packing(other)[NAME] == zipfile.ZIP_DEFLATED
    assert read_bundle(other).segments


def test_wherever_a_sparse_bundle_is_damaged_it_is_found(sparse_path: Any) -> None:
    whole = sparse_path.read_bytes()
    for place in range(0, len(whole), len(whole) // 40):
        data = bytearray(whole)
        data[place] ^= 0x55
        sparse_path.write_bytes(data)
        try:
            found = read_bundle(sparse_path).segments[NAME]
        except BundleError:
            continue
        assert found == int8_weights(0.8)
