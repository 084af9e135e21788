"""Heads compute what they say, cost what they say, and do so in files too."""

from __future__ import annotations

import math
import re
from itertools import product
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from edgewright.errors import UsageError
from edgewright.exits import (
    HEADS,
    AutoHead,
    ConvolutionalHead,
    EarlyExits,
    Features,
    HeadDesign,
    NetworkSize,
    TokenHead,
    add_exits,
    measure_head,
)
from edgewright.exits._heads import LayerHead
from edgewright.exporters import to_onnx
from edgewright.program import Program
from edgewright.quantization import Quantization, quantize
from edgewright.task import Task


def head_of(kind: Any, shape: Any, pool: int = 2, halvings: int = 0, *,
            channels_last: bool = False) -> LayerHead:
    return LayerHead(kind, Features(shape, channels_last), (3,), pool, halvings)


def design_of(kind: str) -> HeadDesign:
    found = HEADS.kinds[kind]()
    assert isinstance(found, HeadDesign)
    return found


CASES = {
    "width": head_of("pooled", (6,)),
    "grid": head_of("pooled", (6, 7, 5)),
    "tokens": head_of("pooled", (5, 6), channels_last=True),
    "volume": head_of("pooled", (3, 4, 2, 5)),
    "picture": head_of("convolutional", (6, 7, 5), halvings=1),
    "large picture": head_of("convolutional", (3, 15, 14), halvings=2),
    "row": head_of("convolutional", (6, 9), halvings=1),
    "sequence": head_of("token", (5, 6), channels_last=True),
    "windows": head_of("token", (3, 4, 6), channels_last=True),
    "time": head_of("temporal", (6, 9)),
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[Any, ...]:
    head = CASES[request.param]
    torch.manual_seed(0)
    module = head.make().eval()
    x = torch.randn(8, *head.features.shape)
    return head, module, x, Program.capture(module, x[:2])


def test_costs_are_those_of_the_graph(case: Any) -> None:
    head, module, _, program = case
    assert not design_of(head.kind).incompatibility(head.features, (3,))
    assert head.macs == program.costs().macs
    assert program.costs().uncounted == {}
    norms = sum(parameter.numel() for layer in module.modules() for parameter in
                layer.parameters(recurse=False) if "Norm" in type(layer).__name__)
    assert head.parameters == sum(p.numel() for p in module.parameters()) - norms


def test_a_file_matches_the_head(case: Any) -> None:
    _, module, x, program = case
    session = onnxruntime.InferenceSession(to_onnx(program), providers=["CPUExecutionProvider"])
    found, = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        wanted = module(x).numpy()
    assert found.shape == (8, 3)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_quantized_heads_and_their_files_are_close(case: Any) -> None:
    head, module, x, program = case
    if len(head.features.shape) == 4:
        pytest.skip("the runtimes pool no volumes of integers")
    y = torch.arange(8) % 3
    integers = quantize(program, Task((x, y), (x + 1, y), (x[:2], y[:2])), Quantization(
        method="ptq", calibration_samples=8))
    session = onnxruntime.InferenceSession(to_onnx(integers), providers=["CPUExecutionProvider"])
    found, = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    wanted = integers.run(x)
    assert (torch.from_numpy(found) - wanted).abs().max() < 0.03 * wanted.abs().max()
    with torch.no_grad():
        assert (wanted - module(x)).abs().max() < 0.1 * module(x).abs().max()


def test_statistics_are_means_and_deviations_of_time() -> None:
    head = head_of("temporal", (4, 9)).make()
    x = torch.randn(5, 4, 9)
    statistics = torch.cat([x.mean(2), x.std(2, correction=0)], 1)
    torch.testing.assert_close(head(x), nn.functional.linear(
        statistics, head.get_parameter("weight"), head.get_parameter("bias")), rtol=1e-3, atol=1e-4)
    silent = torch.zeros(2, 4, 9, requires_grad=True)
    head(silent).sum().backward()
    assert silent.grad is not None
    assert silent.grad.isfinite().all()


def test_tokens_are_averaged_then_normed() -> None:
    head = head_of("token", (5, 6), channels_last=True).make()
    x = torch.randn(2, 5, 6)
    mean = sum((x[:, token] for token in range(5)), torch.zeros(())) / 5
    apart = mean - mean.mean(1, keepdim=True)
    normed = apart / (apart.square().mean(1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(head(x), normed @ head.get_parameter("weight").T
                               + head.get_parameter("bias"))


def test_an_image_is_halved_until_small_and_pooled() -> None:
    head = head_of("convolutional", (4, 12, 12), pool=1, halvings=2).make().eval()
    given = x = torch.randn(2, 4, 12, 12)
    for first, second in ((0, 1), (4, 5)):
        depthwise, pointwise = (head.get_parameter(f"convolutions.{place}.weight")
                                for place in (first, second))
        each = torch.cat([nn.functional.conv2d(x[:, [i]], depthwise[[i]], stride=2,
                                               padding=1) for i in range(x.shape[1])], 1)
        mixed = torch.einsum("oi,nihw->nohw", pointwise[:, :, 0, 0], each)
        x = (mixed / (1 + 1e-5) ** 0.5).clamp(min=0)
    assert x.shape == (2, 16, 3, 3)
    torch.testing.assert_close(head(given), x.mean((2, 3)) @ head.get_parameter("weight").T
                               + head.get_parameter("bias"))


@pytest.mark.parametrize(("shape", "channels_last", "size", "kind"), [
    ((8,), False, 10**6, "pooled"), ((8, 6, 6), False, 10**6, "convolutional"),
    ((8, 6, 6), False, 10**3, "pooled"), ((8, 20), False, 10**6, "temporal"),
    ((20, 8), True, 10**6, "token"), ((4, 4, 8), True, 10**6, "token"),
    ((2, 3, 3, 3), False, 10**6, "pooled"),
])
def test_auto_selects_a_head_for_the_tensor(shape: tuple[int, ...], channels_last: bool, size: int,
                                            kind: str) -> None:
    features = Features(shape, channels_last)
    network = NetworkSize(size, size)
    assert AutoHead().design(features, (10,), network).kind == kind
    assert not design_of(kind).incompatibility(features, (3,))
    assert TokenHead().design(features, (10,), network).kind == "token"


@pytest.mark.parametrize(("network", "halvings"), [
    ((10**9, 10**9), 3), ((10**9, 2 * 10**5), 2), ((5 * 10**6, 10**9), 0), ((0, 0), 0),
    ((9 * 10**6, 10**9), 1),
])
def test_a_convolutional_head_is_as_deep_as_the_cost_limit_allows(network: tuple[int, int],
                                                                  halvings: int) -> None:
    features = Features((16, 32, 32), channels_last=False)
    head = AutoHead().design(features, (10,), NetworkSize(*network))
    assert isinstance(head, LayerHead)
    assert (head.kind, head.halvings) == ("convolutional" if halvings else "pooled", halvings)
    assert not halvings or (head.macs <= 0.02 * network[0]
                            and head.parameters <= 0.05 * network[1])
    plain = ConvolutionalHead().design(features, (10,), NetworkSize(*network))
    assert plain.halvings == max(halvings, 1)


@pytest.mark.parametrize(("kind", "shape", "channels_last", "message"), [
    ("temporal", (8, 6, 6), False, "a temporal head reads (N, channels, time), its shape is "
     "(N, 8, 6, 6)"),
    ("convolutional", (20, 8), True, "a convolutional head reads (N, channels, time) or (N, "
     "channels, height, width), its shape is (N, 20, 8), channels "
     "last"),
    ("token", (8,), False, "a token head reads (N, tokens..., channels), its shape is (N, 8)"),
])
def test_incompatible_tensors_give_a_reason(kind: str, shape: tuple[int, ...], channels_last: bool,
                                            message: str) -> None:
    assert design_of(kind).incompatibility(Features(shape, channels_last), (3,)) == message


class Wide:
    """A head of a user's own."""

    name = "wide 16"

    def incompatibility(self, features: Any, output: Any) -> Any:
        if len(output) > 1:
            return "a wide head returns one vector"
        return "" if not features.channels_last else "a wide head reads channels first"

    def design(self, features: Any, output: Any, network: Any) -> Any:
        return measure_head(self.name, features, lambda: nn.Sequential(
            nn.Flatten(), nn.Linear(math.prod(features.shape), 16), nn.ReLU(),
            nn.Linear(16, *output)))


TENSORS = [Features((6,), False), Features((6, 7, 5), False), Features((6, 9), False),
           Features((3, 4, 2, 5), False), Features((5, 6), True), Features((3, 4, 6), True)]


@pytest.mark.parametrize("design", [*(kind() for kind in HEADS.kinds.values()), Wide()],
                         ids=lambda design: design.name)
def test_every_design_follows_the_protocol(design: Any) -> None:
    assert isinstance(design, HeadDesign)
    outputs = [(3, *(7,) * rank) for rank in (0, 1, 2)]
    fitting = [(features, output) for features in TENSORS for output in outputs
               if not design.incompatibility(features, output)]
    assert fitting
    for features, output in fitting:
        before = torch.random.get_rng_state()
        head = design.design(features, output, NetworkSize(10**6, 10**5))
        assert torch.equal(before, torch.random.get_rng_state())
        assert head.features == features
        assert head.kind
        module = head.make().eval()
        x = torch.randn(4, *features.shape)
        assert module(x).shape == (4, *output)
        assert head.macs == Program.capture(module, x[:2]).costs().macs > 0
    for features, output in {*product(TENSORS, outputs)} - {*fitting}:
        assert re.search("head (reads|returns)", design.incompatibility(features, output))


def test_a_custom_head_is_attached_and_named_in_a_recipe() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    x, config = torch.randn(8, 4), EarlyExits(places=1, head=Wide(), training=None)
    y = torch.arange(8) % 3
    staged = add_exits(Program.capture(model, x), Task((x, y), (x + 1, y), (x[:2], y[:2])), config)
    assert [tuple(logits.shape) for logits in staged.run(x)] == [(8, 3), (8, 3)]
    assert staged.state_dict()["exits.0.1.weight"].shape == (16, 8)
    assert config.model_dump()["head"] == "wide 16"
    with pytest.raises(UsageError, match="or your own object of type HeadDesign, given in Python"):
        EarlyExits(head="wide 16")


def test_a_custom_head_may_not_have_a_builtin_name() -> None:
    impostor = Wide()
    impostor.name = "token"
    with pytest.raises(UsageError, match="The name 'token' is a built-in's"):
        EarlyExits(head=impostor)
