"""Residual branches are found, and removing one is equivalent to zeroing it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.programs import Net
from torch import Tensor, nn

from edgewright.channels import (
    Branch,
    _branch_removal,
    find_branches,
    find_groups,
    remove_branch,
    remove_branches,
    remove_channels,
    resolve_branches,
)
from edgewright.errors import ParityError, UsageError
from edgewright.exits import EarlyExits, add_exits
from edgewright.graph import compare_outputs, draw_random_inputs, stored_tensors
from edgewright.program import Program, outputs_of, set_outputs, split_at_exits
from edgewright.task import Task

IMAGE = torch.zeros(1, 3, 8, 8)
TOKENS = torch.zeros(1, 5, 8)


def conv(inputs: Any, outputs: Any, size: int = 3, **options: Any) -> Any:
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, **options)


def ends(size: int = 8) -> dict[str, Any]:
    return {"stem": conv(3, size), "head": conv(size, 4)}


def names(program: Program) -> Any:
    return [branch.name for branch in find_branches(program)]


def without(program: Program, name: str) -> Any:
    """The program without the one branch of that name, held against the branch's own claims."""
    (branch,) = (found for found in find_branches(program) if found.name == name)
    before, weights = program.costs(), copy.deepcopy(program.state_dict())
    short = remove_branch(program, branch)
    assert short.costs().macs == before.macs - branch.macs
    left = set(stored_tensors(program.graph_module)) - set(branch.tensors)
    assert set(stored_tensors(short.graph_module)) == left
    torch.testing.assert_close(program.state_dict(), weights, rtol=0, atol=0)
    return short


def check(program: Program, name: str, reference: Any) -> Any:
    """Removing a branch gives the reference, for other batch sizes too, saved and loaded too."""
    short = without(program, name)
    for batch in (1, 3):
        example = tuple(x[:1].expand(batch, *x.shape[1:]) for x in program.example_inputs)
        inputs = draw_random_inputs(example, seed=batch)
        with torch.no_grad():
            want = reference(*inputs)
        torch.testing.assert_close(short.run(*inputs), want, rtol=1e-4, atol=1e-5)
    return short


def test_all_nine_blocks_of_resnet20_can_be_removed(resnet20_program: Program,
                                                    resnet: Callable[[int], nn.Module]) -> None:
    want = [f"layer{stage}.{block}" for stage in (1, 2, 3) for block in range(3)]
    assert names(resnet20_program) == want
    for name in ("layer1.1", "layer2.0", "layer3.2"):
        model = resnet(3)
        model.get_parameter(f"{name}.bn2.weight").data.zero_()
        model.get_parameter(f"{name}.bn2.bias").data.zero_()
        check(resnet20_program, name, model)


def test_all_blocks_can_be_removed_one_after_the_other(resnet20_program: Program) -> None:
    program = resnet20_program
    while found := find_branches(program):
        program = remove_branch(program, found[-1])
    assert sorted({name.partition(".")[0] for name in program.state_dict()}) == [
        "bn1", "conv1", "linear"]
    assert program.run(torch.zeros(3, 3, 32, 32)).shape == (3, 10)


def test_attention_and_mlp_branches_of_a_transformer(net: type[Net]) -> Any:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
    model = net(lambda m, x: m.head(m.layer(x).mean(1)), layer=layer, head=nn.Linear(8, 3)).eval()
    program = Program.capture(model, TOKENS)
    assert names(program) == ["layer.{norm1,self_attn}", "layer.{linear1,linear2,norm2}"]

    def no_attention(x: Any) -> Any:
        return model.head((x + layer._ff_block(layer.norm2(x))).mean(1))

    check(program, "layer.{norm1,self_attn}", no_attention)


def test_layer_scale_and_squeeze_excite_are_removed_with_their_branch(net: type[Net],
                                                                      randomise: Callable[..., nn.Module]) -> Any:
    def block(m: Any, x: Any) -> Any:
        y = m.norm(m.deep(x))
        y = y * m.gate(y.mean((2, 3), keepdim=True)).sigmoid()
        return x + m.gamma * nn.functional.dropout(m.out(y), 0.1, m.training)

    inner = net(block, deep=conv(8, 8, 7, groups=8), norm=nn.BatchNorm2d(8), gate=conv(8, 8, 1),
                out=conv(8, 8, 1), gamma=nn.Parameter(torch.rand(8, 1, 1)))
    model = randomise(net(lambda m, x: m.head(m.block(m.stem(x))), block=inner, **ends())).eval()
    program = Program.capture(model, IMAGE)
    assert names(program) == ["block"]
    head, stem = model.get_submodule("head"), model.get_submodule("stem")
    check(program, "block", lambda x: head(stem(x)))


def test_an_outer_branch_includes_inner_ones(net: type[Net]) -> Any:
    def outer(m: Any, x: Any) -> Any:
        y = m.a(x)
        return x + m.c(y + m.b(y).relu())

    model = net(lambda m, x: m.head(m.outer(m.stem(x))), **ends(),
                outer=net(outer, a=conv(8, 6), b=conv(6, 6), c=conv(6, 8)))
    program = Program.capture(model, IMAGE)
    assert names(program) == ["outer.b", "outer"]
    inner = check(program, "outer.b", lambda x: model.head(
        model.stem(x) + model.outer.c(model.outer.a(model.stem(x)))))
    bare = check(inner, "outer", lambda x: model.head(model.stem(x)))
    assert find_branches(bare) == ()


def test_each_term_of_a_longer_sum_is_a_branch(net: type[Net]) -> None:
    model = net(lambda m, x: m.head((y := m.stem(x)) + m.a(y) + m.b(y)), **ends(),
                a=conv(8, 8), b=conv(8, 8))
    program = Program.capture(model, IMAGE)
    assert names(program) == ["a", "b"]
    check(program, "a", lambda x: model.head((y := model.stem(x)) + model.b(y)))
    check(program, "b", lambda x: model.head((y := model.stem(x)) + model.a(y)))


def test_a_projection_shortcut_and_its_branch_can_be_removed(net: type[Net]) -> None:
    model = net(lambda m, x: m.head(m.b(m.a(y := m.stem(x)).relu()) + m.short(y)),
                stem=conv(3, 4), a=conv(4, 8, stride=2), b=conv(8, 8),
                short=conv(4, 8, 1, stride=2), head=conv(8, 4))
    program = Program.capture(model, IMAGE)
    assert names(program) == ["{a,b}", "short"]
    check(program, "short", lambda x: model.head(model.b(model.a(model.stem(x)).relu())))
    check(program, "{a,b}", lambda x: model.head(model.short(model.stem(x))))


@pytest.mark.parametrize("forward", [
    lambda m, x: m.head(torch.cat([m.stem(x), m.a(m.stem(x))], 1)[:, :8]),  # dense
    lambda m, x: m.head(m.stem(x) + m.bias),
    lambda m, x: m.head(m.stem(x) + m.bias.expand(x.shape[0], 8, 8, 8)),
    lambda m, x: m.head(m.stem(x) + m.a(m.stem(x)).mean((2, 3), keepdim=True)),  # broadcast
    lambda m, x: m.head((y := m.stem(x)) + y.relu()),  # no parameters
    lambda m, x: m.head(torch.add(y := m.stem(x), m.a(y), alpha=2)),
    lambda m, x: m.head((y := m.stem(x)) * m.a(y)),
    lambda m, x: m.head((y := m.stem(x)) + y),
])
def test_operands_that_are_not_branches(net: type[Net], forward: Callable[..., Any]) -> None:
    model = net(forward, **ends(), a=conv(8, 8), bias=nn.Parameter(torch.rand(1, 8, 1, 1)))
    assert names(Program.capture(model, IMAGE)) == []


def test_every_input_is_still_read(net: type[Net]) -> None:
    model = net(lambda m, x, y: m.head(m.stem(x) + m.a(y)), **ends(), a=conv(3, 8))
    assert names(Program.capture(model, (IMAGE, IMAGE))) == []
    model = net(lambda m, x, y: m.head(m.stem(x) + m.a(y)) + y.mean(), **ends(), a=conv(3, 8))
    assert names(Program.capture(model, (IMAGE, IMAGE))) == ["a"]


def test_shared_layers_that_are_still_read_stay(net: type[Net]) -> None:
    model = net(lambda m, x: m.head((y := m.stem(x)) + m.b(m.a(y).relu())) + m.a(y).mean(),
                **ends(), a=conv(8, 8), b=conv(8, 8))
    program = Program.capture(model, IMAGE)
    assert names(program) == ["b"]
    check(program, "b", lambda x: model.head(y := model.stem(x)) + model.a(y).mean())


def _bottleneck(m: Any, x: Any) -> Any:
    """As in torchvision: every activation and the addition are in place."""
    y = m.stem(x).relu_()
    z = m.norm(m.a(y)).relu_()
    z = m.b(z)
    z += y
    return m.head(z.relu_())


def test_in_place_blocks(net: type[Net], randomise: Callable[..., nn.Module]) -> None:
    model = randomise(net(_bottleneck, **ends(), a=conv(8, 8), norm=nn.BatchNorm2d(8),
                          b=conv(8, 8))).eval()
    program = Program.capture(model, IMAGE)
    assert names(program) == ["{a,b,norm}"]
    head, stem = model.get_submodule("head"), model.get_submodule("stem")
    short = check(program, "{a,b,norm}", lambda x: head(stem(x).relu()))
    assert not any("clone" in node.name for node in short.calls())


def test_memory_that_others_read_is_not_overwritten(net: type[Net]) -> Any:
    def forward(m: Any, x: Any) -> Any:
        y = m.stem(x)
        z = (y + m.a(y)).sigmoid_()
        return m.head(z) + y.mean()  # read after the write

    model = net(forward, **ends(), a=conv(8, 8))
    check(Program.capture(model, IMAGE), "a",
          lambda x: model.head((y := model.stem(x)).sigmoid()) + y.mean())


def test_an_input_is_not_overwritten(net: type[Net]) -> None:
    model = net(lambda m, x: m.head((x + m.a(x)).relu_()), a=conv(3, 3), head=conv(3, 4))
    short = check(Program.capture(model, IMAGE), "a", lambda x: model.head(x.relu()))
    x = torch.randn(2, 3, 8, 8)
    before = x.clone()
    short.run(x)
    assert torch.equal(x, before)


def test_an_in_place_sum_that_others_read_keeps_its_branch(net: type[Net]) -> Any:
    def forward(m: Any, x: Any) -> Any:
        y = m.stem(x)
        flat = y.flatten(2)
        flat += m.a(x).flatten(2)  # written through a view
        return m.head(y)

    program = Program.capture(net(forward, **ends(), a=conv(3, 8)), IMAGE)
    assert "stem" not in names(program)


def test_the_trunk_before_a_write_in_the_branch_keeps_it(net: type[Net]) -> Any:
    def forward(m: Any, x: Any) -> Any:
        y = m.stem(x)
        torch.ops.aten.relu_(y)  # the skip reads what this wrote
        return m.head(y + m.a(y))

    model = net(forward, **ends(), a=conv(8, 8))
    check(Program.capture(model, IMAGE), "a", lambda x: model.head(model.stem(x).relu()))


def test_a_program_with_exits_is_shortened_and_still_splits() -> None:
    torch.manual_seed(0)

    class Block(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return (x + super().forward(x)).relu()

    model = nn.Sequential(conv(3, 8), *(Block(8, 8, 3, padding=1) for _ in range(3)),
                          nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    x, y = torch.randn(8, 3, 8, 8), torch.arange(8) % 4
    program = add_exits(Program.capture(model, x), Task((x, y), test=(x, y)),
                        EarlyExits(places=2, training=None))
    assert names(program) == ["1", "2", "3"]
    for branch in find_branches(program):
        short = remove_branch(program, branch)
        assert short.exits == 2
        features, logits = x, []
        segments = split_at_exits(short)
        for segment in segments[:-1]:
            early, features = segment.run(features)
            logits.append(early)
        logits.append(segments[-1].run(features))
        torch.testing.assert_close(tuple(logits), short.run(x))


def test_layers_inside_a_branch_that_an_exit_reads_stay(net: type[Net]) -> None:
    model = net(lambda m, x: m.head((y := m.stem(x)) + m.b(m.a(y))), **ends(), a=conv(8, 8),
                b=conv(8, 8))
    program = Program.capture(model, IMAGE).copy()
    inside = next(node for node in program.calls() if node.name == "conv2d_1")
    set_outputs(program.graph_module, (inside, *outputs_of(program)))
    program.graph_module.recompile()
    assert names(program) == ["b"]
    check(program, "b", lambda x: (model.a(y := model.stem(x)), model.head(y)))


def test_before_and_after_channels_are_removed(resnet20_program: Program,
                                               choose: Callable[..., list[int]]) -> Any:
    def half(program: Program) -> Any:
        groups = find_groups(program)
        return remove_channels(program, groups, choose(groups))

    pruned = half(without(resnet20_program, "layer2.0"))
    assert "layer1.2" in names(pruned)
    assert without(pruned, "layer1.2").run(torch.zeros(3, 3, 32, 32)).shape == (3, 10)


def test_a_shortened_program_survives_being_saved(resnet20_program: Program,
                                                  tmp_path: Path) -> None:
    short = without(resnet20_program, "layer3.1")
    short.save(tmp_path / "p.pt2")
    loaded = Program.load(tmp_path / "p.pt2")
    x = torch.randn(3, 3, 32, 32)
    assert torch.equal(loaded.run(x), short.run(x))
    assert names(loaded) == names(short)


def test_a_branch_of_another_program_is_refused(resnet20_program: Program,
                                                small_program: Program) -> None:
    (branch, *_) = find_branches(resnet20_program)
    for program in (small_program, remove_branch(resnet20_program, branch)):
        with pytest.raises(UsageError, match=r"has no branch layer1\.0 at add; use one that"):
            remove_branch(program, branch)
    with pytest.raises(UsageError, match="has no branch x at conv2d"):
        remove_branch(small_program, Branch("x", "conv2d", 0, (), 0))


def test_the_proof_can_fail(resnet20_program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    (branch, *_) = find_branches(resnet20_program)
    monkeypatch.setattr(_branch_removal, "compare_outputs", lambda want, have: 0.5)
    with pytest.raises(ParityError, match=r"removing the branch layer1\.0 changed something else"):
        remove_branch(resnet20_program, branch)
    with pytest.raises(ParityError, match=r"removing the branches layer1\.0, layer1\.1, layer1\.2 "
                                          "and 6 more changed something else"):
        remove_branches(resnet20_program, find_branches(resnet20_program))


def test_several_branches_are_removed_as_one_after_the_other(
        resnet20_program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    proofs: list[float] = []

    def counted(want: Any, have: Any) -> float:
        proofs.append(compare_outputs(want, have))
        return proofs[-1]

    one_by_one = resnet20_program
    for name in ("layer3.2", "layer1.0", "layer2.0"):
        one_by_one = remove_branch(one_by_one, resolve_branches(one_by_one, [name])[0])
    monkeypatch.setattr(_branch_removal, "compare_outputs", counted)
    branches = resolve_branches(resnet20_program, ["layer3.2", "layer1.0", "layer2.0"])
    at_once = remove_branches(resnet20_program, branches)
    assert len(proofs) == 1
    assert at_once.graph_module.code == one_by_one.graph_module.code
    assert at_once.costs() == one_by_one.costs()
    torch.testing.assert_close(at_once.state_dict(), one_by_one.state_dict(), rtol=0, atol=0)
    assert len(find_branches(resnet20_program)) == 9  # unchanged


def test_a_branch_inside_a_removed_one_goes_with_it(net: type[Net]) -> Any:
    def outer(m: Any, x: Any) -> Any:
        y = m.a(x)
        return x + m.c(y + m.b(y).relu())

    model = net(lambda m, x: m.head(m.outer(m.stem(x))), **ends(),
                outer=net(outer, a=conv(8, 6), b=conv(6, 6), c=conv(6, 8)))
    program = Program.capture(model, IMAGE)
    inner_first = remove_branches(program, resolve_branches(program, ["outer.b", "outer"]))
    outer_first = remove_branches(program, resolve_branches(program, ["outer", "outer.b"]))
    x = torch.randn(2, 3, 8, 8)
    for short in (inner_first, outer_first):
        assert set(short.state_dict()) == {"stem.weight", "stem.bias", "head.weight", "head.bias"}
        torch.testing.assert_close(short.run(x), model.head(model.stem(x)))


def test_in_place_branches_are_removed_together(net: type[Net]) -> None:
    def forward(m: Any, x: Any) -> Any:
        y = m.stem(x)
        first = (y + m.a(y)).sigmoid_()
        second = (first + m.b(first)).relu_()
        return m.head(second) + y.mean() + first.mean()

    model = net(forward, **ends(), a=conv(8, 8), b=conv(8, 8))
    program = Program.capture(model, IMAGE)
    short = remove_branches(program, find_branches(program))
    x = torch.randn(2, 3, 8, 8)
    y = model.stem(x)
    first = y.sigmoid()
    torch.testing.assert_close(short.run(x), model.head(first.relu()) + y.mean() + first.mean())


def test_both_operands_of_an_addition_cannot_be_removed(net: type[Net]) -> None:
    model = net(lambda m, x: m.head(m.b(m.a(y := m.stem(x)).relu()) + m.short(y)),
                stem=conv(3, 4), a=conv(4, 8, stride=2), b=conv(8, 8),
                short=conv(4, 8, 1, stride=2), head=conv(8, 4))
    program = Program.capture(model, IMAGE)
    with pytest.raises(UsageError, match=r"the branches \{a,b\} and short cannot both be removed: "
                                         "they are the operands of one addition, add"):
        remove_branches(program, find_branches(program))


def test_branches_that_together_read_an_input_are_not_all_removed(net: type[Net]) -> None:
    def forward(m: Any, x: Any, y: Any) -> Any:
        z = m.stem(x)
        z = z + m.a(torch.cat([z, y], 1))
        return m.head(z + m.b(torch.cat([z, y], 1)))

    model = net(forward, **ends(), a=conv(11, 8), b=conv(11, 8))
    program = Program.capture(model, (IMAGE, IMAGE))
    assert names(program) == ["a", "b"]
    with pytest.raises(UsageError, match="the branch b cannot be removed after the branch a: the "
                                         "program would no longer read every input"):
        remove_branches(program, find_branches(program))


def test_names_are_unique(net: type[Net]) -> None:
    def forward(m: Any, x: Any) -> Any:
        x = m.stem(x)
        for a, b in zip(m.a, m.b, strict=True):
            x = x + b(a(x).relu())
        return m.head(x)

    model = net(forward, **ends(), a=nn.ModuleList([conv(8, 8), conv(8, 8)]),
                b=nn.ModuleList([conv(8, 8), conv(8, 8)]))
    program = Program.capture(model, IMAGE)
    assert names(program) == ["{a.0,b.0}", "{a.1,b.1}"]
    for name, branch in zip(names(program), find_branches(program), strict=True):
        assert resolve_branches(program, [name]) == (branch,)
        assert "b.0.bias" in remove_branch(program, branch).state_dict() or name == "{a.0,b.0}"


def test_unknown_and_repeated_names_are_refused(resnet20_program: Program) -> None:
    with pytest.raises(UsageError, match=r"'layer1\.9' is no branch of this program; did you mean "
                                         r".*'layer1\.[012]'.*\?; the branch 'layer2\.0' is named "
                                         "2 times"):
        resolve_branches(resnet20_program, ["layer1.9", "layer2.0", "layer2.0"])
    with pytest.raises(UsageError, match=r"'x' is no branch of this program; it has layer1\.0, "):
        resolve_branches(resnet20_program, ["x"])
