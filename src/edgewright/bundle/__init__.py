"""The bundle: one file with the manifest, the model segments and their checksums."""

from edgewright.bundle._external_data import has_external_data
from edgewright.bundle._packing import describe_low_bits
from edgewright.bundle._read import Bundle, read_bundle
from edgewright.bundle._write import write_bundle

__all__ = [
    "Bundle",
    "describe_low_bits",
    "has_external_data",
    "read_bundle",
    "write_bundle",
]
