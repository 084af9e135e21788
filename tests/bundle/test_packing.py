"""Packed integers come back as they were; a bundle that holds them checks every one."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgewright.bundle import _archive, _lzma, describe_low_bits, read_bundle, write_bundle
from edgewright.bundle._packing import cut, join
from edgewright.core import LowBitTensor, Manifest
from edgewright.errors import BundleError, UsageError

NAME = "segments/0.onnx"
HEAD, TAIL = b"a model's head", bytes(range(200))


def integers(bits: int, count: int, seed: int = 0) -> bytes:
    """Weights, bell-shaped, of so many bits."""
    generator = np.random.default_rng(seed)
    if bits == 1:
        return generator.choice([-1, 1], count).astype(np.int8).tobytes()
    high = (1 << (bits - 1)) - 1
    return generator.normal(0, high / 2, count).round().clip(-high - 1, high).astype(np.int8).tobytes()


def slowly_packed(data: bytes, tensor: LowBitTensor) -> bytes:
    """One integer at a time."""
    codes = bytearray(tensor.packed_bytes)
    per_byte = 8 // tensor.bits
    for index, byte in enumerate(data[tensor.offset:tensor.offset + tensor.count]):
        value = byte - 256 if byte > 127 else byte
        digit = (value - tensor.low) // tensor.step
        codes[index // per_byte] += digit << (tensor.bits * (index % per_byte))
    return bytes(codes)


@st.composite
def files(draw: Any) -> tuple[Any, ...]:
    """A file with stretches of few bits in it, and where they are."""
    data, tensors = b"", []
    for _ in range(draw(st.integers(0, 4))):
        data += draw(st.binary(max_size=9))
        bits = draw(st.integers(1, 4))
        step = draw(st.integers(1, 255 // ((1 << bits) - 1)))
        low = draw(st.integers(-128, 127 - step * ((1 << bits) - 1)))
        digits = draw(st.lists(st.integers(0, (1 << bits) - 1), min_size=1, max_size=40))
        tensors.append(LowBitTensor(offset=len(data), count=len(digits), bits=bits, low=low, step=step))
        data += bytes((low + step * digit) % 256 for digit in digits)
    return data + draw(st.binary(max_size=9)), tensors


@given(files())
def test_what_is_cut_joins_to_the_same_bytes(file: Any) -> None:
    data, tensors = file
    rest, packed = cut(data, tensors)
    assert join(rest, packed, tensors) == data
    assert packed == b"".join(slowly_packed(data, tensor) for tensor in tensors)
    assert len(rest) == len(data) - sum(tensor.count for tensor in tensors)


@given(st.lists(st.integers(-128, 127), min_size=1, max_size=50), st.binary(max_size=5))
def test_a_description_holds_for_its_bytes_or_needs_more_bits(values: Any, head: Any) -> None:
    data = head + np.array(values, dtype=np.int8).tobytes()
    tensor = describe_low_bits(data, len(head), len(values))
    if tensor is None:
        assert max(values) - min(values) > 15
        assert len(set(values)) > 2
    else:
        rest, packed = cut(data, [tensor])
        assert rest == head
        assert join(rest, packed, [tensor]) == data
        assert 2 ** tensor.bits >= len(set(values))


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_the_range_tells_the_bits(bits: int) -> None:
    data = integers(bits, 4000)
    tensor = describe_low_bits(data, 0, len(data))
    assert tensor is not None
    assert (tensor.bits, tensor.step) == (bits, 2 if bits == 1 else 1)
    assert tensor.packed_bytes == 4000 * {1: 1, 2: 2, 3: 4, 4: 4}[bits] // 8


@pytest.mark.parametrize(("places", "words"), [
    ([(0, 5), (4, 3)], "the packed range at byte 4 overlaps the previous one, which ends at byte 5"),
    ([(4, 3), (0, 2)], "the packed range at byte 0 overlaps the previous"),
    ([(6, 5)], "the packed range at byte 6 ends at byte 11, beyond the file's 10"),
    ([(1 << 60, 1)], "beyond the file's 10"), ([(0, 1 << 60)], "beyond the file's 10"),
])
def test_places_that_no_file_has_are_refused(places: list[tuple[int, ...]], words: str) -> None:
    tensors = [LowBitTensor(offset=offset, count=count, bits=1, low=0) for offset, count in places]
    with pytest.raises(ValueError, match=words):
        cut(bytes(10), tensors)


def test_packed_integers_must_be_as_many_as_stated() -> None:
    with pytest.raises(ValueError, match="bytes of packed integers, expected"):
        join(b"ab", b"", [LowBitTensor(offset=1, count=4, bits=1, low=0)])


@pytest.fixture
def low_bit_path(tmp_path: Path, make_manifest: Callable[..., Manifest]) -> Any:
    return write(tmp_path / "low.edge", make_manifest, HEAD + integers(4, 3000) + TAIL)[0]


def write(path: Path, make_manifest: Any, data: Any, count: int = 3000) -> tuple[Any, ...]:
    manifest = make_manifest((NAME,))
    places = tuple(found for found in [describe_low_bits(data, len(HEAD), count)] if found)
    segment = manifest.model.segments[0].replace(low_bit=places)
    manifest = manifest.with_model(segments=(segment,))
    return path, write_bundle(path, manifest, {NAME: data})


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_a_bundle_stores_low_bits_small_and_gives_back_the_file(tmp_path: Path,
                                                                make_manifest: Callable[..., Manifest],
                                                                bits: int) -> None:
    data = HEAD + integers(bits, 30_000) + TAIL
    path, written = write(tmp_path / "a.edge", make_manifest, data, 30_000)
    bundle = read_bundle(path)
    assert bundle.segments[NAME] == data
    assert bundle.manifest == written
    segment = written.model.segments[0]
    assert (segment.size_bytes, segment.low_bit[0].bits) == (len(data), bits)
    assert segment.stored_bytes < len(HEAD + TAIL) + 100 + 30_000 * bits / 8
    with zipfile.ZipFile(path) as archive:
        sizes = {info.filename: info.compress_size for info in archive.infolist()}
    assert list(sizes) == ["manifest.json", NAME, f"{NAME}.packed"]
    assert sum(sizes.values()) - sizes["manifest.json"] == segment.stored_bytes
    assert written.report.compressed["size_bytes"] == path.stat().st_size


def test_writing_again_gives_equal_bytes(low_bit_path: Any) -> None:
    bundle = read_bundle(low_bit_path)
    again = low_bit_path.with_name("again.edge")
    assert write_bundle(again, bundle.manifest, bundle.segments) == bundle.manifest
    assert again.read_bytes() == low_bit_path.read_bytes()


def test_what_is_no_smaller_packed_stays_whole(tmp_path: Path,
                                               make_manifest: Callable[..., Manifest]) -> None:
    data = HEAD + bytes(3000) + TAIL
    path, written = write(tmp_path / "zeros.edge", make_manifest, data)
    assert written.model.segments[0].low_bit == ()
    assert read_bundle(path).segments[NAME] == data


def test_without_lzma_deflate_packs_them(tmp_path: Path, make_manifest: Callable[..., Manifest],
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lzma, "AVAILABLE", False)
    data = HEAD + integers(3, 30_000) + TAIL
    path, written = write(tmp_path / "a.edge", make_manifest, data, 30_000)
    with zipfile.ZipFile(path) as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_DEFLATED}
    assert read_bundle(path).segments[NAME] == data
    assert written.model.segments[0].stored_bytes < 30_000 * 3 / 8


@pytest.mark.parametrize(("change", "words"), [
    ({"low": -7}, "holds integers that are not of 4 bits from -7 in steps of 1"),
    ({"step": 2}, "holds integers that are not of"), ({"offset": 10_000}, "beyond the file's"),
])
def test_a_description_of_another_file_is_refused(low_bit_path: Any, change: dict[str, Any],
                                                  words: str) -> None:
    bundle = read_bundle(low_bit_path)
    segment = bundle.manifest.model.segments[0]
    places = (segment.low_bit[0].replace(**change),)
    segments = (segment.replace(low_bit=places),)
    manifest = bundle.manifest.with_model(segments=segments)
    with pytest.raises(UsageError, match=f"{NAME} cannot be packed: .*{words}"):
        write_bundle(low_bit_path, manifest, bundle.segments)


def test_no_segment_may_be_named_as_anothers_packed_integers(tmp_path: Path,
                                                             make_manifest: Callable[..., Manifest]) -> None:
    names = (NAME, f"{NAME}.packed")
    data = integers(2, 3000)
    manifest = make_manifest(names)
    first = manifest.model.segments[0].replace(low_bit=(describe_low_bits(data, 0, 3000),))
    manifest = manifest.with_model(segments=(first, manifest.model.segments[1]))
    with pytest.raises(UsageError, match=r"use a name that does not end in \.packed"):
        write_bundle(tmp_path / "a.edge", manifest, {NAME: data, names[1]: b"x"})


def forge(path: Path, change_fields: Any,
          change_members: Callable[..., Any] = lambda members: None) -> None:
    """Rewrite a bundle as a tamperer would who knows the format: sealed, of the stated size."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: _archive.Member(archive.read(info), info.compress_type)
                   for info in archive.infolist()}
    fields = json.loads(members[_archive.MANIFEST].data)
    change_fields(fields["model"]["segments"][0])
    change_members(members)
    size = next(m for m in fields["report"]["compressed"]["measurements"] if m["name"] == "size_bytes")
    size["value"] = 2 * path.stat().st_size + 1000
    text = json.dumps(fields).encode()
    members[_archive.MANIFEST] = _archive.Member(text)
    data = _archive.pack(members, _archive.seal(text))
    padding = size["value"] - len(data)
    path.write_bytes(_archive.pack(members, _archive.seal(text) + b" " * padding))


def error(path: Path) -> Any:
    with pytest.raises(BundleError) as caught:
        read_bundle(path)
    return str(caught.value)


@pytest.mark.parametrize(("change", "words"), [
    ({"offset": 1 << 62}, "ends at byte"), ({"count": 1 << 62}, "ends at byte"),
    ({"offset": -1}, "model.segments.0.low_bit.0.offset"), ({"count": 0}, "model.segments.0.low_bit.0.count"),
    ({"bits": 7}, "model.segments.0.low_bit.0.bits"), ({"low": 500}, "model.segments.0.low_bit.0.low"),
    ({"count": 2999}, "its parts are 214 and 1500 bytes, expected 215 and 1500"),
    ({"count": 2000}, "unpacks to more than its 1000"), ({"count": 3002}, "unpacks to more than its 212"),
    ({"bits": 2}, "unpacks to more than its 750"),
    ({"bits": 1, "count": 3100}, "unpacks to"),
    ({"offset": 13}, "was altered"), ({"low": -7}, "its sha256 differs"),
    ({"step": 3}, "its sha256 differs"),
])
def test_a_forged_description_is_refused(low_bit_path: Any, change: dict[str, Any],
                                         words: str) -> None:
    forge(low_bit_path, lambda segment: segment["low_bit"][0].update(change))
    message = error(low_bit_path)
    assert words in message
    assert "0.low_bit" in message or NAME in message


def test_overlapping_stretches_are_refused(low_bit_path: Any) -> None:
    forge(low_bit_path, lambda segment: segment["low_bit"].append(segment["low_bit"][0]))
    assert f"{NAME} cannot be reassembled: the packed range at byte 14 overlaps the previous" in error(low_bit_path)


def test_a_missing_packed_member_is_named(low_bit_path: Any) -> None:
    forge(low_bit_path, lambda segment: None, lambda members: members.pop(f"{NAME}.packed"))
    assert f"its manifest lists [{NAME}, {NAME}.packed]" in error(low_bit_path)


def test_a_packed_member_that_nobody_lists_is_refused(low_bit_path: Any) -> None:
    forge(low_bit_path, lambda segment: segment.update(low_bit=[]))
    assert f"its manifest lists [{NAME}]" in error(low_bit_path)


@pytest.mark.parametrize(("length", "words"), [
    (0, "its parts are 214 and 0 bytes, expected 214 and 1500"),
    (1499, "its parts are 214 and 1499 bytes"), (1501, "unpacks to more than its 1500 bytes"),
    (1 << 24, "unpacks to more than its 1500 bytes"),
])
def test_packed_integers_of_another_length_are_refused(low_bit_path: Any, length: int,
                                                       words: str) -> None:
    bomb = _archive.Member(bytes(length), zipfile.ZIP_LZMA)
    forge(low_bit_path, lambda segment: None, lambda members: members.update({f"{NAME}.packed": bomb}))
    message = error(low_bit_path)
    assert words in message
    assert NAME in message


@settings(deadline=None, max_examples=60,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 63))
def test_a_damaged_integer_is_found(tmp_path: Path, make_manifest: Callable[..., Manifest],
                                    place: Any, flip: Any) -> None:
    path, _ = write(tmp_path / "a.edge", make_manifest, HEAD + integers(3, 3000) + TAIL)

    def damage(members: Any) -> None:
        codes = bytearray(members[f"{NAME}.packed"].data)
        codes[int(place * len(codes))] ^= flip  # a byte holds two of 3 bits
        members[f"{NAME}.packed"] = _archive.Member(bytes(codes), zipfile.ZIP_LZMA)

    forge(path, lambda segment: None, damage)
    assert f"{NAME} was altered" in error(path)


def test_wherever_a_low_bit_bundle_is_damaged_it_is_found(low_bit_path: Any) -> None:
    whole, before = low_bit_path.read_bytes(), read_bundle(low_bit_path)
    for place in range(0, len(whole), len(whole) // 60):
        data = bytearray(whole)
        data[place] ^= 0x55
        low_bit_path.write_bytes(data)
        try:
            found = read_bundle(low_bit_path)
        except BundleError:
            continue
        assert found == before
