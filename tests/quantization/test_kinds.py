"""Networks of many kinds: quantised where the runtime has kernels, right everywhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edgewright.exporters import to_onnx
from edgewright.program import Program
from edgewright.quantization import quantize
from edgewright.runtime import OnnxEngine
from edgewright.task import Task

COMPUTED = ("conv1d", "conv2d", "linear")  # a product with a weight read as floats is not
IMAGE, SERIES, TOKENS = (3, 8, 8), (3, 16), (5, 6)


def conv(inputs: Any, outputs: Any, size: int = 3, **options: Any) -> Any:
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, **options)


def pooled(x: Any) -> Any:
    return x.mean((2, 3))


def tied() -> dict[str, Any]:
    first, second = nn.Linear(6, 6), nn.Linear(6, 6)
    second.weight, second.bias = first.weight, first.bias
    return {"a": first, "b": second, "h": nn.Linear(6, 3)}


KINDS = {
    "concat, depthwise": (
        lambda m, x: m.h(pooled(m.c(torch.cat([m.b(m.a(x).relu()).relu(), m.d(x)], 1)).relu())),
        IMAGE, lambda: {"a": conv(3, 4, 1), "b": conv(4, 4, groups=4), "c": conv(8, 6, 1),
                        "d": conv(3, 4), "h": nn.Linear(6, 3)}),
    "hardswish, relu6, squeeze": (
        lambda m, x: m.h(pooled(F.relu6(m.b((y := F.hardswish(m.a(x)))
                                            * m.g(pooled(y)).sigmoid()[:, :, None, None])))), IMAGE,
        lambda: {"a": conv(3, 4), "g": nn.Linear(4, 4), "b": conv(4, 4), "h": nn.Linear(4, 3)}),
    "one dimension": (lambda m, x: m.h(m.b(m.a(x).relu()).relu().mean(2)), SERIES,
                      lambda: {"a": nn.Conv1d(3, 4, 3, padding=1),
                               "b": nn.Conv1d(4, 4, 3, stride=2), "h": nn.Linear(4, 3)}),
    "transformer": (lambda m, x: m.h(m.n(x + m.b(F.gelu(m.a(m.n(x))))).mean(1)), TOKENS,
                    lambda: {"a": nn.Linear(6, 12), "b": nn.Linear(12, 6), "n": nn.LayerNorm(6),
                             "h": nn.Linear(6, 3)}),
    "attention": (lambda m, x: m.h(((m.q(x) @ m.k(x).transpose(1, 2)).softmax(-1)
                                    @ m.v(x)).mean(1)), TOKENS,
                  lambda: {"q": nn.Linear(6, 6), "k": nn.Linear(6, 6), "v": nn.Linear(6, 6),
                           "h": nn.Linear(6, 3)}),
    "pooling": (lambda m, x: m.h(F.avg_pool2d(F.pad(F.adaptive_avg_pool2d(m.a(x), 4),
                                                    (1, 1, 1, 1), value=5.0), 2).flatten(1)), IMAGE,
                lambda: {"a": conv(3, 4), "h": nn.Linear(36, 3)}),
    "shuffled halves": (
        lambda m, x: m.h(pooled(m.b(torch.cat((y := F.channel_shuffle(m.a(x).relu(), 2).chunk(
            2, 1))[::-1], 1) + torch.cat(y, 1)))), IMAGE,
        lambda: {"a": conv(3, 8), "b": conv(8, 4), "h": nn.Linear(4, 3)}),
    "a layer twice": (lambda m, x: m.h(pooled(m.a(m.a(x).relu()))), IMAGE,
                      lambda: {"a": conv(3, 3), "h": nn.Linear(3, 3)}),
    "tied layers": (lambda m, x: m.h(m.b(m.a(x).relu()).relu().mean(1)), TOKENS, tied),
    "a weight and a bias read as floats too": (
        lambda m, x: m.h(m.a(x).relu().mean(1)) @ m.h.weight + m.a.bias, TOKENS,
        lambda: {"a": nn.Linear(6, 6), "h": nn.Linear(6, 6)}),
    "an activation that is an output too": (
        lambda m, x: (m.h(pooled(m.b(y := m.a(x).relu()))), y), IMAGE,
        lambda: {"a": conv(3, 4), "b": conv(4, 4), "h": nn.Linear(4, 3)}),
    "no bias, same padding": (
        lambda m, x: m.h(pooled(m.a(x).relu())), IMAGE,
        lambda: {"a": nn.Conv2d(3, 4, 3, padding="same", bias=False),
                 "h": nn.Linear(4, 3, bias=False)}),
}


def task_of(x: Any, y: Any) -> Any:
    return Task((x, y), (x[:8], y[:8]), (x[8:15], y[8:15]))


def relative_error(want: Any, have: Any) -> Any:
    return float((want - have).norm() / want.norm())


def leaves(result: Any) -> Any:
    return torch.utils._pytree.tree_leaves(result)


def on_runtime(program: Program) -> Callable[..., Any]:
    engine = OnnxEngine(to_onnx(program))
    return lambda x: [torch.from_numpy(array) for array in engine.run((x.numpy(),))]


@pytest.mark.parametrize("kind", KINDS)
def test_every_layer_is_quantised_and_the_runtime_agrees(kind: Any, net: Any,
                                                         tmp_path: Path) -> None:
    function, shape, layers = KINDS[kind]
    torch.manual_seed(0)
    model = net(function, **layers()).eval()
    x = torch.randn(96, *shape)
    y = torch.arange(96) % 3
    program = Program.capture(model, x[:2])
    quantized = quantize(program, task_of(x, y))
    computed = [layer for layer in quantized.costs().layers if layer.op in COMPUTED]
    assert {layer.bits for layer in computed} == {8}
    for exact, simulated in zip(leaves(program.run(x)), leaves(quantized.run(x)), strict=True):
        assert relative_error(exact, simulated) < 0.06
    quantized.save(tmp_path / "p.pt2")
    loaded = Program.load(tmp_path / "p.pt2")
    exact_file, quantized_file = on_runtime(program), on_runtime(quantized)
    for batch in (x[:1], x[:5], x):
        simulated = leaves(quantized.run(batch))
        for want, have in zip(leaves(program.run(batch)), exact_file(batch), strict=True):
            assert relative_error(want, have) < 1e-5
        for want, have in zip(simulated, quantized_file(batch), strict=True):
            assert relative_error(want, have) < 0.03
        assert all(torch.equal(a, b) for a, b in zip(
            simulated, leaves(loaded.run(batch)), strict=True))


def test_what_is_written_into_a_copy_is_there(net: Any) -> Any:
    def patched(m: Any, x: Any) -> Any:
        y = m.a(x).relu().clone()
        y[:, 0] = 5 * x[:, 0].sigmoid()
        return m.h(pooled(m.b(y)))

    torch.manual_seed(0)
    x, y = torch.randn(64, *IMAGE), torch.arange(64) % 3
    program = Program.capture(net(patched, a=conv(3, 4), b=conv(4, 4), h=nn.Linear(4, 3)), x[:2])
    assert relative_error(program.run(x), quantize(program, task_of(x, y)).run(x)) < 0.03


def test_an_attention_computes_in_floats_what_it_reads_quantised(net: Any) -> Any:
    def attention(m: Any, x: Any) -> Any:
        parts = m.a(x).unflatten(-1, (3, 2, 3)).permute(2, 0, 3, 1, 4).unbind(0)
        return m.h(F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2).mean(1))

    torch.manual_seed(0)
    x, y = torch.randn(64, *TOKENS), torch.arange(64) % 3
    program = Program.capture(net(attention, a=nn.Linear(6, 18), h=nn.Linear(6, 3)), x[:2])
    quantized = quantize(program, task_of(x, y))
    assert [(layer.op, layer.bits) for layer in quantized.costs().layers] == [
        ("linear", 8), ("scaled_dot_product_attention", 32), ("linear", 8)]
    have, = on_runtime(quantized)(x)
    assert relative_error(quantized.run(x), have) < 0.01


def test_a_weight_shared_with_an_embedding_stays_a_float_there(net: Any) -> None:
    torch.manual_seed(0)
    words, out = nn.Embedding(7, 4), nn.Linear(4, 7)
    out.weight = words.weight
    model = net(lambda m, x: m.out(m.k(m.words(x).mean(1)).relu()), words=words,
                k=nn.Linear(4, 4), out=out)
    x = torch.randint(0, 7, (64, 5))
    program = Program.capture(model, x[:2])
    y = torch.arange(64) % 7
    quantized = quantize(program, task_of(x, y))
    stored = sorted(str(value.dtype) for name, value in quantized.state_dict().items()
                    if value.shape == (7, 4))
    assert stored == ["torch.float32", "torch.int8"]
    assert relative_error(program.run(x), quantized.run(x)) < 0.03
    have, = on_runtime(quantized)(x)
    assert relative_error(quantized.run(x), have) < 0.01


def test_a_layer_used_twice_is_stored_once_with_a_bias_for_each_input(net: Any) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(64, 6), torch.arange(64) % 3
    model = net(lambda m, x: m.h(m.a(m.a(x).relu() * 3).relu()), a=nn.Linear(6, 6),
                h=nn.Linear(6, 3))
    state = quantize(Program.capture(model, x[:2]), task_of(x, y)).state_dict()
    weights = [name for name, value in state.items() if value.dtype == torch.int8]
    assert sorted(weights) == ["a.weight", "h.weight"]
    biases = {name: state[f"{name}_scale"] for name, value in state.items()
              if value.dtype == torch.int32 and name.startswith("a.")}
    assert len(biases) == 2
    for name, scale in biases.items():
        torch.testing.assert_close(state[name] * scale, model.a.bias.detach(), rtol=0,
                                   atol=float(scale.max()) * 0.51)
