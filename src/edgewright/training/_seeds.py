"""Where the random numbers of a run come from: its seed, and the place in the run."""

from __future__ import annotations

import hashlib

import torch


def epoch_seed(seed: int, epoch: int) -> int:
    """Of the order of an epoch's samples, and of the view that they are seen in."""
    return (seed * 1_000_003 + epoch) % 2**63


def step_seed(seed: int, step: int, rank: int = 0) -> int:
    """Of all that a step draws (dropout, mixing) on one of the devices.

    Every step has a seed of its own, so that a run is resumed from the number of a step alone.
    """
    digest = hashlib.blake2b(f"{seed}/{step}/{rank}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def reseed(device: torch.device, seed: int) -> None:
    """Seed the generators that modules draw from, on the CPU and on a device.

    Not by `torch.manual_seed`, which also prepares every other device there may be; it takes as
    long as the step of a small network.
    """
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)
