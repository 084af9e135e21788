"""One reader of data references, for all that ask what they name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgewright.errors import DataError, UsageError
from edgewright.task import load_task, parse_data_ref


@pytest.mark.parametrize(("ref", "scheme", "place"), [
    ("digits", "digits", ""),
    ("cifar10", "cifar10", ""),
    ("cifar10:data", "cifar10", "data"),
    ("hf:mnist", "hf", "mnist"),
    ("hf:user/mnist:plain", "hf", "user/mnist:plain"),
    ("parquet:photos", "parquet", "photos"),
    ("imagefolder:photos", "imagefolder", "photos"),
    (r"imagefolder:C:\photos", "imagefolder", r"C:\photos"),
    ("imagefolder:json", "imagefolder", "json"),  # also the name of a module
    ("photos:make", "factory", "photos:make"),
    ("a/b.py:make", "factory", "a/b.py:make"),
    (r"C:\a\b.py:make", "factory", r"C:\a\b.py:make"),
])
def test_builtin_schemes_are_never_parsed_as_factories(ref: str, scheme: str, place: str) -> None:
    found = parse_data_ref(ref)
    assert found == (scheme, place)
    assert found.is_normalized_by_task == (scheme != "factory")


@pytest.mark.parametrize(("ref", "message"), [
    ("imagefolder:", "'imagefolder:' is not a data reference; expected .*; write imagefolder:DIR"),
    ("hf:", "write hf:NAME"),
    (r"C:\photos", "is not a data reference; expected digits"),
    ("", "'' is not a data reference"),
    ("photos:", "'photos:' is not a data reference"),
])
def test_invalid_references_raise_usage_error(ref: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_data_ref(ref)


def test_a_bare_folder_gets_a_hint(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"for a folder write imagefolder:.* or parquet:"):
        parse_data_ref(str(tmp_path))


def test_a_missing_folder_is_reported_even_if_a_module_has_its_name(tmp_path: Path,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos.py").write_text("raise SystemExit('run')")
    for scheme in ("imagefolder", "parquet", "cifar10"):
        with pytest.raises(DataError, match=r"folder .*photos does not exist \(working directory: "):
            load_task(f"{scheme}:photos")
    assert "photos" not in sys.modules
