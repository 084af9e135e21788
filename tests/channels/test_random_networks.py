"""Random networks out of all operators: masked equals sliced, here and on ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.programs import Net
from torch import nn

from edgewright.channels import find_groups
from edgewright.exporters import to_onnx
from edgewright.graph import compare_outputs
from edgewright.program import Program

SIDE = 4
SIZES = (1, 2, SIDE, SIDE)


def conv(inputs: Any, outputs: Any, size: int = 3, **options: Any) -> Any:
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, **options)


def _tokens(x: Any) -> Any:
    return x.flatten(2).transpose(1, 2)


def _picture(y: Any, x: Any) -> Any:
    return y.transpose(1, 2).reshape(x.shape[0], y.shape[2], x.shape[2], x.shape[3])


def _heads(y: Any, count: int) -> Any:
    return y.view(y.shape[0], y.shape[1], count, -1).transpose(1, 2)


def _attend(m: Any, x: Any) -> Any:
    q, k, v = (_heads(layer(_tokens(x)), 2) for layer in (m.q, m.k, m.v))
    y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    return x + _picture(m.o(y), x)


def _attend_fused(m: Any, x: Any) -> Any:
    tokens = _tokens(x)
    qkv = m.q(tokens).reshape(x.shape[0], tokens.shape[1], 3, 2, -1).permute(2, 0, 3, 1, 4)
    q, k, v = qkv.unbind(0)
    y = (q @ k.mT / 2).softmax(-1) @ v
    return x + _picture(m.o(y.transpose(1, 2).flatten(2)), x)


def _attend_grouped(m: Any, x: Any) -> Any:
    q, k, v = (_heads(layer(_tokens(x)), count)
               for layer, count in ((m.q, 4), (m.k, 2), (m.v, 2)))
    k, v = (y.repeat_interleave(2, 1) for y in (k, v))
    y = ((q @ k.mT) / 2).softmax(-1) @ v
    return x + _picture(m.o(y.transpose(1, 2).flatten(2)), x)


def _shuffle(m: Any, x: Any) -> Any:
    batch, channels, height, width = x.shape
    return x.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(x.shape)


def _halves(m: Any, x: Any) -> Any:
    first, second = x.chunk(2, 1)
    return first * second.sigmoid()


def _swap(m: Any, x: Any) -> Any:
    half = x.shape[1] // 2
    return torch.cat([x[:, half:], x[:, :half].tanh()], 1)


def _normed(m: Any, x: Any) -> Any:
    return m.n(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def linears(channels: Any, inner: Any, key: Any = None) -> dict[str, Any]:
    return {"q": nn.Linear(channels, inner), "k": nn.Linear(channels, key or inner),
            "v": nn.Linear(channels, key or inner), "o": nn.Linear(inner, channels)}


# name: (function, members for c channels and a drawn width w, channels after, divisor of c)
STEPS = {
    "conv": (lambda m, x: m.a(x), lambda c, w: {"a": conv(c, w)}, lambda c, w: w, 1),
    "depthwise": (lambda m, x: m.a(x), lambda c, w: {"a": conv(c, 2 * c, groups=c)},
                  lambda c, w: 2 * c, 1),
    "grouped": (lambda m, x: m.a(x), lambda c, w: {"a": conv(c, 2 * w, 1, groups=2)},
                lambda c, w: 2 * w, 2),
    "transposed": (lambda m, x: m.a(x), lambda c, w: {
        "a": nn.ConvTranspose2d(c, 2 * w, 3, padding=1, groups=2)}, lambda c, w: 2 * w, 2),
    "relu": (lambda m, x: x.relu(), None, None, 1),
    "batch_norm": (lambda m, x: m.n(x), lambda c, w: {"n": nn.BatchNorm2d(c)}, None, 1),
    "group_norm": (lambda m, x: m.n(x), lambda c, w: {"n": nn.GroupNorm(2, c)}, None, 2),
    "layer_norm": (_normed, lambda c, w: {"n": nn.LayerNorm(c)}, None, 1),
    "prelu": (lambda m, x: m.n(x), lambda c, w: {"n": nn.PReLU(c)}, None, 1),
    "residual": (lambda m, x: x + m.a(x), lambda c, w: {"a": conv(c, c, 1)}, None, 1),
    "dense": (lambda m, x: torch.cat([x, m.a(x)], 1), lambda c, w: {"a": conv(c, w, 1)},
              lambda c, w: c + w, 1),
    "gate": (lambda m, x: x * m.a(x.mean((2, 3))).sigmoid()[:, :, None, None],
             lambda c, w: {"a": nn.Linear(c, c)}, None, 1),
    "pad": (lambda m, x: F.pad(x, (0, 0, 0, 0, 1, 1)), None, lambda c, w: c + 2, 1),
    "pool": (lambda m, x: F.avg_pool2d(x, 3, 1, 1), None, None, 1),
    "halves": (_halves, None, lambda c, w: c // 2, 4),
    "swap": (_swap, None, None, 4),
    "stride": (lambda m, x: x[:, ::2] + x[:, 1::2], None, lambda c, w: c // 2, 4),
    "shuffle": (_shuffle, None, None, 4),
    "pixel_shuffle": (lambda m, x: F.avg_pool2d(F.pixel_shuffle(x, 2), 2), None,
                      lambda c, w: c // 4, 8),
    "pixel_unshuffle": (lambda m, x: F.interpolate(F.pixel_unshuffle(x, 2), scale_factor=2), None,
                        lambda c, w: 4 * c, 1),
    "einsum": (lambda m, x: torch.einsum("bchw,cd->bdhw", x, m.w),
               lambda c, w: {"w": nn.Parameter(torch.randn(c, w))}, lambda c, w: w, 1),
    "softmax": (lambda m, x: x * x.softmax(1), None, None, 1),
    "repeat": (lambda m, x: x.repeat_interleave(2, 1), None, lambda c, w: 2 * c, 1),
    "attention": (_attend, lambda c, w: linears(c, 2 * w), None, 1),
    "fused_attention": (_attend_fused, lambda c, w: {
        "q": nn.Linear(c, 6 * w), "o": nn.Linear(2 * w, c)}, None, 1),
    "grouped_attention": (_attend_grouped, lambda c, w: linears(c, 4 * w, 2 * w), None, 1),
}


def random_network(net: Any, steps: Any) -> Any:
    """A convolution, the drawn steps that fit, and a linear layer over what is left."""
    layers, channels = [conv(2, 8)], 8
    for name, width in steps:
        function, members, after, divisor = STEPS[name]
        if channels % divisor or channels > 64:
            continue
        layers.append(net(function, **(members(channels, width) if members else {})))
        channels = after(channels, width) if after else channels
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(),
                         nn.Linear(4 * channels, 3))


drawn = st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(2, 4)),
                 min_size=1, max_size=5)
quietly: dict[str, Any] = {"deadline": None, "derandomize": True,
           "suppress_health_check": [HealthCheck.function_scoped_fixture]}


def onnx_error(program: Program) -> Any:
    """The relative error of the exported program on ONNX Runtime."""
    session = ort.InferenceSession(to_onnx(program), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    x = torch.randn(3, *SIZES[1:], generator=torch.Generator().manual_seed(0))
    have = session.run(None, dict(zip(names, [x.numpy()], strict=True)))
    return compare_outputs(program.run(x), torch.from_numpy(np.asarray(have[0])))


@settings(max_examples=20, **quietly)
@given(steps=drawn, seed=st.integers(0, 99))
def test_random_networks_keep_their_function(steps: Any, seed: Any, net: type[Net],
                                             randomise: Callable[..., nn.Module],
                                             choose: Callable[..., list[int]],
                                             prune: Callable[..., Program]) -> None:
    torch.manual_seed(seed)
    program = Program.capture(randomise(random_network(net, steps), seed), torch.zeros(SIZES))
    sliced = prune(program, choose(find_groups(program), seed, 0.25 + 0.25 * (seed % 3)))
    with tempfile.TemporaryDirectory() as folder:
        sliced.save(Path(folder) / "p.pt2")
        loaded = Program.load(Path(folder) / "p.pt2")
    x = torch.randn(2, *SIZES[1:])
    assert torch.equal(loaded.run(x), sliced.run(x))
    assert loaded.costs() == sliced.costs()


@settings(max_examples=4, **quietly)
@given(steps=drawn, seed=st.integers(0, 99))
def test_random_networks_run_alike_on_onnx_runtime(steps: Any, seed: Any, net: type[Net],
                                                   randomise: Callable[..., nn.Module],
                                                   choose: Callable[..., list[int]],
                                                   prune: Callable[..., Program]) -> None:
    torch.manual_seed(seed)
    program = Program.capture(randomise(random_network(net, steps), seed), torch.zeros(SIZES))
    assert onnx_error(prune(program, choose(find_groups(program), seed))) <= 1e-4


@pytest.mark.parametrize("name", STEPS)
def test_every_step_is_pruned(name: Any, net: type[Net], randomise: Callable[..., nn.Module],
                              choose: Callable[..., list[int]],
                              prune: Callable[..., Program]) -> None:
    program = Program.capture(randomise(random_network(net, [(name, 3)])), torch.zeros(SIZES))
    channels = choose(find_groups(program))
    assert channels
    assert prune(program, channels).costs().macs < program.costs().macs


@pytest.mark.parametrize("name", [
    "attention", "depthwise", "einsum", "fused_attention", "group_norm", "grouped",
    "grouped_attention", "layer_norm", "pad", "pixel_shuffle", "repeat", "shuffle", "softmax",
    "stride", "transposed"])
def test_a_pruned_step_runs_alike_on_onnx_runtime(name: str, net: type[Net],
                                                  randomise: Callable[..., nn.Module],
                                                  choose: Callable[..., list[int]],
                                                  prune: Callable[..., Program]) -> None:
    program = Program.capture(randomise(random_network(net, [(name, 3)])), torch.zeros(SIZES))
    assert onnx_error(prune(program, choose(find_groups(program)))) <= 1e-4
