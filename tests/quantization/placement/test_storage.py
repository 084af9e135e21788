"""Weights that no kernel of integers reads: integers in the program, real numbers for who reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgewright.program import Program
from edgewright.pruning import WeightPruning, prune_weights
from edgewright.quantization import (
    QAT,
    MixedPrecision,
    PerGroup,
    Precision,
    Quantization,
    place,
    quantize,
    resolve,
)
from edgewright.task import Task
from edgewright.training import Training

ALONE = Quantization(activations=None)


class Words(nn.Module):
    """An embedding with a padding row, a recurrent layer, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(100, 16, padding_idx=0)
        self.cells = nn.GRU(16, 16, batch_first=True, bidirectional=True)
        self.head = nn.Linear(32, 3)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.cells(self.table(ids))[0].mean(1))


@pytest.fixture(scope="module")
def words() -> Any:
    torch.manual_seed(0)
    return Program.capture(Words(), torch.zeros(2, 5).long())


@pytest.fixture(scope="module")
def word_task() -> Any:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 100, (96, 5), generator=generator)
    return Task((ids[:64], ids[:64, 0] % 3), test=(ids[64:], ids[64:, 0] % 3))


def rounded(weight: Any, axis: int = 0, most: int = 127) -> Any:
    """Each entry of ``axis`` on the grid of its own greatest magnitude."""
    others = [dim for dim in range(weight.ndim) if dim != axis]
    scale = weight.abs().amax(others, keepdim=True) / most
    return torch.round(weight / scale).nan_to_num() * scale


@pytest.mark.parametrize("activations", [8, "dynamic", None])
def test_a_program_computes_with_the_rounded_numbers_in_every_mode(activations: int | str | None,
                                                                   words: Any,
                                                                   word_task: Any) -> None:
    config = Quantization(activations=activations, range_estimator="minmax", layers={"head": None})
    result = quantize(words, word_task, config)
    names = ["table.weight", *(f"cells.weight_{kind}_l0{way}" for kind in ("ih", "hh")
                               for way in ("", "_reverse"))]
    state = words.state_dict()
    assert {name: result.state_dict()[name].dtype for name in names} == dict.fromkeys(
        names, torch.int8)
    expected = words.with_state({**state, **{name: rounded(state[name]) for name in names}})
    ids = torch.arange(40).reshape(8, 5)
    torch.testing.assert_close(result.run(ids), expected.run(ids), rtol=1e-4, atol=1e-5)
    assert not result.state_dict()["table.weight"][0].any()  # the padding
    assert result.state_dict()["cells.bias_ih_l0"].dtype == torch.float32


def test_bits_patterns_and_the_ends_reach_what_is_only_stored(words: Any) -> None:
    four = place(words, resolve(Quantization(weights=4)))
    assert {p.tensor: p.grid.bits for p in four.weights if "cells" not in p.tensor} == {
        "table.weight": 8, "head.weight": 8}  # next to an end
    assert {p.grid.bits for p in four.weights if "cells" in p.tensor} == {4}
    own = place(words, resolve(Quantization(layers={
        "table": Precision(weights=3), "cells.weight_ih*": None})))
    assert {p.tensor: p.grid.bits for p in own.weights} == {
        "head.weight": 8, "table.weight": 3, "cells.weight_hh_l0": 8,
        "cells.weight_hh_l0_reverse": 8}
    assert own.kept["cells.weight_ih_l0"] == "excluded by the `layers` pattern 'cells.weight_ih*'"
    one = place(words, resolve(Quantization(weights=1, first_last_bits=None, method="qat")))
    assert {p.tensor: p.grid.bits for p in one.weights} == {
        p.tensor: 1 if p.tensor == "head.weight" else 2 for p in one.weights}


def test_groups_and_whole_tensors() -> None:
    program = Program.capture(Words(), torch.zeros(2, 5).long())
    grouped = place(program, resolve(Quantization(activations=None, granularity=PerGroup(16))))
    assert {p.tensor: p.shape for p in grouped.weights if "cells" not in p.tensor} == {
        "table.weight": (100,), "head.weight": (3, 2)}
    whole = quantize(program, None, Quantization(activations=None, granularity="per_tensor"))
    assert "table.weight_scale" not in whole.state_dict()  # a number of the graph


def test_a_tied_table_is_stored_once(net: Any) -> None:
    torch.manual_seed(0)
    tied = net(lambda m, ids: F.linear(m.norm(m.table(ids)), m.table.weight),
               table=nn.Embedding(60, 16), norm=nn.LayerNorm(16))
    program = Program.capture(tied, torch.zeros(2, 5).long())
    (point,) = place(program, resolve(ALONE)).weights
    assert (point.layers, point.readers) == (("linear",), ("embedding",))
    result = quantize(program, None, ALONE)
    assert {name for name in result.state_dict() if name.startswith("table")} == {
        "table.weight", "table.weight_scale", "table.weight_zero_point"}
    ids = torch.arange(20).reshape(4, 5)
    torch.testing.assert_close(result.run(ids), program.run(ids), rtol=0.1, atol=0.05)


@pytest.mark.parametrize(("function", "shape", "axis"), [
    (lambda m, x: F.conv_transpose1d(x, m.w), (16, 20, 9), 1),
    (lambda m, x: x @ m.w, (16, 40), 1),
    (lambda m, x: torch.addmm(x[:, 0, :1], x[:, 0], m.w), (16, 40), 1),
    (lambda m, x: torch.bmm(x.transpose(0, 1), m.w), (16, 16, 20), 2),
    (lambda m, x: F.linear(x, m.w.t()), (16, 40), 0),
    (lambda m, x: m.w[:, :16] + x, (1, 60, 16), 1),
    (lambda m, x: F.linear(x, m.w.chunk(2)[0]), (40, 16), 0),
    (lambda m, x: F.conv_transpose1d(x, m.w), (16, 60, 1), 1),
    (lambda m, x: torch.einsum("bij,jk->bik", x, m.w), (16, 40), 0),
    (lambda m, x: F.embedding(x.argmax(-1), m.w), (200, 3), None),  # rows too short
])
def test_outputs_have_a_scale_each_where_they_are_known_and_long_enough(function: Callable[..., Any],
                                                                        shape: tuple[int, ...],
                                                                        axis: int | None,
                                                                        net: Any) -> None:
    x = torch.randn(4, 16, 16)
    model = net(function)
    model.w = nn.Parameter(torch.randn(shape))
    program = Program.capture(model, x)
    (point,) = place(program, resolve(ALONE)).weights
    assert point.layers == ()
    assert (point.grid.axis, point.shape) == (axis, () if axis is None else (shape[axis],))
    result = quantize(program, None, ALONE.model_copy(update={"range_estimator": "minmax"}))
    error = (result.run(x) - program.run(x)).norm() / program.run(x).norm()
    assert error < 0.01


def test_small_tensors_and_buffers_stay_as_they_are(net: Any) -> None:
    model = net(lambda m, x: x @ m.small + m.fixed[:6])
    model.small = nn.Parameter(torch.randn(6, 6))
    model.register_buffer("fixed", torch.randn(600, 6))
    placement = place(Program.capture(model, torch.randn(2, 6, 6)), resolve(ALONE))
    assert placement.weights == ()
    assert placement.kept == {
        "small": "it is so small that integers would save no bytes"}


@pytest.mark.parametrize("layer", [
    nn.ConvTranspose2d(4, 16, 2, 2), nn.ConvTranspose2d(4, 16, 2, 2, groups=2, bias=False),
    nn.Conv3d(4, 16, 2)])
@pytest.mark.parametrize("granularity", ["per_channel", "per_tensor"])
def test_training_takes_stored_weights_and_their_norms_along(layer: Any, granularity: str) -> None:
    torch.manual_seed(0)
    is_flat = isinstance(layer, nn.ConvTranspose2d)
    norm = nn.BatchNorm2d(16) if is_flat else nn.BatchNorm3d(16)
    x = torch.randn(64, 4, 4, 4) if is_flat else torch.randn(64, 4, 4, 4, 4)
    nn.init.normal_(norm.weight)
    norm.get_buffer("running_var").uniform_(0.5, 2.0)
    model = nn.Sequential(layer, norm, nn.ReLU(), nn.AdaptiveAvgPool2d(1) if is_flat
                          else nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(16, 3))
    program = Program.capture(model, x[:2])
    task = Task((x, torch.arange(64) % 3), test=(x[:8], torch.arange(8) % 3))
    training = Training(epochs=1, batch_size=32, lr=0.01, augment=False)
    result = quantize(program, task, Quantization(method=QAT(training=training), granularity=granularity))
    assert result.state_dict()["0.weight"].dtype == torch.int8
    in_groups = is_flat and layer.groups > 1
    assert any("batch_norm" in node.name for node in result.calls()) == in_groups
    before = torch.nn.functional.softmax(program.run(x), -1)
    assert (before - torch.nn.functional.softmax(result.run(x), -1)).abs().mean() < 0.2


def test_a_step_of_training_moves_a_stored_table(words: Any, word_task: Any) -> None:
    training = Training(epochs=1, batch_size=32, lr=0.05, augment=False)
    trained = quantize(words, word_task, Quantization(method=QAT(training=training)))
    plain = quantize(words, word_task, Quantization())
    for name in ("table.weight_scale", "cells.weight_hh_l0_scale"):
        assert not torch.equal(trained.state_dict()[name], plain.state_dict()[name])


def test_pruned_weights_stay_zero(words: Any, word_task: Any) -> None:
    pruned = prune_weights(words, word_task, WeightPruning(
        sparsity=0.5, training=Training(epochs=1, batch_size=32, augment=False)))
    zeros = {name: value == 0 for name, value in pruned.state_dict().items()
             if name in pruned.sparsity}
    result = quantize(pruned, word_task).state_dict()
    assert zeros
    assert all(not result[name][zero].any() for name, zero in zeros.items())


def test_mixed_precision_counts_and_chooses_what_is_only_stored(words: Any, word_task: Any) -> None:
    mixed = MixedPrecision(size="4.6 kB", weights=(8, 4), samples=32)
    result = quantize(words, word_task, Quantization(mixed=mixed, first_last_bits=None))
    bits = {name: int(value.abs().max()) <= 8 for name, value in result.state_dict().items()
            if value.dtype == torch.int8}
    assert any(bits.values())
    assert len(bits) == 6
