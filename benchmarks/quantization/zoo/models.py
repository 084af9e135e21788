"""The models that the quantization zoo takes: one or two of every kind, with random weights.

Those of torchvision and timm are built as `zoo_models` builds them, with settled batch norms; the
recurrent ones, the one for audio and the one with two inputs are written out here.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.pruning.zoo.models import ZooModel, redraw_constants, settle_statistics

Inputs = tuple[Tensor, ...]
_FRAMES, _FEATURES, _KEYWORDS, _HIDDEN = 49, 40, 12, 64  # of a second of speech
_WAVE: Final = 32_000  # samples: 4 s at 8 kHz
_PIXELS, _READINGS = 32, 16
_BATCH: Final = 4  # samples that batch norms take their statistics of


class M5(nn.Module):
    """M5 of Dai et al. 2017, "Very deep convolutional neural networks for raw waveforms", table 1.

    Four 1-d convolutions, each with a batch norm, a rectifier and a pooling to a quarter.
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        widths = (1, 128, 128, 256, 512)
        layers: list[nn.Module] = []
        for index, (before, after) in enumerate(pairwise(widths)):
            size, stride, padding = (80, 4, 38) if index == 0 else (3, 1, 1)
            layers += [nn.Conv1d(before, after, size, stride, padding), nn.BatchNorm1d(after),
                       nn.ReLU(), nn.MaxPool1d(4)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, wave: Tensor) -> Tensor:
        """Map waveforms (N, 1, samples) to logits (N, classes)."""
        logits: Tensor = self.head(self.body(wave).mean(dim=2))
        return logits


class Recurrent(nn.Module):
    """Two recurrent layers over frames of features, and a classifier of the last state."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__()
        self.body = kind(_FEATURES, _HIDDEN, num_layers=2, batch_first=True)
        self.head = nn.Linear(_HIDDEN, _KEYWORDS)

    def forward(self, frames: Tensor) -> Tensor:
        """Map features (N, frames, features) to logits (N, classes)."""
        states, _ = self.body(frames)
        logits: Tensor = self.head(states[:, -1])
        return logits


class ImageAndReadings(nn.Module):
    """A small convolutional network and a perceptron, joined before the classifier."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.image = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
            nn.AdaptiveAvgPool2d(4), nn.Flatten())
        self.readings = nn.Sequential(nn.Linear(_READINGS, 64), nn.ReLU())
        self.joined = nn.Linear(32 * 16 + 64, 64)
        self.head = nn.Linear(64, classes)

    def forward(self, image: Tensor, readings: Tensor) -> Tensor:
        """Map images (N, 3, 32, 32) and readings (N, 16) to logits (N, classes)."""
        both = torch.cat((self.image(image), self.readings(readings)), dim=1)
        logits: Tensor = self.head(F.relu(self.joined(both)))
        return logits


_OWN: Final[dict[str, tuple[Callable[[], nn.Module], tuple[tuple[int, ...], ...]]]] = {
    "audio:m5": (M5, ((1, _WAVE),)),
    "speech:lstm": (lambda: Recurrent(nn.LSTM), ((_FRAMES, _FEATURES),)),
    "speech:gru": (lambda: Recurrent(nn.GRU), ((_FRAMES, _FEATURES),)),
    "two-inputs:image-readings": (ImageAndReadings, ((3, _PIXELS, _PIXELS), (_READINGS,))),
}
_PUBLISHED: Final = tuple(
    "torchvision:mobilenet_v2 timm:deit_tiny_patch16_224 torchvision:swin_t timm:convnext_atto "
    "torchvision:efficientnet_b0 torchvision:densenet121 torchvision:squeezenet1_1 "
    "torchvision:mobilenet_v3_small torchvision:shufflenet_v2_x1_0 torchvision:googlenet".split())
MODELS: Final = (*_PUBLISHED, *_OWN)


def build(name: str, seed: int) -> tuple[nn.Module, Inputs]:
    """One of `MODELS` in evaluation mode, and inputs for it, one sample."""
    if name not in _OWN:
        model = ZooModel.parse(name)
        module = model.build(seed)
        return module, (model.example(module),)
    make, shapes = _OWN[name]
    torch.manual_seed(seed)
    module = make().eval()
    redraw_constants(module)
    settle_statistics(module, *(torch.zeros(_BATCH, *shape) for shape in shapes))
    return module, tuple(torch.randn(1, *shape) for shape in shapes)


def noise(shapes: tuple[tuple[int, ...], ...], samples: int,
          generator: torch.Generator) -> Inputs:
    """Random inputs of a sample's shapes, each sample with a strength and a tint of its own.

    Plain noise would look the same to a convolutional network that averages over places.
    """
    return tuple(_noise(shape, samples, generator) for shape in shapes)


def _noise(shape: tuple[int, ...], samples: int, generator: torch.Generator) -> Tensor:
    ones = (1,) * (len(shape) - 1)
    strength = torch.rand((samples, 1, *ones), generator=generator) + 0.5
    tint = torch.randn((samples, shape[0], *ones), generator=generator)
    return strength * torch.randn((samples, *shape), generator=generator) + tint
