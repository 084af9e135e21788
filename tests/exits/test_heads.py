"""Heads compute what they say, cost what they say, and do so in files too."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from edgewright.exits._heads import Features, choose_head, head_macs, make_head, misfit
from edgewright.exporters import to_onnx
from edgewright.program import Program
from edgewright.quantization import Quantization, quantize
from edgewright.task import Task

HEADS = {
    "width": ("pooled", Features((6,), channels_last=False)),
    "grid": ("pooled", Features((6, 7, 5), channels_last=False)),
    "tokens": ("pooled", Features((5, 6), channels_last=True)),
    "volume": ("pooled", Features((3, 4, 2, 5), channels_last=False)),
    "picture": ("convolutional", Features((6, 7, 5), channels_last=False)),
    "row": ("convolutional", Features((6, 9), channels_last=False)),
    "sequence": ("token", Features((5, 6), channels_last=True)),
    "windows": ("token", Features((3, 4, 6), channels_last=True)),
    "time": ("temporal", Features((6, 9), channels_last=False)),
}


@pytest.fixture(scope="module", params=HEADS)
def case(request):
    kind, features = HEADS[request.param]
    torch.manual_seed(0)
    head = make_head(kind, features, 3, 2).eval()
    x = torch.randn(8, *features.shape)
    return kind, features, head, x, Program.capture(head, x[:2])


def test_macs_are_those_of_the_graph(case):
    kind, features, _, _, program = case
    assert not misfit(kind, features)
    assert head_macs(kind, features, 3, 2) == program.costs().macs
    assert program.costs().uncounted == {}


def test_a_file_computes_what_the_head_does(case):
    _, _, head, x, program = case
    session = onnxruntime.InferenceSession(to_onnx(program), providers=["CPUExecutionProvider"])
    found, = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        wanted = head(x).numpy()
    assert found.shape == (8, 3)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_integers_compute_nearly_the_same_and_so_does_their_file(case):
    _, features, head, x, program = case
    if len(features.shape) == 4:
        pytest.skip("the runtimes pool no volumes of integers")
    y = torch.arange(8) % 3
    integers = quantize(program, Task((x, y), (x + 1, y), (x[:2], y[:2])), Quantization(
        method="ptq", calibration_samples=8))
    session = onnxruntime.InferenceSession(to_onnx(integers), providers=["CPUExecutionProvider"])
    found, = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    wanted = integers.run(x)
    assert (torch.from_numpy(found) - wanted).abs().max() < 0.03 * wanted.abs().max()
    with torch.no_grad():
        assert (wanted - head(x)).abs().max() < 0.1 * head(x).abs().max()


def test_statistics_are_means_and_deviations_of_time():
    head = make_head("temporal", Features((4, 9), channels_last=False), 3, 1)
    x = torch.randn(5, 4, 9)
    statistics = torch.cat([x.mean(2), x.std(2, correction=0)], 1)
    torch.testing.assert_close(head(x), nn.functional.linear(statistics, head.weight, head.bias),
                               rtol=1e-3, atol=1e-4)
    silent = torch.zeros(2, 4, 9, requires_grad=True)
    head(silent).sum().backward()
    assert silent.grad.isfinite().all()


def test_tokens_are_averaged_then_normed():
    head = make_head("token", Features((5, 6), channels_last=True), 3, 1)
    x = torch.randn(2, 5, 6)
    mean = sum(x[:, token] for token in range(5)) / 5
    apart = mean - mean.mean(1, keepdim=True)
    normed = apart / (apart.square().mean(1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(head(x), normed @ head.weight.T + head.bias)


def test_a_picture_is_convolved_normed_and_pooled():
    head = make_head("convolutional", Features((4, 6, 6), channels_last=False), 3, 1).eval()
    x = torch.randn(2, 4, 6, 6)
    each = torch.cat([nn.functional.conv2d(x[:, [i]], head.depthwise.weight[[i]], stride=2,
                                           padding=1) for i in range(4)], 1)
    mixed = torch.einsum("oi,nihw->nohw", head.pointwise.weight[:, :, 0, 0], each)
    means = (mixed / (1 + 1e-5) ** 0.5).clamp(min=0).mean((2, 3))
    torch.testing.assert_close(head(x), means @ head.weight.T + head.bias)


@pytest.mark.parametrize(("shape", "channels_last", "macs", "kind"), [
    ((8,), False, 10**6, "pooled"), ((8, 6, 6), False, 10**6, "convolutional"),
    ((8, 6, 6), False, 10**3, "pooled"), ((8, 20), False, 10**6, "temporal"),
    ((20, 8), True, 10**6, "token"), ((4, 4, 8), True, 10**6, "token"),
    ((2, 3, 3, 3), False, 10**6, "pooled"),
])
def test_the_head_fits_the_tensor(shape, channels_last, macs, kind):
    features = Features(shape, channels_last)
    assert choose_head("auto", features, 10, 2, macs) == kind
    assert not misfit(kind, features)
    assert choose_head("token", features, 10, 2, macs) == "token"


@pytest.mark.parametrize(("kind", "shape", "channels_last", "message"), [
    ("temporal", (8, 6, 6), False, "a temporal head reads (N, channels, time), its shape is "
                                   "(N, 8, 6, 6)"),
    ("convolutional", (20, 8), True, "a convolutional head reads (N, channels, time) or (N, "
                                     "channels, height, width), its shape is (N, 20, 8), channels "
                                     "last"),
    ("token", (8,), False, "a token head reads (N, tokens..., channels), its shape is (N, 8)"),
])
def test_what_does_not_fit_says_why(kind, shape, channels_last, message):
    assert misfit(kind, Features(shape, channels_last)) == message
