"""Seeds of a run's random numbers, derived from its seed and the position in the run."""

from __future__ import annotations

import hashlib

import torch


def epoch_seed(seed: int, epoch: int) -> int:
    """The seed of an epoch's sample order, which is also the number of its view."""
    return (seed * 1_000_003 + epoch) % 2**63


def step_seed(seed: int, step: int, rank: int = 0) -> int:
    """The seed of a step's random numbers (dropout, mixing) on one of the devices.

    Every step has its own seed, so that a run can be resumed from the step's index alone.
    """
    digest = hashlib.blake2b(f"{seed}/{step}/{rank}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def reseed(device: torch.device, seed: int) -> None:
    """Seed the default generators of the CPU and of one device.

    `torch.manual_seed` would also seed every other device, which takes as long as a step of a small
    network.
    """
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)
