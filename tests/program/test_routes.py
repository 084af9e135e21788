"""A program is split at its routes into segments that compute what it computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.programs import Net
from tests.routed_models import IMAGES, Conditional, Gated, images
from torch import Tensor, nn

from edgewright.errors import ModelError
from edgewright.graph import ops
from edgewright.program import Program, RoutedSegment, count_branch_macs, split_at_routes


def follow(parts: tuple[RoutedSegment, ...], number: int, values: dict[str, Tensor],
           ran: list[int]) -> dict[str, Tensor]:
    """A slow, obvious interpreter of the wiring, for samples that all take one branch."""
    wiring, program = parts[number].wiring, parts[number].program
    ran.append(number)
    found = program.run(*(values[name] for name in wiring.takes))
    found = found if isinstance(found, tuple) else (found,)
    values = values | dict(zip(wiring.gives, found, strict=True))
    if wiring.fork is None:
        return values
    index = int(values[wiring.fork.index].reshape(-1)[0])
    values = follow(parts, wiring.fork.branches[index], values, ran)
    return values if wiring.fork.after is None else follow(parts, wiring.fork.after, values, ran)


def test_nested_conditions_are_followed_per_call() -> None:
    model = Conditional().eval()
    program = Program.capture(model, torch.randn(2, 4))
    parts = split_at_routes(program)
    paths = set()
    for seed in range(12):
        x = 3 * torch.randn(3, 4, generator=torch.Generator().manual_seed(seed))
        ran: list[int] = []
        values = follow(parts, 0, {"x": x}, ran)
        assert torch.allclose(program.run(x), model.reference(x), atol=1e-6)
        assert torch.allclose(values["output_0"], model.reference(x), atol=1e-6)
        paths.add(tuple(ran))
    assert paths == {(0, 1, 5), (0, 2, 3, 5), (0, 2, 4, 5)}


def test_each_branch_has_its_own_layers_and_nothing_else() -> None:
    program = Program.capture(Gated().eval(), torch.zeros(2, *IMAGES))
    first, small, large, rest = (set(part.program.state_dict()) for part
                                 in split_at_routes(program))
    assert first == {"stem.weight", "stem.bias"}
    assert small == {"small.weight", "small.bias"}
    assert {name.split(".")[0] for name in large} == {"large"}
    assert rest == {"head.weight", "head.bias"}


def test_macs_are_counted_for_all_branches_and_for_the_longest_path() -> None:
    program = Program.capture(Gated().eval(), torch.zeros(2, *IMAGES))
    stem, small, large, head = 64 * 27 * 8, 64 * 64, 64 * 9 * 8 * 16 * 2, 24
    assert count_branch_macs(program) == ((small, large),)
    assert program.costs().macs == stem + small + large + head
    assert program.costs().longest_path_macs == stem + large + head
    nested = Program.capture(Conditional().eval(), torch.zeros(2, 4))
    assert nested.costs().longest_path_macs == 32 + (8 * 16 + 16 * 6) + 18
    assert nested.costs().macs == 32 + (8 * 16 + 16 * 6) + 2 * 48 + 18


def test_a_branch_that_does_nothing_passes_its_value_on() -> None:
    block = nn.Linear(4, 4)
    net = Net(lambda m, x: m.h(ops.ROUTE(x.argmax(1) // 2, [x, m.b(x)])), b=block,
              h=nn.Linear(4, 2))
    parts = split_at_routes(Program.capture(net, torch.zeros(2, 4)))
    for x in (torch.eye(4)[:1], torch.eye(4)[3:]):
        values = follow(parts, 0, {"x": x} | {parts[0].wiring.takes[0]: x}, [])
        assert torch.allclose(values["output_0"], net(x), atol=1e-6)


def test_outputs_from_before_the_route_keep_their_names() -> None:
    def forward(m: Any, x: Tensor) -> Any:
        score = m.g(x)
        return {"add": ops.ROUTE(score.argmax(1), [x + 1, m.a(x)]), "score": score}

    net = Net(forward, g=nn.Linear(4, 2), a=nn.Linear(4, 4))
    parts = split_at_routes(Program.capture(net, torch.zeros(2, 4)))
    x = torch.randn(1, 4)
    values = follow(parts, 0, {parts[0].wiring.takes[0]: x}, [])
    expected = net(x)
    for name in ("add", "score"):
        assert torch.allclose(values[name], expected[name], atol=1e-6), name


def test_two_routes_in_a_row_with_one_index() -> None:
    def forward(m: Any, x: Tensor) -> Any:
        index = x.argmax(1) % 2
        y = ops.ROUTE(index, [m.a(x), m.b(x)]).relu()
        return ops.ROUTE(index, [m.c(y), m.d(y)])

    net = Net(forward, **{name: nn.Linear(4, 4) for name in "abcd"})
    program = Program.capture(net, torch.zeros(2, 4))
    parts = split_at_routes(program)
    for x in torch.randn(6, 1, 4):
        ran: list[int] = []
        values = follow(parts, 0, {parts[0].wiring.takes[0]: x}, ran)
        assert torch.allclose(values["output_0"], program.run(x), atol=1e-6)
        assert len(ran) < len(parts)


def test_routes_survive_saving(tmp_path: Any) -> None:
    program = Program.capture(Gated().eval(), images(2))
    program.save(tmp_path / "gated.pt2")
    loaded = Program.load(tmp_path / "gated.pt2")
    assert torch.equal(loaded.run(images()), program.run(images()))
    assert len(split_at_routes(loaded)) == 4


def test_only_the_branch_taken_gets_a_gradient() -> None:
    module = Program.capture(Gated().eval(), images(2)).module()
    x = images()
    module(x[x.mean((1, 2, 3)) > 0]).sum().backward()
    gradients = {name: float(parameter.grad.abs().sum()) for name, parameter
                 in module.named_parameters() if parameter.grad is not None}
    assert gradients["large.0.weight"] > 0
    assert gradients["small.weight"] == 0


def test_a_branch_per_sample_may_not_look_at_the_batch() -> None:
    net = Net(lambda m, x: ops.ROUTE(x.argmax(1) // 2, [x - x.mean(0), m.a(x)]), a=nn.Linear(4, 4))
    with pytest.raises(ModelError, match="mean computes over all samples of a batch, in a branch"):
        split_at_routes(Program.capture(net, torch.randn(2, 4)))


def test_a_decision_per_call_inside_one_per_sample_is_refused() -> None:
    def forward(m: Any, x: Tensor) -> Any:
        inner = ops.ROUTE((x.sum() > 0).to(torch.int64), [m.a(x), m.b(x)])
        return ops.ROUTE(x.argmax(1) // 2, [inner, x])

    net = Net(forward, a=nn.Linear(4, 4), b=nn.Linear(4, 4))
    with pytest.raises(ModelError, match="decides once per call, but is in a branch"):
        split_at_routes(Program.capture(net, torch.randn(2, 4)))


def test_sizes_may_not_vary() -> None:
    net = Net(lambda m, x: ops.ROUTE(x.mean((1, 2)).gt(0).to(torch.int64), [x, x.relu()]))
    program = Program.capture(net, torch.randn(2, 4, 6), dynamic={"inputs_0": {2: (4, 9)}})
    with pytest.raises(ModelError, match="segments of which only the branch taken runs need"):
        split_at_routes(program)


def test_exits_and_routes_exclude_each_other() -> None:
    program = Program.capture(Net(lambda m, x: (x, ops.ROUTE(x.argmax(1) // 2, [x, x + 1]))),
                              torch.randn(2, 4))
    with pytest.raises(ModelError, match="early exits cannot be added to a program that chooses"):
        split_at_routes(Program(program.graph_module, program.example_inputs, exits=1))
