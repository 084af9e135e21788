"""The bundle: one file with the manifest, the model segments and their checksums."""

from edgewright.bundle._external_data import has_external_data
from edgewright.bundle._packing import low_bit_tensor
from edgewright.bundle._read import Bundle, read_bundle
from edgewright.bundle._write import write_bundle

__all__ = [
    "Bundle",
    "has_external_data",
    "low_bit_tensor",
    "read_bundle",
    "write_bundle",
]
