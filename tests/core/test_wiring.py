"""A wiring whose paths do not end, or do not give what is taken, is refused."""

from __future__ import annotations

from typing import Any

import pytest

from edgewright.core import Fork, ModelSpec, Segment, TensorSpec, Wiring

X, Y = (TensorSpec(name=name, dtype="float32", shape=(None, 2)) for name in "xy")


def make(*wirings: Any) -> ModelSpec:
    segments = tuple(Segment(file=f"segments/{number}.onnx", sha256="", size_bytes=1, macs=1,
                             energy_mj=0.1, ram_bytes=1, wiring=wiring)
                     for number, wiring in enumerate(wirings))
    return ModelSpec(name="routed", inputs=(X,), outputs=(Y,), segments=segments)


def start(**changes: Any) -> Wiring:
    fork = {"index": "i", "branches": (1, 2), "results": ("y",)} | changes
    return Wiring(takes=("x",), gives=("i", "h"), fork=Fork(**fork))


BRANCH = Wiring(takes=("h",), gives=("y",))


def test_a_complete_wiring_starts_at_the_first_segment() -> None:
    model = make(start(per_sample=False), BRANCH, BRANCH)
    assert model.is_routed
    assert model.decides_per_call
    assert model.default_point.path == (0,)
    assert not make(start(), BRANCH, BRANCH).decides_per_call


@pytest.mark.parametrize(("wirings", "message"), [
    ((start(), BRANCH), "leads to the segments \\[1, 2\\], expected later ones, below 2"),
    ((start(branches=(0, 1)), BRANCH), "expected later ones"),
    ((start(), BRANCH, None), "segment 2 has no wiring, but others have"),
    ((start(), BRANCH, Wiring(takes=("z",), gives=("y",))), "segment 2 takes \\['z'\\]"),
    ((start(), BRANCH, Wiring(takes=("h",), gives=("z",))),
     "the branch that starts with segment 2 does not give \\['y'\\]"),
    ((start(index="k"), BRANCH, BRANCH), "decides by 'k', which nothing gives"),
    ((Wiring(takes=("x",), gives=("z",)),), "do not give the outputs \\['y'\\]"),
])
def test_a_wrong_wiring_is_refused(wirings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(*wirings)
