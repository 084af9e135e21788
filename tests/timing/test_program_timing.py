"""Measured latency tables, and pruning by them; no time is asserted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgewright.allocation import LatencyTable, LayerTimes
from edgewright.channels import find_groups
from edgewright.program import Program
from edgewright.pruning import ChannelPruning, prune
from edgewright.timing import measure_layer_latencies


def test_a_program_is_timed_layer_by_layer_and_stored(mixed_program: Program,
                                                      tmp_path: Path) -> None:
    path = tmp_path / "latency.json"
    table = measure_layer_latencies(mixed_program, path=path)
    assert table.runtime.startswith("onnxruntime ")
    assert list(table.layers) == ["first.weight", "deep.weight", "head.weight", "last.weight"]
    assert table.layers["deep.weight"].outputs == ()
    assert all(time > 0 for times in table.layers.values() for row in times.times_ms
               for time in row)
    again = measure_layer_latencies(mixed_program, find_groups(mixed_program), path)
    head, kept = (found.layers["head.weight"].times_ms for found in (table, again))
    ratio = kept[0][0] / head[0][0]  # the whole is measured again, the layers are not
    for row, other in zip(head, kept, strict=True):
        assert other == pytest.approx([ratio * time for time in row])


def test_without_a_table_the_program_is_timed(mixed_program: Program,
                                              monkeypatch: pytest.MonkeyPatch) -> Any:
    asked = []
    line = LayerTimes((1, 5), (1, 6), ((1.0, 6.0), (5.0, 30.0)))

    def noted(program: Program, groups: Any) -> Any:
        asked.append((program, len(groups.groups)))
        return LatencyTable("a clock", {"first.weight": line, "head.weight": line})

    monkeypatch.setattr("edgewright.pruning._prune.measure_layer_latencies", noted)
    config = ChannelPruning(criterion="magnitude", target="latency", ratio=0.2, round_to=1,
                            allocation="solved", steps=2)
    pruned = prune(mixed_program, None, config)
    assert asked == [(mixed_program, 2)]
    assert pruned.costs().macs < mixed_program.costs().macs
