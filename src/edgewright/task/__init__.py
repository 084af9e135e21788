"""Model and data references, and the Task they make."""

from edgewright.task._audio_split import AudioSplit
from edgewright.task._data_ref import DataRef, parse_data_ref
from edgewright.task._dataset_split import DatasetSplit
from edgewright.task._factory import user_modules
from edgewright.task._image_split import Images, ImageSplit
from edgewright.task._load_model import load_model
from edgewright.task._load_task import load_task
from edgewright.task._split import Batch, Split
from edgewright.task._targets import map_targets, select_rows
from edgewright.task._task import SplitLike, Task
from edgewright.task._temporary_seed import temporary_seed
from edgewright.task._tensor_split import TensorSplit
from edgewright.task._view import AugmentationPolicy, View
from edgewright.task._weights import load_weights

__all__ = [
    "AudioSplit",
    "AugmentationPolicy",
    "Batch",
    "DataRef",
    "DatasetSplit",
    "ImageSplit",
    "Images",
    "Split",
    "SplitLike",
    "Task",
    "TensorSplit",
    "View",
    "load_model",
    "load_task",
    "load_weights",
    "map_targets",
    "parse_data_ref",
    "select_rows",
    "temporary_seed",
    "user_modules",
]
