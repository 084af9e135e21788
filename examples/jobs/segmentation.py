"""A class per pixel: background, disc or square, by a U-Net that also returns an auxiliary map."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import edgewright as ew

UNCLEAR = 255


class UNet(nn.Module):
    """Two resolutions and a skip connection; the auxiliary output is dropped at export."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = _convolution(3, 16)
        self.down = nn.MaxPool2d(2)
        self.coarse = nn.Sequential(_convolution(16, 32), _convolution(32, 32))
        self.up = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.join = _convolution(32, 16)
        self.out = nn.Conv2d(16, 3, 1)
        self.aux = nn.Conv2d(32, 3, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map images (N, 3, 24, 24) to logits (N, 3, 24, 24), and coarse ones (N, 3, 12, 12)."""
        fine = self.fine(x)
        coarse = self.coarse(self.down(fine))
        joined = self.join(torch.cat([fine, self.up(coarse)], dim=1))
        return {"out": self.out(joined), "aux": self.aux(coarse)}


def make_model() -> nn.Module:
    """The U-Net."""
    return UNet()


def make_task() -> ew.Task:
    """Mean intersection over union of the pixels that count."""
    x, y = _samples()
    return ew.Task((x[:200], y[:200]), test=(x[200:], y[200:]),
                   goal=ew.Segmentation(ignore_index=UNCLEAR, output="out"),
                   classes=("background", "disc", "square"))


def _convolution(channels_in: int, channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels_in, channels, 3, padding=1, bias=False),
                         nn.BatchNorm2d(channels), nn.ReLU())


def _samples() -> tuple[Tensor, Tensor]:
    """Noisy images with one shape each, and the class of each pixel; edges of discs are unclear."""
    random = torch.Generator().manual_seed(0)
    rows, columns = torch.meshgrid(torch.arange(24), torch.arange(24), indexing="ij")
    masks = torch.zeros(280, 24, 24, dtype=torch.long)
    for number, mask in enumerate(masks):
        down, right = torch.randint(6, 18, (2,), generator=random)
        distance = (rows - down).square() + (columns - right).square()
        if number % 2:
            mask[distance < 25] = 1
            mask[(distance >= 25) & (distance < 30)] = UNCLEAR
        else:
            mask[down - 4:down + 5, right - 4:right + 5] = 2
    shown = (masks.clamp(max=2)[:, None] == torch.arange(3)[None, :, None, None]).float()
    return shown + 0.3 * torch.randn(shown.shape, generator=random), masks
