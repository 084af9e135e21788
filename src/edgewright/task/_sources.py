"""Read image tables from parquet folders, image folders, and the Hugging Face Hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edgewright.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    import pyarrow as pa

_SPLIT: Final = re.compile(r"(?:^|[/_.-])(train|validation|valid|val|test)(?=[/_.-])")
_VALIDATION: Final = frozenset({"validation", "valid", "val"})


def read_parquet_tables(folder: Path) -> dict[str, pa.Table]:
    """Read the parquet files below a folder, by split ("train", "val", "test").

    A file belongs to the split named in its path: ``train-00000-of-00003.parquet``,
    ``data/test.parquet``, ``validation/0.parquet``.

    Raises:
        DataError: No such folder, no parquet file that names a split, or an unreadable file.
    """
    files: dict[str, list[Path]] = {}
    for path in sorted(_check_folder(folder).rglob("*.parquet")):
        split = _SPLIT.search(path.relative_to(folder).as_posix())
        if split is not None:
            files.setdefault(_split_name(split[1]), []).append(path)
    if not files:
        raise DataError(f"no parquet file of a split in {folder}; expected names such as "
                        "train-00000.parquet and test-00000.parquet")
    return {split: _read_parquet(paths) for split, paths in files.items()}


def list_image_folder_tables(folder: Path) -> dict[str, pa.Table]:
    """List the images below ``train/``, ``test/`` and ``val/``, one folder per class.

    Raises:
        DataError: No such folder, or no images in it.
    """
    return _load_dataset("imagefolder", f"image folder {_check_folder(folder)}",
                         data_dir=str(folder))


def load_hub_tables(name: str, config: str | None = None) -> dict[str, pa.Table]:
    """Download a dataset from the Hugging Face Hub, or load it from the cache.

    Raises:
        DataError: The hub cannot be reached, or has no such dataset.
    """
    return _load_dataset(name, f"dataset {name!r} of the Hugging Face hub", config=config)


def _load_dataset(name: str, what: str, *, config: str | None = None,
                  data_dir: str | None = None) -> dict[str, pa.Table]:
    try:
        import datasets  # noqa: PLC0415 - part of the extra, and slow to import
    except ModuleNotFoundError as error:
        raise MissingExtraError(what, "compress") from error
    try:
        loaded = datasets.load_dataset(name, config, data_dir=data_dir)
    except ConnectionError as error:
        raise DataError(f"cannot reach the hub for {what}: {error}. Without a network, download "
                        "it elsewhere and give its folder (parquet:DIR or imagefolder:DIR)"
                        ) from error
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        raise DataError(f"cannot read {what}: {error}") from error
    return {_split_name(split): _read_undecoded(data, datasets) for split, data in loaded.items()}


def _read_undecoded(data: Any, datasets: Any) -> pa.Table:
    for column, feature in data.features.items():
        if isinstance(feature, datasets.Image):
            data = data.cast_column(column, datasets.Image(decode=False))
    table: pa.Table = data.with_format("arrow")[:]
    return table.replace_schema_metadata(data.features.arrow_schema.metadata)


def _read_parquet(paths: list[Path]) -> pa.Table:
    try:
        import pyarrow as pa  # noqa: PLC0415 - part of the extra
        from pyarrow import parquet  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtraError("reading parquet", "compress") from error
    tables: list[pa.Table] = []
    for path in paths:
        try:
            tables.append(parquet.read_table(path))
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(f"{path} cannot be read as a parquet file: {error}") from error
        if tables[-1].schema != tables[0].schema:
            raise DataError(f"{path} has other columns than {paths[0]}: "
                            f"{_columns(tables[-1])} instead of {_columns(tables[0])}")
    return pa.concat_tables(tables)


def _columns(table: pa.Table) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in table.schema)


def _check_folder(path: Path) -> Path:
    if not path.is_dir():
        problem = "is a file, not a folder" if path.exists() else "does not exist"
        raise DataError(f"folder {path} {problem} (working directory: {Path.cwd()})")
    return path


def _split_name(name: str) -> str:
    return "val" if name in _VALIDATION else name
