"""Recurrent layers in ONNX files: one operator each, of any length, whole or pruned."""

from __future__ import annotations

from collections import Counter
from typing import Any

import onnx
import pytest
import torch
from tests.programs import Net, choose, prune
from torch import nn

from edgewright.channels import find_groups
from edgewright.exporters import to_onnx
from edgewright.program import Program
from edgewright.runtime import OnnxEngine

KINDS = {"GRU": nn.GRU, "LSTM": nn.LSTM, "RNN": nn.RNN}


def forward(m: Any, x: Any) -> Any:
    x = m.c(x).relu()
    steps, state = m.r(x.transpose(1, 2) if m.r.batch_first else x.permute(2, 0, 1))
    last = (state[0] if isinstance(state, tuple) else state)[-1]
    return steps if m.r.batch_first else steps.transpose(0, 1), m.h(last)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", [
    {"batch_first": True},
    {"batch_first": True, "num_layers": 2, "bidirectional": True},
    {"bidirectional": True, "bias": False},
], ids=["one", "stacked", "without bias"])
def test_a_file_takes_any_length_and_keeps_its_layers_whole(kind: str, settings: Any,
                                                            net: type[Net]) -> None:
    model = net(forward, c=nn.Conv1d(4, 8, 3, stride=2, padding=1), r=KINDS[kind](8, 8, **settings),
                h=nn.Linear(8, 3)).eval()
    program = Program.capture(model, torch.randn(2, 4, 20), dynamic={"inputs_0": {2: (6, 300)}})
    pruned = prune(program, choose(find_groups(program), 0, 0.4))
    assert pruned.costs().macs < program.costs().macs
    for each in (program, pruned):
        content = to_onnx(each)
        operators = Counter(node.op_type for node in onnx.load_from_string(content).graph.node)
        assert operators[kind] == settings.get("num_layers", 1)
        engine = OnnxEngine(content)
        for length in (6, 21, 300):
            x = torch.randn(3, 4, length)
            found = [torch.from_numpy(part) for part in engine.run((x.numpy(),))]
            torch.testing.assert_close(found, list(each.run(x)), rtol=1e-4, atol=1e-5)
            if each is program:
                torch.testing.assert_close(found, [part.detach() for part in model(x)],
                                           rtol=1e-4, atol=1e-5)


def test_a_rectified_layer_stays_rectified(net: type[Net]) -> None:
    program = Program.capture(net(lambda m, x: m.r(x)[0], r=nn.RNN(
        4, 8, nonlinearity="relu", bidirectional=True, batch_first=True)), torch.randn(2, 5, 4))
    x = 9 * torch.randn(3, 5, 4)
    found = torch.from_numpy(OnnxEngine(to_onnx(program)).run((x.numpy(),))[0])
    torch.testing.assert_close(found, program.run(x), rtol=1e-4, atol=1e-5)
    assert float(found.max()) > 1
