"""``edgewright profile``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from edgewright.cli._refs import capture_reference
from edgewright.core import (
    Manifest,
    OperatingPoint,
    format_count,
    format_metric,
    format_percent,
    format_size,
    format_threshold,
)

if TYPE_CHECKING:
    from edgewright.channels import ChannelGroups
    from edgewright.program import Costs


def profile(
    model: Annotated[str, typer.Argument(help="A bundle (.edge), a saved program (.pt2) or a "
                                              "model reference.")],
    weights: Annotated[Path | None, typer.Option(help="Weights of a model reference.")] = None,
    data: Annotated[str | None, typer.Option(help="Data whose first samples are the input.")]
        = None,
    shape: Annotated[str | None, typer.Option(help="Alternatively, the input's shape without the "
                                                   "batch, as in 3,224,224.")] = None,
) -> None:
    """Show a model's multiply-accumulates, parameters and memory, layer by layer.

    Examples:
      edgewright profile runs/r20/model.edge

      edgewright profile examples/resnet.py:resnet20 --shape 3,32,32
    """
    console = Console()
    if model.endswith(".edge"):
        from edgewright.bundle import read_bundle

        bundle = read_bundle(model)
        _show_bundle(console, bundle.manifest)
        console.print(f"unpacked and verified in {bundle.unpacking_ms:.3g} ms on this machine",
                      highlight=False)
        return
    from edgewright.channels import find_groups
    from edgewright.task import load_task

    task = None if data is None else load_task(data)
    program = capture_reference(model, weights, task, shape)
    costs = program.costs()
    console.print(_layers(costs))
    console.print(f"{format_count(costs.macs)} MACs, {format_count(costs.parameters)} parameters, "
                  f"{format_size(costs.weight_bytes)} of weights "
                  f"({format_size(costs.packed_bytes)} packed), peak activations "
                  f"{format_size(costs.peak_activation_bytes)} (modelled, one sample)",
                  highlight=False)
    if costs.longest_path_macs < costs.macs:
        console.print(f"at most {format_count(costs.longest_path_macs)} MACs for a sample, which "
                      "takes one branch of every route", highlight=False)
    for name, count in costs.uncounted.items():
        console.print(f"not counted: {name} ({count} calls)", highlight=False)
    if not program.is_quantized:
        _show_groups(console, find_groups(program))


def _layers(costs: Costs) -> Table:
    from edgewright.report import format_bits

    table = Table("layer", "operator", title="layers with MACs", title_justify="left")
    for name in ("channels", "MACs", "share", "bits", "weights"):
        table.add_column(name, justify="right")
    for layer in costs.layers:
        table.add_row(layer.weight or layer.name, layer.op, str(layer.channels),
                      format_count(layer.macs), format_percent(layer.macs / max(costs.macs, 1)),
                      format_bits(layer.weight_bits, layer.bits), format_size(layer.weight_bytes))
    return table


def _show_groups(console: Console, groups: ChannelGroups) -> None:
    channels = sum(len(group.channels) for group in groups.groups)
    console.print(f"{len(groups.groups)} groups of channels can be pruned, {channels} channels "
                  "in total", highlight=False)
    for name, reason in groups.kept.items():
        console.print(f"not prunable: {name} ({reason})", highlight=False)


def _show_bundle(console: Console, manifest: Manifest) -> None:
    from edgewright.report import route_table, summary_table

    console.print(summary_table(manifest))
    table = Table("segment", "stored", "unpacked", "MACs", "energy", "peak RAM",
                  title="segments", title_justify="left")
    for segment in manifest.model.segments:
        table.add_row(segment.file, format_size(segment.stored_bytes),
                      format_size(segment.size_bytes), format_count(segment.macs),
                      f"{segment.energy_mj:.3g} mJ", format_size(segment.ram_bytes))
    console.print(table)
    branches = route_table(manifest)
    if branches is not None:
        console.print(branches)
    if manifest.model.points:
        console.print(_points_table(manifest.model.points))


def _points_table(points: tuple[OperatingPoint, ...]) -> Table:
    """The operating points: the threshold of each exit, and the share of samples leaving there."""
    primary = points[0].figures.metric
    table = Table("point", "policy", "segments", "thresholds", "exit shares",
                  "accuracy" if primary is None else primary.name, "mean MACs",
                  title="operating points", title_justify="left")
    for point in points:
        metric, macs = point.figures.metric, point.figures.get("macs")
        table.add_row(point.name, point.policy, " ".join(map(str, point.path)),
                      " ".join(map(format_threshold, point.thresholds)),
                      ", ".join(map(format_percent, point.tested.shares)) if point.tested else "",
                      "" if metric is None else format_metric(metric.spec, metric.value),
                      "" if macs is None else format_count(round(macs)))
    return table
