"""Quantization: stored tensors, their grids, and the accuracy of the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from tests.programs import measure_accuracies
from torch import nn

from edgewright.distill import fit
from edgewright.errors import DataError, UsageError
from edgewright.exits import EarlyExits, add_exits
from edgewright.program import Program, fold_batch_norm
from edgewright.pruning import ChannelPruning, prune
from edgewright.quantization import (
    BRECQ,
    PTQ,
    QAT,
    AdaRound,
    MixedPrecision,
    Quantization,
    quantize,
)
from edgewright.task import Task
from edgewright.training import Training

LAYERS = ("stem", "one", "two", "hidden", "head")
ops = torch.ops.quantized_decomposed


def relative_error(want: Any, have: Any) -> Any:
    return float((want - have).norm() / want.norm())


def accuracy(program: Program, task: Task) -> Any:
    return measure_accuracies(program.module(), task.test)[-1]


def layers_of(program: Program) -> Any:
    """Each layer's weight name, with its call."""
    return {str(node.all_input_nodes[1].all_input_nodes[0].target): node for node in program.calls()
            if node.target in (torch.ops.aten.conv2d.default, torch.ops.aten.linear.default)}


def test_calibration_keeps_names_and_outputs(small: Program, small_quantized: Program,
                                             colour_task: Task) -> None:
    state = small_quantized.state_dict()
    assert (small.is_quantized, small_quantized.is_quantized) == (False, True)
    for name in LAYERS:
        assert state[f"{name}.weight"].dtype == torch.int8
        assert state[f"{name}.bias"].dtype == torch.int32
    assert not any(name.startswith("norm") for name in state)
    x, = colour_task.test.example(200)
    assert relative_error(small.run(x), small_quantized.run(x)) < 0.05
    assert (small.run(x).argmax(1) == small_quantized.run(x).argmax(1)).float().mean() > 0.97
    assert small_quantized.costs().macs_by_bits() == {8: small.costs().macs}


def test_weights_lie_on_symmetric_grids_of_their_channels(small: Program,
                                                          colour_task: Task) -> None:
    floats = fold_batch_norm(small).state_dict()
    quantized = quantize(small, colour_task, Quantization(range_estimator="minmax"))
    state = quantized.state_dict()
    layers = layers_of(quantized)
    assert list(layers) == [f"{name}.weight" for name in LAYERS]
    for name, node in layers.items():
        scales = state[str(node.args[1].args[1].target)]
        zeros = state[str(node.args[1].args[2].target)]
        for channel, weights in enumerate(floats[name]):
            scale = max(abs(value) for value in weights.flatten().tolist()) / 127
            assert float(scales[channel]) == pytest.approx(scale, rel=1e-6)
            assert int(zeros[channel]) == 0
            want = [max(-127, min(127, round(value / float(scales[channel]))))
                    for value in weights.flatten().tolist()]
            assert state[name][channel].flatten().tolist() == want
    assert (state["one.weight"] == -128).sum() == 0


def test_bias_scales_equal_the_product_scales(small: Program, small_quantized: Program) -> None:
    floats = fold_batch_norm(small).state_dict()
    state = small_quantized.state_dict()
    for name, node in layers_of(small_quantized).items():
        source, weight, bias = node.args[:3]
        assert bias.target is ops.dequantize_per_channel.default
        bias_name = name.replace("weight", "bias")
        assert str(bias.args[0].target) == bias_name
        for channel, value in enumerate(floats[bias_name].tolist()):
            scale = source.args[1] * float(state[str(weight.args[1].target)][channel])
            assert float(state[f"{bias_name}_scale"][channel]) == pytest.approx(scale, rel=1e-6)
            assert int(state[bias_name][channel]) == pytest.approx(value / scale, abs=0.51)
        assert state[f"{bias_name}_zero_point"].tolist() == [0] * len(floats[bias_name])


def test_activations_are_unsigned_bytes_and_logits_floats(small_quantized: Program) -> None:
    quantizers = [node for node in small_quantized.calls()
                  if node.target is ops.quantize_per_tensor.default]
    assert len(quantizers) >= 6
    for node in quantizers:
        scale, zero_point, *rest = cast(tuple[Any, ...], node.args[1:])
        assert scale > 0
        assert 0 <= zero_point <= 255
        assert rest == [0, 255, torch.uint8]
    output = next(node for node in small_quantized.graph.nodes if node.op == "output")
    assert output.all_input_nodes[0].target is torch.ops.aten.linear.default


def test_relu_activations_have_their_zero_point_at_the_type_minimum(small_quantized: Program) -> None:
    after_relu = [node for node in small_quantized.calls()
                  if node.target is ops.quantize_per_tensor.default
                  and "relu" in node.all_input_nodes[0].name]
    assert len(after_relu) == 4
    assert all(node.args[2] == 0 for node in after_relu)


def test_original_program_is_not_modified(small: Program, colour_task: Task,
                                          trained_quantization: Quantization) -> None:
    before = {name: value.clone() for name, value in small.state_dict().items()}
    graph = str(small.graph)
    for config in (Quantization(), trained_quantization):
        quantize(small, colour_task, config)
    assert str(small.graph) == graph
    torch.testing.assert_close(small.state_dict(), before, rtol=0, atol=0)


def test_training_with_fake_quantizers(small: Program, colour_task: Task, small_quantized: Program,
                                       trained_quantization: Quantization) -> None:
    trained = quantize(small, colour_task, trained_quantization)
    assert accuracy(trained, colour_task) > accuracy(small, colour_task) - 0.05
    state, calibrated = trained.state_dict(), small_quantized.state_dict()
    for name in LAYERS:
        assert state[f"{name}.weight"].dtype == torch.int8
        assert state[f"{name}.bias"].dtype == torch.int32
    assert not torch.equal(state["one.weight"], calibrated["one.weight"])
    again = quantize(small, colour_task, trained_quantization).state_dict()
    torch.testing.assert_close(again, state, rtol=0, atol=0)


def test_training_starts_from_a_bad_network_and_ends_better(colour_task: Task,
                                                            trained_quantization: Quantization) -> None:
    torch.manual_seed(1)
    raw = Program.capture(nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)),
        torch.zeros(1, 3, 8, 8))
    config = trained_quantization.replace(method=QAT(training=Training(
        epochs=6, batch_size=16, lr=0.05)))
    assert accuracy(quantize(raw, colour_task), colour_task) < 0.6
    assert accuracy(quantize(raw, colour_task, config), colour_task) > 0.8


@pytest.mark.parametrize("method", ["ptq", "qat"])
def test_all_steps_compose(small: Program, colour_task: Task, trained_quantization: Quantization,
                           method: str, tmp_path: Path) -> None:
    short = Training(epochs=2, batch_size=32, lr=0.02)
    pruned = prune(small, colour_task, ChannelPruning(ratio=0.3, round_to=2))
    recovered = fit(pruned, colour_task, short, teacher=small)
    staged = add_exits(recovered, colour_task, EarlyExits(places=2, training=short))
    config = Quantization() if method == "ptq" else trained_quantization
    final = quantize(staged, colour_task, config)
    assert (final.exits, final.is_quantized) == (2, True)
    assert final.costs().macs == staged.costs().macs < small.costs().macs
    assert accuracy(final, colour_task) > accuracy(small, colour_task) - 0.1
    assert {final.state_dict()[f"exits.{i}.weight"].dtype for i in (0, 1)} == {torch.int8}
    final.save(tmp_path / "p.pt2")
    loaded = Program.load(tmp_path / "p.pt2")
    x, = colour_task.test.example(7)
    assert all(torch.equal(a, b) for a, b in zip(loaded.run(x), final.run(x), strict=True))
    assert (loaded.exits, loaded.is_quantized) == (2, True)
    for figure in ("macs", "parameters", "weight_bytes", "peak_activation_bytes"):
        assert getattr(loaded.costs(), figure) == getattr(final.costs(), figure)


def test_quantized_programs_are_rejected(small_quantized: Program, colour_task: Task) -> None:
    with pytest.raises(UsageError, match="the program is already quantized; pass the program in "
                                         "floating point"):
        quantize(small_quantized, colour_task)


@pytest.mark.parametrize(("wrong", "message"), [
    ({"weights": 5}, "Quantization: weights: quantization to 5 bits is not supported; weights and "
                     "activations can have 8, 4, 3, 2, 1 bits"),
    ({"activations": 16}, "Quantization: activations: quantization to 16 bits is not supported"),
    ({"weights": "eight"}, "Quantization: weights: quantization to 'eight' bits is not supported"),
    ({"method": "magic"}, "Quantization: method: Input should be 'ptq' or 'qat', got 'magic'"),
    ({"calibration_samples": 0}, "Quantization: calibration_samples: Input should be greater "
                                 "than or equal to 1, got 0"),
    ({"bits": 8}, "Quantization: bits: unknown setting; known: weights, "),
])
def test_unsupported_settings_are_rejected(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"^{message}"):
        Quantization(**wrong)


def task_of(x: Any, y: Any) -> Any:
    return Task((x, y), (x[:4], y[:4]), (x[4:9], y[4:9]))


@pytest.mark.parametrize("config", [
    Quantization(), Quantization(method=PTQ(rounding=AdaRound(2))),
    Quantization(method=PTQ(correct_bias=True)), Quantization(activations=None, method=PTQ(correct_bias=True)),
    Quantization(activations=None, method=PTQ(rounding=BRECQ(2))),
    Quantization(mixed=MixedPrecision(size="9 kB", samples=16)),
    Quantization(activations=None, mixed=MixedPrecision(size="9 kB", samples=16)),
    Quantization(method="qat")], ids=range(8))
def test_data_that_do_not_fit_are_rejected(small: Program, config: Any) -> None:
    before = {name: value.clone() for name, value in small.state_dict().items()}
    y = torch.arange(64) % 3
    with pytest.raises(DataError, match=r"calibration samples have shape \(3, 7, 8\), but the "
                                        r"program expects shape \(3, 8, 8\); pass samples of"):
        quantize(small, task_of(torch.randn(64, 3, 7, 8), y), config)
    broken = torch.randn(64, 3, 8, 8)
    broken[5, 0, 0, 0] = float("nan")
    with pytest.raises(DataError, match="sample 5 of the train split holds NaN or infinity; "
                                        "remove or fix it"):
        quantize(small, task_of(broken, y), config)
    with pytest.raises(DataError, match=r"calibration samples have type torch\.int64 for x, but "
                                        r"the program expects torch\.float32"):
        quantize(small, task_of(broken.nan_to_num().long(), y), config)
    torch.testing.assert_close(small.state_dict(), before, rtol=0, atol=0)


def test_fewer_samples_than_a_batch_work(small: Program, colour_task: Task) -> None:
    x, = colour_task.train.example(5)
    few = Task((x, torch.arange(5) % 3), (x, torch.arange(5) % 3), colour_task.test)
    quantized = quantize(small, few)
    assert relative_error(small.run(x), quantized.run(x)) < 0.1
    assert quantize(small, few, Quantization(method=QAT(training=Training(
        epochs=1, batch_size=64)))).is_quantized


def test_data_free_ranges_come_from_the_norms(small: Program, colour_task: Task) -> None:
    x, = colour_task.test.example(200)
    assert relative_error(small.run(x), quantize(small, None).run(x)) < 0.1
    with pytest.raises(UsageError, match="training needs labeled data; pass a task"):
        quantize(small, None, Quantization(method="qat"))
    with pytest.raises(UsageError, match="mixed precision needs labeled data"):
        quantize(small, None, Quantization(mixed=MixedPrecision(size="9 kB")))


def test_schemes_that_match_no_layer_report_the_reason(small: Program, colour_task: Task) -> None:
    with pytest.raises(UsageError, match=r"the scheme matches no layer of the program, so there is "
                                         r"nothing to quantize: stem, one, two and 2 more "
                                         r"\(excluded by the `layers` pattern"):
        quantize(small, colour_task, Quantization(layers={"*": None}))
    with pytest.raises(UsageError, match="layers='stm' matches no layer; similar names: stem"):
        quantize(small, colour_task, Quantization(layers={"stm": None}))
