"""Find the image and label columns of a table by type, and read them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from edgewright.errors import DataError
from edgewright.task._encoded_images import EncodedImage

if TYPE_CHECKING:
    import pyarrow as pa


class ImageTable(NamedTuple):
    """Encoded images, their labels (N,) int64, and the class names if the table has them."""

    files: list[EncodedImage]
    labels: Tensor
    classes: tuple[str, ...] | None


def read_image_table(table: pa.Table, where: str) -> ImageTable:
    """Find the image and the label column by type, and read them.

    An image column holds bytes, or structs of bytes and path (the Hugging Face layout); a label
    column holds integers. If there are several integer columns, the one that the metadata marks as
    ClassLabel is used, or else the one named "label".

    Args:
        table: An Arrow table, with or without Hugging Face metadata.
        where: Name of the table in error messages.

    Raises:
        DataError: No such column, or several; the message lists the columns found.
    """
    features = _features(table)
    images = [f.name for f in table.schema if _is_image(f.type)]
    image = _find_only_column(images, "image", table, where)
    integers = [f.name for f in table.schema if _is_integer(f.type)]
    marked = [name for name in integers
              if features.get(name, {}).get("_type") == "ClassLabel"]
    if len(marked) != 1 and "label" in integers:
        marked = ["label"]
    label = _find_only_column(marked or integers, "label", table, where)
    labels = table.column(label)
    if labels.null_count:
        raise DataError(f"{where}: column {label!r} holds {labels.null_count} empty labels")
    names = features.get(label, {}).get("names")
    files = [_as_encoded_image(value, f"{where}: row {row}, column {image!r}")
             for row, value in enumerate(table.column(image).to_pylist())]
    return ImageTable(files, torch.tensor(labels.to_pylist(), dtype=torch.long),
                      tuple(names) if names else None)


def _features(table: pa.Table) -> dict[str, dict[str, Any]]:
    metadata = (table.schema.metadata or {}).get(b"huggingface")
    if metadata is None:
        return {}
    try:
        features = json.loads(metadata)["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}  # another tool's metadata: rely on the column types
    return {name: kind for name, kind in features.items() if isinstance(kind, dict)}


def _is_image(kind: pa.DataType) -> bool:
    from pyarrow import types  # noqa: PLC0415 - part of the extra

    if types.is_struct(kind):
        return {"bytes", "path"} <= {kind.field(i).name for i in range(kind.num_fields)}
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _is_integer(kind: pa.DataType) -> bool:
    from pyarrow import types  # noqa: PLC0415 - part of the extra

    return bool(types.is_integer(kind))


def _find_only_column(names: list[str], what: str, table: pa.Table, where: str) -> str:
    if len(names) == 1:
        return names[0]
    found = ", ".join(f"{field.name} ({field.type})" for field in table.schema)
    count = f"{len(names)} columns" if names else "no column"
    raise DataError(f"{where}: {count} could be the {what}; expected one column of image bytes "
                    f"and one of integer labels, found: {found}")


def _as_encoded_image(value: Any, where: str) -> EncodedImage:
    if isinstance(value, bytes):
        return EncodedImage(value, None)
    if isinstance(value, dict) and (value["bytes"] is not None or value["path"]):
        return EncodedImage(value["bytes"], value["path"])
    raise DataError(f"{where} is empty")
