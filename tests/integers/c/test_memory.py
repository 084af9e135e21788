"""Where tensors lie: never two that are needed at once in one place."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from tests.integers.networks import tensor

from edgewright.integers import IntegerNetwork, Lookup, Port, Step, Structure, Sum
from edgewright.integers.c import plan_memory


def add(first: str, second: str, output: str) -> Sum:
    return Sum(inputs=(first, second), output=output, factors=(1, 1), shift=1, low=0, high=255)


def look_up(source: str, output: str) -> Lookup:
    return Lookup(input=source, output=output, table="t")


def network(steps: list[Step], outputs: list[str], size: int = 64) -> IntegerNetwork:
    names = ["in", *(step.output for step in steps)]
    ports = {name: Port(name=name, tensor=name, shape=(size,), order=(0,)) for name in names}
    return IntegerNetwork(
        Structure(tensors=tuple(tensor(name, (size,)) for name in names), steps=tuple(steps),
                  inputs=(ports["in"],), outputs=tuple(ports[name] for name in outputs)),
        {"t": np.arange(256).astype(np.uint8)})


def test_a_chain_of_element_wise_steps_needs_one_place() -> None:
    plan = plan_memory(network([look_up("in", "a"), look_up("a", "b"), look_up("b", "c"),
                                look_up("c", "out")], ["out"]), {})
    assert plan.size == 64
    assert set(plan.offsets.values()) == {0}


def test_what_is_read_later_keeps_its_place() -> None:
    plan = plan_memory(network([look_up("in", "a"), look_up("a", "b"), look_up("b", "c"),
                                add("a", "c", "out")], ["out"]), {})
    assert plan.size == 128
    assert plan.offsets["a"] != plan.offsets["b"] == plan.offsets["c"]


def test_a_tensor_that_is_added_to_itself_is_not_overwritten() -> None:
    plan = plan_memory(network([look_up("in", "a"), add("a", "a", "b"), look_up("b", "out")],
                               ["out"]), {})
    assert plan.offsets["a"] != plan.offsets["b"]


def test_working_memory_lies_beside_what_its_step_reads_and_writes() -> None:
    steps: list[Step] = [look_up("in", "a"), add("in", "a", "b"), look_up("b", "out")]
    plan = plan_memory(network(steps, ["out"]), {1: 100})
    places = sorted([(plan.offsets["a"], 64), (plan.offsets["b"], 64), (plan.scratch[1], 104)])
    assert all(first + size <= second for (first, size), (second, _) in itertools.pairwise(places))
    assert plan.size == 232


def test_steps_are_timed_as_they_run() -> None:
    steps: list[Step] = [look_up("in", "late"), look_up("in", "early"), look_up("early", "first"),
                         add("late", "late", "second")]
    plan = plan_memory(network(steps, ["first", "second"]), {})
    assert plan.offsets["early"] == plan.offsets["late"] == 0


@pytest.mark.parametrize("seed", range(30))
def test_no_two_tensors_that_are_needed_at_once_overlap(seed: int) -> None:
    generator = np.random.default_rng(seed)
    names, steps = ["in"], list[Step]()
    for number in range(14):
        first, second = (str(one) for one in generator.choice(names, 2))
        name = f"t{number}"
        steps.append(look_up(first, name) if generator.random() < 0.4
                     else add(first, second, name))
        names.append(name)
    outputs = sorted({names[-1], str(generator.choice(names[1:]))})
    of = network(steps, outputs)
    plan, held = plan_memory(of, {}), {"in", *outputs}
    memory: dict[int, str] = {}
    for number in [number for part in of.parts() for number in part]:
        step: Any = of.steps[number]
        for name in step.inputs:
            assert name in held or memory[plan.offsets[name]] == name
        if step.output not in held:
            memory[plan.offsets[step.output]] = step.output
