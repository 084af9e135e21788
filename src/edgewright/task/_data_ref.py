"""Parse data references: a built-in source given by its scheme, or a user's factory."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from edgewright.errors import UsageError
from edgewright.task._factory import is_factory

DATA_FORMS: Final = ("digits, cifar10, cifar10:DIR, hf:NAME, parquet:DIR, imagefolder:DIR, "
                     "file.py:factory or package.module:factory")
FACTORY: Final = "factory"
_SCHEMES_WITHOUT_LOCATION: Final = frozenset({"digits", "cifar10"})
_SCHEMES_WITH_LOCATION: Final = {
    "cifar10": "DIR", "hf": "NAME", "parquet": "DIR", "imagefolder": "DIR"}


class DataRef(NamedTuple):
    """A parsed data reference. A built-in scheme takes precedence over a module of that name.

    Attributes:
        scheme: ``digits``, ``cifar10``, ``hf``, ``parquet``, ``imagefolder`` or ``factory``.
        location: The folder, the dataset's name, or a factory's whole reference; may be empty.
    """

    scheme: str
    location: str

    @property
    def is_normalized_by_task(self) -> bool:
        """Whether `load_task` normalizes the images; a factory's Task provides its own inputs."""
        return self.scheme != FACTORY


def parse_data_ref(ref: str) -> DataRef:
    """Parse a data reference without accessing the data.

    Raises:
        UsageError: It is not a valid reference.

    Example:
        >>> parse_data_ref("imagefolder:photos")
        DataRef(scheme='imagefolder', location='photos')
        >>> parse_data_ref("my_data:photos")
        DataRef(scheme='factory', location='my_data:photos')
    """
    scheme, separator, location = ref.partition(":")
    if ref in _SCHEMES_WITHOUT_LOCATION:
        return DataRef(ref, "")
    if scheme in _SCHEMES_WITH_LOCATION and separator:
        if not location:
            raise _unknown(ref, f"; write {scheme}:{_SCHEMES_WITH_LOCATION[scheme]}")
        return DataRef(scheme, location)
    if is_factory(ref):
        return DataRef(FACTORY, ref)
    is_folder = bool(ref) and Path(ref).is_dir()
    raise _unknown(ref, f"; for a folder write imagefolder:{ref} or parquet:{ref}" * is_folder)


def _unknown(ref: str, hint: str) -> UsageError:
    return UsageError(f"{ref!r} is not a data reference; expected {DATA_FORMS}{hint}")
