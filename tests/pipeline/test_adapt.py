"""A recipe is made to fit a budget: weights are priced as the file will store them."""

from __future__ import annotations

import pytest

import edgewright as ew
from edgewright.core import Budget
from edgewright.pipeline import Recipe
from edgewright.pipeline._adapt import adapt
from edgewright.pipeline._bundling import modelled_energy_mj
from edgewright.pipeline.stages import StoredBits
from edgewright.pipeline.stages._stored_bits import computed_costs, stored_bits
from edgewright.program import fold_batch_norm
from edgewright.quantization import MixedPrecision, Precision
from edgewright.task import Task

PRUNING = ew.ChannelPruning(ratio=0.1, round_to=1)


def planned(program: ew.Program, budget: Budget, **scheme: object) -> float:
    recipe = Recipe(prune=PRUNING, quantize=ew.Quantization(**scheme))
    return adapt(recipe, program, budget)[0].prune.ratio


def stored_bytes(program: ew.Program, bits: dict[str, float]) -> float:
    """Of all parameters, by hand."""
    aside = ("running_mean", "running_var")
    return sum(tensor.numel() * bits.get(name, 32) / 8
               for name, tensor in program.state_dict().items() if not name.endswith(aside))


SCHEMES = [
    {}, {"weights": 4}, {"weights": 4, "ends": None}, {"weights": 2, "granularity": "tensor"},
    {"weights": 4, "layers": {"two": None, "head": Precision(weights=2)}},
    {"operators": ("linear",), "weights": 4, "mode": "weight_only", "granularity": "group",
     "ends": None},
]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_bits_are_those_that_quantising_leaves(
        scheme: dict[str, object], trained_program: ew.Program, quadrant_task: Task) -> None:
    config = ew.Quantization(calibration_samples=32, **scheme)
    after = ew.quantize(trained_program, quadrant_task, config)
    found = stored_bits(trained_program, config)
    assert found.most == found.fewest
    layers = {layer.weight: layer.weight_bits for layer in after.costs().layers
              if layer.weight_bits < 32}
    state = after.state_dict()
    assert found.most == {name: pytest.approx(
        bits + 32 * state[f"{name}_scale"].numel() / state[name].numel())
        for name, bits in layers.items()}


@pytest.mark.parametrize("scheme", [{}, {"layers": {"one": None}}, {"mode": "weight_only"}])
def test_the_energy_is_that_of_the_quantised_program(
        scheme: dict[str, object], trained_program: ew.Program, quadrant_task: Task) -> None:
    config = ew.Quantization(calibration_samples=32, **scheme)
    after = ew.quantize(trained_program, quadrant_task, config).costs()
    before = fold_batch_norm(trained_program).costs()
    found = computed_costs(trained_program, before, config, stored_bits(trained_program, config))
    assert found.macs_by_bits() == after.macs_by_bits()
    assert modelled_energy_mj(found) == pytest.approx(modelled_energy_mj(after), rel=0.1)


def test_without_a_scheme_everything_stays_in_floating_point(trained_program: ew.Program) -> None:
    costs = trained_program.costs()
    assert stored_bits(trained_program, None) == StoredBits()
    assert computed_costs(trained_program, costs, None, StoredBits()) is costs


@pytest.mark.parametrize("weights", [(8, 2), (8, None, 2)])
def test_bits_that_a_scheme_chooses_lie_between_two(weights: tuple[int | None, ...],
                                                    trained_program: ew.Program) -> None:
    mixed = MixedPrecision(size="5 kB", weights=weights)
    config = ew.Quantization(mixed=mixed, layers={"one": Precision(weights=4)})
    found = stored_bits(trained_program, config)
    assert found.most_bytes == 5000
    assert {name: int(bits) for name, bits in found.fewest.items()} == {
        "stem.weight": 11, "one.weight": 4, "two.weight": 2, "head.weight": 8}
    assert {name: int(bits) for name, bits in found.most.items()} == ({} if None in weights else {
        "stem.weight": 11, "one.weight": 4, "two.weight": 8, "head.weight": 8})


def test_few_bits_leave_more_channels(trained_program: ew.Program) -> None:
    whole = stored_bytes(trained_program, stored_bits(trained_program, ew.Quantization()).most)
    budget = Budget(size=f"{round(0.6 * whole)} B")
    ratios = [planned(trained_program, budget, **scheme) for scheme in (
        {"layers": {"one": None}}, {}, {"weights": 4}, {"weights": 4, "ends": None})]
    assert ratios[0] > ratios[1] > ratios[2] > ratios[3] >= PRUNING.ratio


def test_bits_that_fit_the_budget_by_themselves_need_no_pruning(
        trained_program: ew.Program) -> None:
    whole = stored_bytes(trained_program, stored_bits(trained_program, ew.Quantization()).most)
    budget = Budget(size=f"{round(0.6 * whole)} B")
    mixed = {size: MixedPrecision(size=f"{round(size * whole)} B") for size in (0.5, 0.6)}
    assert planned(trained_program, budget, mixed=mixed[0.5]) == PRUNING.ratio
    assert planned(trained_program, budget, mixed=mixed[0.6]) == planned(trained_program, budget)


def test_layers_of_exits_to_come_may_have_their_bits(trained_program: ew.Program) -> None:
    recipe = Recipe(prune=PRUNING, exits=ew.EarlyExits(places=1), quantize=ew.Quantization(
        layers={"exits": Precision(weights=4)}))
    assert adapt(recipe, trained_program, Budget(size="90 %"))[0].prune == PRUNING
