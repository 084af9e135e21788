"""Values of constants may be read in Python; those of inputs are refused at their line, quietly."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.programs import Net
from torch import Tensor, nn

from edgewright.errors import ModelError
from edgewright.program import Program

MASK = nn.Transformer.generate_square_subsequent_mask


class Reading(nn.Module):
    """Reads a buffer and a mask made in forward, as code that is fine in Python does."""

    times: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("times", torch.tensor(3))
        self.register_buffer("scale", torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(int(self.times)):
            x = x * self.scale.item() + 1
        mask = torch.full((4, 4), -1.0).triu(1)
        if (mask == mask.triu()).all():
            x = x @ mask
        return x


def test_constants_are_read_as_they_are() -> None:
    model = Reading()
    program = Program.capture(model, torch.zeros(1, 4))
    x = torch.randn(5, 4)
    torch.testing.assert_close(program.run(x), model(x))


def test_a_mask_made_in_forward_goes_through_torchs_own_encoder(net: type[Net],
                                                                tmp_path: Path) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = net(lambda m, x: m.encoder(x, mask=MASK(6)),
                encoder=nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)).eval()
    program = Program.capture(model, torch.zeros(1, 6, 8))
    x = torch.randn(3, 6, 8)
    torch.testing.assert_close(program.run(x), model(x).detach())
    program.save(tmp_path / "p.pt2")
    assert torch.equal(Program.load(tmp_path / "p.pt2").run(x), program.run(x))


def branch(x: Any) -> Any:
    if x.sum() > 0:
        return x
    return -x


def loop(x: Any) -> Any:
    while x.sum() < 1:
        x = x + 1
    return x


def check(x: Any) -> Any:
    assert x.sum() > -1e9
    return x


def count(x: Any) -> Any:
    for i in range(x.max().long()):
        x = x + i
    return x


@pytest.mark.parametrize(("function", "line"), [
    (branch, "if x.sum() > 0:): branches on"),
    (loop, "while x.sum() < 1:): branches on"),
    (check, "assert x.sum() > -1e9): branches on"),
    (count, "for i in range(x.max().long()):): reads"),
    (lambda x: x * int(x.max()), "int(x.max())"),
    (lambda x: x * float(x.max().item()), "float(x.max().item())"),
    (lambda x: x * torch.from_numpy(x.detach().numpy()), ": hands numpy"),
], ids=["if", "while", "assert", "range", "int", "item", "numpy"])
def test_a_value_of_an_input_is_refused_in_one_line(net: type[Net], function: Any, line: str,
                                                    capfd: pytest.CaptureFixture[str],
                                                    caplog: pytest.LogCaptureFixture) -> None:
    with (caplog.at_level(logging.WARNING),
          pytest.raises(ModelError, match="depends on the input, which a graph") as caught):
        Program.capture(net(lambda _, x: function(x)), torch.ones(1, 4))
    message = str(caught.value)
    assert line in message
    assert f"{__file__}:" in message
    assert "torch.where" in message
    assert "\n" not in message
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_shapes_that_do_not_fit_are_refused_without_torchs_log(net: type[Net],
                                                               capfd: pytest.CaptureFixture[str],
                                                               caplog: pytest.LogCaptureFixture) -> None:
    model = net(lambda m, x: m.layer(x[:, :5]), layer=nn.Linear(8, 4)).eval()
    with (caplog.at_level(logging.WARNING),
          pytest.raises(ModelError, match=r"cannot be captured at .*mat1 and mat2 shapes")):
        Program.capture(model, torch.zeros(1, 8))
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_what_forward_prints_is_still_printed(net: type[Net],
                                              capfd: pytest.CaptureFixture[str]) -> Any:
    import sys  # noqa: PLC0415

    def forward(_: Any, x: Any) -> Any:
        print("to stderr", file=sys.stderr)
        return branch(x)

    with pytest.raises(ModelError):
        Program.capture(net(forward), torch.ones(1, 4))
    assert "to stderr" in capfd.readouterr().err
