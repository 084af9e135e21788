"""The network layer by layer, and the operators that are not counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from edgewright.core import LayerRecord, RunReport, format_count
from edgewright.report._charts import bar
from edgewright.report._html import Markup, el, join
from edgewright.report._tables import row, section, table
from edgewright.report._text import format_bits

_ARROW: Final = "\u2192"


def layer_table(report: RunReport) -> Markup:
    """Table with one row per layer: channels, bits and MACs, before and after, with bars."""
    layers = report.layers
    if not layers:
        return Markup("")
    widest = max(max(layer.channels, layer.channels_before) for layer in layers)
    heaviest = max(max(layer.macs, layer.macs_before) for layer in layers)
    rows = [_layer(layer, widest, heaviest) for layer in layers]
    head = ("Layer", "Bits (weights / activations)", "Channels", "MACs per sample")
    return section("Layers", table(head, rows, "layers"), lead=_summarize(layers))


def uncounted_operators(report: RunReport) -> Markup:
    """List of the operators that no cost figure includes."""
    if not report.uncounted:
        return Markup("")
    names = join([el("li", el("code", name)) for name in report.uncounted])
    return section("Not counted", el("ul", names, class_="names"),
                   lead="The MACs, and the energy modelled from them, exclude these operators:")


def _layer(layer: LayerRecord, widest: int, heaviest: int) -> Markup:
    state = _state(layer)
    name = join([el("bdi", layer.name), " ", el("small", layer.op, class_="op"),
                 *([" ", el("em", state, class_=f"badge {state}")] if state else [])])
    stored = (layer.weight_bits, layer.activation_bits)
    bits = "\u2013" if state == "removed" else " / ".join(
        format_bits(count, layer.compute_bits) for count in stored)
    return row(name, el("td", bits, data_name="bits"),
               _pair("channels", layer.channels_before, layer.channels, widest, "{:,}".format),
               _pair("MACs", layer.macs_before, layer.macs, heaviest, format_count),
               class_=state or None)


def _pair(name: str, before: int, after: int, whole: int,
          write: Callable[[float], str]) -> Markup:
    text = write(after) if before == after else f"{write(before)} {_ARROW} {write(after)}"
    return el("td", el("div", bar(after, before, whole), el("span", text, data_name=name),
                        class_="meter"))


def _state(layer: LayerRecord) -> str:
    if not layer.channels and not layer.macs and (layer.channels_before or layer.macs_before):
        return "removed"
    if not layer.channels_before and not layer.macs_before and (layer.channels or layer.macs):
        return "added"
    return ""


def _summarize(layers: tuple[LayerRecord, ...]) -> str:
    states = [_state(layer) for layer in layers]
    pruned = sum(0 < layer.channels < layer.channels_before for layer in layers)
    groups = [(pruned, "pruned"), (states.count("removed"), "removed"),
              (states.count("added"), "added")]
    counts = ", ".join(f"{count} {name}" for count, name in groups if count)
    total = f"{len(layers)} layer" + ("" if len(layers) == 1 else "s")
    return (f"{total}{': ' + counts if counts else ''}. "
            "Pale bars are the original model, dark bars the compressed one.")
