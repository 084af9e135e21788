"""What a data reference names: a source that is known by its scheme, or the user's own factory."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from edgewright.errors import UsageError
from edgewright.task._factory import is_factory

DATA_FORMS: Final = ("digits, cifar10, cifar10:DIR, hf:NAME, parquet:DIR, imagefolder:DIR, "
                     "file.py:factory or package.module:factory")
FACTORY: Final = "factory"
_ALONE: Final = frozenset({"digits", "cifar10"})
_WITH_PLACE: Final = {"cifar10": "DIR", "hf": "NAME", "parquet": "DIR", "imagefolder": "DIR"}


class DataRef(NamedTuple):
    """A data reference, read; a scheme that is known is never taken for the user's module.

    Attributes:
        scheme: ``digits``, ``cifar10``, ``hf``, ``parquet``, ``imagefolder`` or ``factory``.
        place: The folder, the dataset's name, or the whole reference of a factory; may be empty.
    """

    scheme: str
    place: str

    @property
    def is_normalized_by_task(self) -> bool:
        """Whether `load_task` normalises its images; a factory's Task holds inputs of its own."""
        return self.scheme != FACTORY


def parse_data_ref(ref: str) -> DataRef:
    """Read a data reference, without looking at what it names.

    Raises:
        UsageError: It is none.

    Example:
        >>> parse_data_ref("imagefolder:photos")
        DataRef(scheme='imagefolder', place='photos')
        >>> parse_data_ref("my_data:photos")
        DataRef(scheme='factory', place='my_data:photos')
    """
    scheme, separator, place = ref.partition(":")
    if ref in _ALONE:
        return DataRef(ref, "")
    if scheme in _WITH_PLACE and separator:
        if not place:
            raise _unknown(ref, f"; write {scheme}:{_WITH_PLACE[scheme]}")
        return DataRef(scheme, place)
    if is_factory(ref):
        return DataRef(FACTORY, ref)
    is_folder = bool(ref) and Path(ref).is_dir()
    raise _unknown(ref, f"; for a folder write imagefolder:{ref} or parquet:{ref}" * is_folder)


def _unknown(ref: str, hint: str) -> UsageError:
    return UsageError(f"{ref!r} is not a data reference; expected {DATA_FORMS}{hint}")
