"""The bits and the energy of a program are known before it is quantized."""

from __future__ import annotations

from typing import Any

import pytest

import edgewright as ew
from edgewright.pipeline._segments import modelled_energy_mj
from edgewright.pipeline.stages import StoredBits
from edgewright.pipeline.stages._stored_bits import predict_computed_costs, predict_stored_bits
from edgewright.program import fold_batch_norm
from edgewright.quantization import MixedPrecision, Precision
from edgewright.task import Task

SCHEMES = [
    {}, {"weights": 4}, {"weights": 4, "first_last_bits": None}, {"weights": 2, "granularity": "per_tensor"},
    {"weights": 4, "layers": {"two": None, "head": Precision(weights=2)}},
    {"operators": ("linear",), "weights": 4, "activations": None, "granularity": ew.PerGroup(), "first_last_bits": None},
]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_predicted_bits_match_the_quantized_program(
        scheme: dict[str, Any], trained_program: ew.Program, quadrant_task: Task) -> None:
    config = ew.Quantization(calibration_samples=32, **scheme)
    after = ew.quantize(trained_program, quadrant_task, config)
    found = predict_stored_bits(trained_program, config)
    assert found.most == found.fewest
    layers = {str(layer.weight): layer.weight_bits for layer in after.costs().layers
              if layer.weight_bits < 32}
    state = after.state_dict()
    assert found.most == {name: pytest.approx(
        bits + 32 * state[f"{name}_scale"].numel() / state[name].numel())
        for name, bits in layers.items()}


@pytest.mark.parametrize("scheme", [{}, {"layers": {"one": None}}, {"activations": None}])
def test_predicted_energy_matches_the_quantized_program(
        scheme: dict[str, Any], trained_program: ew.Program, quadrant_task: Task) -> None:
    config = ew.Quantization(calibration_samples=32, **scheme)
    after = ew.quantize(trained_program, quadrant_task, config).costs()
    before = fold_batch_norm(trained_program).costs()
    found = predict_computed_costs(trained_program, before, config, predict_stored_bits(trained_program, config))
    assert found.macs_by_bits() == after.macs_by_bits()
    assert modelled_energy_mj(found) == pytest.approx(modelled_energy_mj(after), rel=0.1)


def test_without_a_scheme_everything_stays_in_floating_point(trained_program: ew.Program) -> None:
    costs = trained_program.costs()
    assert predict_stored_bits(trained_program, None) == StoredBits()
    assert predict_computed_costs(trained_program, costs, None, StoredBits()) is costs


@pytest.mark.parametrize("weights", [(8, 2), (8, None, 2)])
def test_bits_chosen_by_a_scheme_are_bounded(weights: tuple[int | None, ...],
                                                    trained_program: ew.Program) -> None:
    mixed = MixedPrecision(size="5 kB", weights=weights)
    config = ew.Quantization(mixed=mixed, layers={"one": Precision(weights=4)})
    found = predict_stored_bits(trained_program, config)
    assert found.most_bytes == 5000
    assert {name: int(bits) for name, bits in found.fewest.items()} == {
        "stem.weight": 11, "one.weight": 4, "two.weight": 2, "head.weight": 8}
    assert {name: int(bits) for name, bits in found.most.items()} == ({} if None in weights else {
        "stem.weight": 11, "one.weight": 4, "two.weight": 8, "head.weight": 8})
