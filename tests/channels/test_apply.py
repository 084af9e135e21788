"""Applying a program to the user's module: same function, same objects, or no change."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from tests.programs import Net
from torch import Tensor, nn

from edgewright.channels import apply_to, find_branches, find_groups, remove_branch, remove_channels
from edgewright.errors import ModelError, UsageError
from edgewright.exits import EarlyExits, add_exits
from edgewright.graph import draw_random_inputs
from edgewright.program import Program, fold_batch_norm
from edgewright.quantization import quantize
from edgewright.task import Task

IMAGE = (torch.zeros(1, 3, 8, 8),)


def conv(inputs: Any, outputs: Any, size: int = 3, **options: Any) -> Any:
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, **options)


def halved(program: Program, choose: Any) -> Any:
    groups = find_groups(program)
    return remove_channels(program, groups, choose(groups))


def snapshot(model: nn.Module) -> tuple[Any, ...]:
    """Everything that must be as it was: values, gradients, sizes, modes."""
    return ({name: value.clone() for name, value in model.state_dict().items()},
            [None if p.grad is None else p.grad.clone() for p in model.parameters()],
            [{k: v for k, v in m.__dict__.items() if isinstance(v, int | tuple | bool)}
             for m in model.modules()])


def assert_unchanged(model: nn.Module, before: Any) -> None:
    state, gradients, attributes = snapshot(model)
    assert state.keys() == before[0].keys()
    assert all(torch.equal(state[name], before[0][name]) for name in state)
    assert attributes == before[2]
    for have, want in zip(gradients, before[1], strict=True):
        assert (have is None) == (want is None)
        assert have is None or torch.equal(have, want)


def check(model: nn.Module, inputs: Any, choose: Any) -> tuple[Any, ...]:
    """Prune, apply, and compare the module with the program on inputs it was not proved on."""
    model.eval()
    small = halved(Program.capture(model, inputs), choose)
    applied = apply_to(small, model)
    state = dict(model.state_dict())
    for name, value in small.state_dict().items():
        assert torch.equal(state[name], value)
    example = draw_random_inputs(small.example_inputs, seed=5)
    with torch.no_grad():
        torch.testing.assert_close(model(*example), small.run(*example), rtol=1e-4, atol=1e-5)
    assert Program.capture(model, inputs).costs().macs == small.costs().macs
    return small, applied


def test_a_convolutional_network_and_its_sizes(choose: Callable[..., list[int]],
                                               randomise: Callable[..., nn.Module]) -> None:
    model = randomise(nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), nn.ReLU(), conv(8, 8, groups=8),
                                    nn.PReLU(8), conv(8, 4), nn.Flatten(), nn.Linear(256, 12),
                                    nn.ReLU(), nn.Linear(12, 3)))
    _, applied = check(model, IMAGE, choose)
    assert isinstance(model, nn.Sequential)
    first, norm, deep, slope, last = (cast(Any, model[i]) for i in (0, 1, 3, 4, 5))
    width = first.weight.shape[0]
    assert width < 8
    assert first.out_channels == norm.num_features == slope.num_parameters == width
    assert (deep.in_channels, deep.out_channels, deep.groups) == (width, width, width)
    assert (last.in_channels, last.out_channels) == (width, last.weight.shape[0])
    linear = cast(Any, model[7])
    assert (linear.in_features, linear.out_features) == (64 * last.out_channels, 6)
    assert {"0.weight", "0.bias", "1.running_mean", "3.weight", "4.weight"} <= set(applied.resized)
    assert "9.bias" not in applied.resized
    assert applied.left == ()


def test_a_module_that_reads_sizes_from_its_tensors(net: type[Net],
                                                    choose: Callable[..., list[int]]) -> Any:
    def forward(m: Any, x: Any) -> Any:
        y = m.a(x)
        return m.c(m.b(y).relu() + y).flatten(2).mean(-1)

    model = net(forward, a=conv(3, 8), b=conv(8, 8), c=conv(8, 4))
    _, applied = check(model, IMAGE, choose)
    assert model.a.out_channels == model.b.in_channels == model.c.in_channels < 8
    assert applied.resized == ("a.weight", "a.bias", "b.weight", "b.bias", "c.weight")


def test_the_mlp_of_a_transformer(choose: Callable[..., list[int]]) -> None:
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    program = Program.capture(model.eval(), torch.zeros(1, 5, 8))
    groups = find_groups(program)
    (mlp,) = (group for group in groups.groups if group.name == "linear1.weight")
    small = remove_channels(program, groups, mlp.channels[:10])
    assert apply_to(small, model).resized == ("linear1.weight", "linear1.bias", "linear2.weight")
    assert (model.linear1.out_features, model.linear2.in_features) == (6, 6)
    assert (model.self_attn.embed_dim, model.self_attn.num_heads, model.self_attn.head_dim,
            model.self_attn.kdim, model.self_attn.vdim) == (8, 2, 4, 8, 8)


def test_an_embedding(net: type[Net], choose: Callable[..., list[int]]) -> None:
    model = net(lambda m, x: m.c(m.b(m.e(x)).relu()), e=nn.Embedding(7, 6), b=nn.Linear(6, 8),
                c=nn.Linear(8, 4))
    check(model, (torch.tensor([[1, 2]]),), choose)
    assert model.e.embedding_dim == model.b.in_features < 6


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_recurrent_layer(kind: Any, net: type[Net], choose: Callable[..., list[int]]) -> None:
    model = net(lambda m, x: m.b(m.r(m.a(x))[0].mean(1)), a=nn.Linear(3, 8),
                r=kind(8, 8, bidirectional=True, batch_first=True), b=nn.Linear(16, 4))
    check(model, (torch.zeros(1, 5, 3),), choose)
    assert model.r.input_size == model.a.out_features < 8
    assert 2 * model.r.hidden_size == model.b.in_features < 16


def test_a_recurrent_cell(net: type[Net], choose: Callable[..., list[int]]) -> None:
    model = net(lambda m, x: m.b(m.r(m.a(x))), a=nn.Linear(3, 8), r=nn.GRUCell(8, 8),
                b=nn.Linear(8, 4))
    check(model, (torch.zeros(1, 3),), choose)
    assert (model.r.input_size, model.r.hidden_size) == (model.a.out_features, model.b.in_features)


def test_a_stack_of_different_widths_is_refused(net: type[Net]) -> None:
    model = net(lambda m, x: m.b(m.r(x)[0].mean(1)), b=nn.Linear(8, 4),
                r=nn.GRU(3, 8, num_layers=2, batch_first=True))
    program = Program.capture(model, torch.zeros(1, 5, 3))
    groups = find_groups(program)
    first = next(each for each in groups.groups if "l0" in each.name)
    small = remove_channels(program, groups, first.channels[:2])
    before = snapshot(model)
    with pytest.raises(ModelError, match="one GRU cannot have layers of the widths 6, 8; write"):
        apply_to(small, model)
    assert_unchanged(model, before)


def test_tied_weights_stay_tied(net: type[Net], choose: Callable[..., list[int]]) -> None:
    first, second = nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False)
    second.weight = first.weight
    model = net(lambda m, x: m.c(m.b(m.a(m.s(x)).relu()).relu()), s=nn.Linear(4, 6), a=first,
                b=second, c=nn.Linear(6, 3))
    parameter = model.a.weight
    _, applied = check(model, (torch.zeros(1, 4),), choose)
    assert model.a.weight is model.b.weight is parameter
    assert model.a.in_features == model.b.out_features < 6
    assert {"a.weight", "b.weight"} <= set(applied.resized)


def test_parameters_keep_their_identity_without_stale_gradients(choose: Callable[..., list[int]]) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    model[2].bias.requires_grad_(False)
    model(torch.randn(2, 4)).sum().backward()
    parameters, gradient = list(model.parameters()), model[0].weight.grad
    check(model.train(), (torch.zeros(1, 4),), choose)
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    assert [p.requires_grad for p in parameters] == [True, True, True, False]
    assert gradient is not None
    assert model[0].weight.grad is None
    model(torch.randn(2, 4)).sum().backward()  # and learns on
    assert model[0].weight.grad is not None
    assert model[0].weight.grad.shape == model[0].weight.shape


def test_the_mode_of_every_module_is_kept(choose: Callable[..., list[int]]) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    small = halved(Program.capture(model, torch.zeros(1, 4)), choose)
    model.train()
    model[1].eval()
    apply_to(small, model)
    assert [module.training for module in model.modules()] == [True, True, False, True]


def test_trained_weights_are_copied_not_shared() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    program = Program.capture(model, torch.zeros(1, 4))
    trained = program.with_state({name: value + 1 for name, value in program.state_dict().items()})
    before = copy.deepcopy(trained.state_dict())
    assert apply_to(trained, model).resized == ()
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    model.get_parameter("0.weight").data.zero_()
    torch.testing.assert_close(trained.state_dict(), before, rtol=0, atol=0)


def test_a_program_can_be_applied_after_every_step(choose: Callable[..., list[int]]) -> None:
    model = nn.Sequential(conv(3, 16), nn.ReLU(), conv(16, 4)).eval()
    program = Program.capture(model, IMAGE)
    for expected in (8, 4):
        program = halved(program, choose)
        apply_to(program, model)
        assert model[0].out_channels == expected


def test_weight_norm_must_be_removed_first(net: type[Net],
                                           choose: Callable[..., list[int]]) -> None:
    model = net(lambda m, x: m.b(m.a(x).relu()), b=nn.Linear(8, 3),
                a=nn.utils.parametrizations.weight_norm(nn.Linear(4, 8)))
    program = Program.capture(model.eval(), torch.zeros(1, 4))
    trained = program.with_state({name: value * 2 for name, value in program.state_dict().items()})
    before = snapshot(model)
    with pytest.raises(ModelError, match=(
            r"its code computes a\.weight from a\.parametrizations.*remove_parametrizations")):
        apply_to(trained, model)
    assert_unchanged(model, before)
    nn.utils.parametrize.remove_parametrizations(model.a, "weight")
    apply_to(trained, model)
    x = torch.randn(3, 4)
    torch.testing.assert_close(model(x), trained.run(x))
    assert (model.a.in_features, model.a.out_features) == (4, 8)


def test_batch_counters_are_not_listed_as_left(net: type[Net]) -> None:
    """A buffer of the model's own that evaluation does not read is named, whatever it is called."""
    model = net(lambda m, x: m.n(m.a(x)), a=nn.Linear(4, 3), n=nn.BatchNorm1d(3)).eval()
    model.a.register_buffer("my_num_batches_tracked", torch.zeros(3))
    applied = apply_to(Program.capture(model, torch.zeros(2, 4)), model)
    assert applied.left == ("a.my_num_batches_tracked",)


def test_tensors_not_read_in_evaluation_are_listed_as_left(net: type[Net],
                                                           choose: Callable[..., list[int]]) -> None:
    model = net(lambda m, x: m.b(m.a(x).relu()) + (m.aux(x) if m.training else 0),
                a=nn.Linear(4, 8), b=nn.Linear(8, 3), aux=nn.Linear(4, 3), n=nn.BatchNorm1d(8))
    before = model.aux.weight.clone()
    _, applied = check(model, (torch.zeros(1, 4),), choose)
    assert applied.left == ("aux.weight", "aux.bias", "n.weight", "n.bias", "n.running_mean",
                            "n.running_var")
    assert torch.equal(model.aux.weight, before)


def test_a_constant_size_in_the_code_is_refused_and_nothing_changes(resnet: Callable[[int], nn.Module],
                                                                    resnet20_program: Program,
                                                                    choose: Callable[..., list[int]]) -> None:
    small = halved(resnet20_program, choose)
    model = resnet(3)
    model.get_parameter("linear.weight").grad = torch.ones_like(model.get_parameter("linear.weight"))
    before = snapshot(model)
    message = (r"cannot be applied to ResNet, which was not changed: the forward pass of "
               r"layer2\.0 fails at .*resnet\.py:\d+ \(.*\): .*; a size is a constant in its code")
    with pytest.raises(ModelError, match=message):
        apply_to(small, model)
    assert_unchanged(model, before)


def test_a_different_function_is_detected(net: type[Net]) -> Any:
    def forward(m: Any, x: Any) -> Any:
        y = m.a(x)
        return m.b(y.relu()) / m.scale

    model = net(forward, a=nn.Linear(4, 8), b=nn.Linear(8, 3), scale=8).eval()
    program = Program.capture(model, torch.zeros(1, 4))
    model.scale = 4  # type: ignore[assignment]
    before = snapshot(model)
    with pytest.raises(ModelError, match=r"it would compute something else \(relative error "
                                         r"1\.00e\+00, at most 0\.0001 is allowed\); a size"):
        apply_to(program, model)
    assert_unchanged(model, before)


def test_removed_blocks_are_named(resnet: Callable[[int], nn.Module],
                                  resnet20_program: Program) -> None:
    branch = next(b for b in find_branches(resnet20_program) if b.name == "layer1.1")
    short = remove_branch(resnet20_program, branch)
    model = resnet(3)
    before = snapshot(model)
    with pytest.raises(ModelError, match=(
            r"the program does not read layer1\.1\.conv1\.weight, layer1\.1\.bn1\.weight, .* and "
            r"\d+ more: delete removed blocks from the")):
        apply_to(short, model)
    assert_unchanged(model, before)
    model.set_submodule("layer1.1", nn.Identity())  # as it says
    assert apply_to(short, model).resized == ()
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model(x), short.run(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("other", "message"), [
    (nn.Sequential(nn.Linear(4, 8)), "Sequential has no 2.weight, 2.bias, but the program does"),
    (nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)),
     "0.weight is (6, 4) in Sequential and (8, 4) in the program, whose tensors can only be smaller"),
    (nn.Sequential(nn.Conv1d(4, 8, 1), nn.ReLU(), nn.Linear(8, 3)),
     "0.weight is (8, 4, 1) in Sequential and (8, 4) in the program"),
    (nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).double(),
     "0.weight is torch.float64 in Sequential and torch.float32 in the program; convert"),
])
def test_another_model_is_refused(other: Any, message: str) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    program = Program.capture(model, torch.zeros(1, 4))
    before = snapshot(other)
    with pytest.raises(ModelError, match=re.escape(message)):
        apply_to(program, other)
    assert_unchanged(other, before)


def test_folded_quantized_and_early_exit_programs_are_refused(randomise: Callable[..., nn.Module]) -> None:
    torch.manual_seed(0)
    model = randomise(nn.Sequential(conv(1, 4, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
                                    conv(4, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                                    nn.Linear(4, 3))).eval()
    x, y = torch.randn(8, 1, 8, 8), torch.arange(8) % 3
    task, program = Task((x, y), test=(x, y)), Program.capture(model, x)
    with pytest.raises(ModelError, match="before its batch norms are folded"):
        apply_to(fold_batch_norm(program), model)
    with pytest.raises(UsageError, match="the program is quantized, which the model's own code"):
        apply_to(quantize(program, task), model)
    with pytest.raises(UsageError, match="the program has 1 early exits, which"):
        apply_to(add_exits(program, task, EarlyExits(places=1, training=None)), model)


def test_the_model_is_restored_after_any_interruption(monkeypatch: pytest.MonkeyPatch,
                                                      choose: Callable[..., list[int]]) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    small = halved(Program.capture(model, torch.zeros(1, 4)), choose)
    before = snapshot(model)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    handle = model.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        apply_to(small, model)
    handle.remove()
    assert_unchanged(model, before)


def test_the_module_can_be_captured_and_saved_again(choose: Callable[..., list[int]],
                                                    tmp_path: Path) -> None:
    model = nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 4))
    small, _ = check(model, IMAGE, choose)
    torch.save(model.state_dict(), tmp_path / "w.pt")
    again = copy.deepcopy(model)
    again.load_state_dict(torch.load(tmp_path / "w.pt", weights_only=True))
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(F.relu(again(x)), F.relu(small.run(x)), rtol=1e-4, atol=1e-5)


class Halves(nn.Module):
    """Layers of their own read the halves, so that pruning may cut one more than the other."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 32)
        self.left, self.right = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.first(x).relu().chunk(2, 1)
        return torch.cat([self.left(left), self.right(right)], 1)


def test_unequal_chunks_are_named_as_the_cause() -> None:
    model = Halves()
    program = Program.capture(model, torch.zeros(1, 8))
    groups = find_groups(program)
    left = next(group for group in groups.groups if group.name == "first.weight").channels[:4]
    before = snapshot(model)
    with pytest.raises(ModelError, match=(
            r"its chunk at .*test_apply\.py:\d+ splits into equal parts \(\d+, \d+\), but the "
            r"program splits into \d+, \d+: name the layer before it in ignore")):
        apply_to(remove_channels(program, groups, left), model)
    assert_unchanged(model, before)
