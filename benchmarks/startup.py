"""Import time and peak memory of a process that runs a bundle, against one that imports torch.

Example:
    python benchmarks/startup.py runs/r20/model.edge
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from edgewright.measure import machine

_REPEATS = 9
_IMPORT = "import time; t = time.perf_counter(); import {what}; s = time.perf_counter() - t; "
_PEAK = ("from pathlib import Path; "
         "kb = [l for l in Path('/proc/self/status').read_text().splitlines() if 'VmHWM' in l]; "
         "print(s * 1e3, int(kb[0].split()[1]) / 1e3)")
_RUN = ("import numpy; session = edgewright.load({bundle!r}); "
        "specs = session.model.inputs; "
        "xs = [numpy.zeros((1, *i.shape[1:]), i.dtype) for i in specs]; session(*xs); ")


def main() -> None:
    """Measure in fresh processes, in turn, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    bundle = str(parser.parse_args().bundle)
    scripts = {
        "import edgewright": _IMPORT.format(what="edgewright") + _PEAK,
        "load and run the bundle": (_IMPORT.format(what="edgewright")
                                    + _RUN.format(bundle=bundle)
                                    + "s = time.perf_counter() - t; " + _PEAK),
        "import onnxruntime": _IMPORT.format(what="onnxruntime") + _PEAK,
        "import torch": _IMPORT.format(what="torch") + _PEAK,
    }
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in scripts}
    for _ in range(_REPEATS):
        for name, script in scripts.items():
            done = subprocess.run([sys.executable, "-c", script], check=True,
                                  capture_output=True, text=True)
            milliseconds, megabytes = done.stdout.split()
            samples[name].append((float(milliseconds), float(megabytes)))
    rows: dict[str, Any] = {
        name: {"median_ms": round(statistics.median(ms for ms, _ in found), 1),
               "median_peak_rss_mb": round(statistics.median(mb for _, mb in found), 1)}
        for name, found in samples.items()}
    print(json.dumps({"machine": machine(), "repeats": _REPEATS, **rows}, indent=1))


if __name__ == "__main__":
    main()
