"""Which pass works for which kind of job, as a table with the reason of every refusal.

Every job of `examples/jobs` is trained for some epochs, then every pass runs on it at toy size:
pruned programs must have fewer multiply-accumulates, quantized ones must agree with their file on
ONNX Runtime, exported ones with theirs, and all must have a finite metric of their goal. A row is
stored once measured and not measured again; the table is written from the stored rows.

Example:
    python -m benchmarks.jobs.matrix --only 'segmentation'
"""

from __future__ import annotations

import argparse
import re
import sys
import time
import warnings
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import torch

import edgewright as ew
from benchmarks.common.paths import RESULTS, ROOT
from benchmarks.common.result_rows import Rows, keep, provenance, stored
from benchmarks.jobs.lines import count_lines
from benchmarks.jobs.passes import PASSES
from edgewright.errors import EdgewrightError, MissingExtraError
from edgewright.task import load_model, load_task

JOBS: Final = tuple(sorted((ROOT / "examples" / "jobs").glob("*.py")))
STORED: Final = RESULTS / "jobs_matrix.json"
TABLE: Final = ROOT / "docs" / "jobs.md"
WORKS: Final = "works"
NOT_RUN: Final = "the packages of this target were not installed where the table was made"
SEED: Final = 0
_TRAINING: Final = ew.Training(epochs=4, batch_size=32, lr=0.003, optimizer="adamw", augment=False)
_PACKAGES: Final = ("edgewright", "torch", "onnxruntime", "executorch", "litert-torch", "numpy")


def main() -> None:
    """Measure the rows that are missing, and write the table; exit code 1 if a pass broke."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="*", help="pattern of jobs to run")
    parser.add_argument("--passes", default="*", help="pattern of passes to run again")
    parser.add_argument("--results", type=Path, default=STORED)
    parser.add_argument("--table", type=Path, default=TABLE)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    for path in JOBS:
        if fnmatchcase(path.stem, arguments.only):
            known = stored(arguments.results).get(path.stem, {}).get("passes", {})
            wanted = [name for name in PASSES if fnmatchcase(name, arguments.passes)
                      and (arguments.passes != "*" or name not in known)]
            if wanted:
                keep(arguments.results, path.stem, run_job(path, wanted, known))
    rows = stored(arguments.results)
    arguments.table.write_text(render(rows), encoding="utf-8")
    if broken := [f"{job}, {name}: {outcome}" for job, row in rows.items()
                  for name, outcome in row["passes"].items() if outcome.startswith("broken")]:
        sys.exit("\n".join(broken))


def run_job(path: Path, wanted: list[str], known: dict[str, str]) -> dict[str, Any]:
    """Train a job's model and run passes on it."""
    since = time.perf_counter()
    torch.manual_seed(SEED)
    task = load_task(f"{path}:make_task")
    captured = ew.Program.capture(load_model(f"{path}:make_model"), task.train.example(2))
    program = ew.fit(captured, task, _TRAINING, seed=SEED)
    found = {name: run_pass(name, program, task) for name in wanted}
    return {"passes": {name: (known | found)[name] for name in PASSES if name in known | found},
            "metric": task.metric.name, "seconds": round(time.perf_counter() - since, 1),
            **provenance(_PACKAGES, seed=SEED)}


def run_pass(name: str, program: ew.Program, task: ew.Task) -> str:
    """``works``, or why not: the first sentence of the refusal."""
    try:
        PASSES[name](program, task)
    except MissingExtraError:
        return NOT_RUN
    except EdgewrightError as error:
        return first_sentence(str(error))
    except Exception as error:  # noqa: BLE001 - the row says what broke
        return f"broken: {type(error).__name__}: {first_sentence(str(error))}"
    return WORKS


def first_sentence(message: str) -> str:
    """A message up to its first full stop or semicolon.

    Example:
        >>> first_sentence("the goal has no classes; set it to 0")
        'the goal has no classes'
    """
    ends = r";\s|\.\"?\s|\sWhile executing"
    return re.split(ends, message.strip(), maxsplit=1)[0].strip().rstrip(".")


def render(rows: Rows) -> str:
    """The table of all rows in Markdown, with a note per reason."""
    reasons: dict[str, int] = {}
    lines = [_line(["", *map(_title, rows)]), _line(["---", *["---"] * len(rows)])]
    for name in PASSES:
        cells = [_cell(row["passes"].get(name, "not run"), reasons) for row in rows.values()]
        lines.append(_line([name, *cells]))
    counts = {job: count_lines(next(path for path in JOBS if path.stem == job)) for job in rows}
    lines += [_line([f"lines: {part}", *(str(count._asdict()[part]) for count in counts.values())])
              for part in ("task", "model")]
    return "\n".join([_HEAD, *lines, "", *_notes(reasons), _tail(rows)])


def _cell(outcome: str, reasons: dict[str, int]) -> str:
    if outcome == WORKS:
        return "✓"
    number = reasons.setdefault(outcome, len(reasons) + 1)
    return f"[{number}]"


def _notes(reasons: dict[str, int]) -> Iterator[str]:
    for reason, number in reasons.items():
        yield f"{number}. {reason}"


def _title(job: str) -> str:
    return f"[{job.replace('_', ' ')}](../examples/jobs/{job}.py)"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _tail(rows: Rows) -> str:
    metrics = "; ".join(f"{job.replace('_', ' ')}: {row['metric']}" for job, row in rows.items())
    versions = sorted({f"{name} {found}" for row in rows.values()
                       for name, found in row["versions"].items()})
    return (f"\nPrimary metrics, which budgets, kept epochs and reports follow: {metrics}.\n\n"
            f"Made with {', '.join(versions)}.\n")


_HEAD: Final = """# What works for which job

Made by a script, not by hand. To make it again, delete `benchmarks/results/jobs_matrix.json`
and run

```
python -m benchmarks.jobs.matrix                      # every job and pass, at toy size
python -m pytest tests/examples/test_jobs.py          # every job through compress to a proved file
edgewright compress --model examples/jobs/tags.py:make_model \\
    --data examples/jobs/tags.py:make_task --recipe balanced --out runs/tags
```

✓: the pass ran, the goal's metric is finite, and the claim was checked: fewer multiply-accumulates
after pruning, the same outputs of program and ONNX Runtime after quantization, of program and file
after export. A number refers to the reason of a refusal, in the words of the error. "Lines: task"
is what a job's user writes beside the network: the `Task` with its goal, an own loss and metric,
and the call of `compress`. "Lines: model" is the network, which its owner has already.

"""

if __name__ == "__main__":
    main()
