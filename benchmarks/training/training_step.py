"""What a training step costs, and whether the data keep up: ResNet-20 and ResNet-56, CIFAR-10.

Steps (forward, backward, SGD) of the eager module and of the captured program, contiguous and
channels-last, compiled too, are timed in turn on one core, and so are steps on labels alone, with a
teacher of the same size, and with what it said in a cache; the loader alone on one core; and the
share of its time that a training on all cores waits for its next batch. RandAugment is left out
where torchvision is not installed.

Example:
    python -m benchmarks.training.training_step --data ../shared/data/cifar10
"""

from __future__ import annotations

import argparse
import copy
import importlib
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final, get_args

import torch
from torch import nn

import edgewright as ew
from benchmarks.common.paths import RESNETS, RESULTS, ROOT
from benchmarks.common.result_rows import provenance
from benchmarks.pruning.zoo.models import torchvision_models
from edgewright.capture import make_trainable
from edgewright.distill import as_teacher, cache_teacher, make_objective
from edgewright.measure import compare_latency, pin_to_core
from edgewright.task import AugmentationPolicy, Batch, Split, View, load_model, load_task
from edgewright.training import Objective
from edgewright.training._compile import try_compile

SEED, PASSES = 0, 3
FORMATS: Final = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
Step = Callable[[Batch], None]


def main() -> None:
    """Measure, print and store."""
    given = arguments()
    warnings.simplefilter("ignore")
    torch.manual_seed(SEED)
    task = load_task(f"cifar10:{given.data}", normalize="imagenet")
    train = task.train
    split = train.select(range(min(given.images, len(train))))
    record = provenance(["torch", "numpy", "torchvision"], seed=SEED, batch=given.batch,
                        rounds=given.rounds, images=len(split)) | {
        "decoding_images_per_s": round(rate(split, None, given.batch)),
        "loader_images_per_s": on_one_core(partial(loader_rates, split, given.batch)),
        "step_one_core": {name: on_one_core(partial(steps, name, given))
                          for name in given.models},
        "taught_step_one_core": on_one_core(partial(taught_steps, given.models[0], task, given)),
        "waiting_all_cores": waiting(given.models[0], split, given.batch)}
    given.out.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


def arguments() -> argparse.Namespace:
    """The command line's."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=str(ROOT.parent / "shared" / "data" / "cifar10"))
    parser.add_argument("--models", nargs="+", default=["resnet20", "resnet56"])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--images", type=int, default=12_800, help="of the loader's passes")
    parser.add_argument("--out", type=Path, default=RESULTS / "training_step.json")
    return parser.parse_args()


def on_one_core(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What is measured with one thread on one core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with pin_to_core():
            return measure()
    finally:
        torch.set_num_threads(threads)


def policies() -> Iterator[AugmentationPolicy]:
    """Those whose packages are here."""
    for policy in get_args(AugmentationPolicy):
        if policy == "rand_augment":
            try:
                torchvision_models()
                importlib.import_module("torchvision.transforms.v2.functional")
            except ModuleNotFoundError:
                continue
        yield policy


def rate(split: Split, view: View | None, batch: int) -> float:
    """Images per second of one pass in random order."""
    since = time.perf_counter()
    for _ in split.batches(batch, shuffle_seed=SEED, view=view):
        pass
    return len(split) / (time.perf_counter() - since)


def loader_rates(split: Split, batch: int) -> dict[str, Any]:
    """The median pass of each policy, images decoded before."""
    views = {"none": None} | {policy: View(SEED, policy) for policy in policies()}
    return {name: round(median(rate(split, view, batch) for _ in range(PASSES)))
            for name, view in views.items()}


def steps(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """Every kind of step of one network, in turn; ratios to the eager contiguous one."""
    model = load_model(f"{RESNETS}:{name}")
    images = torch.randn(given.batch, 3, 32, 32)
    program = ew.Program.capture(model, images[:2])
    kinds: dict[str, Callable[[int], None]] = {}
    compile_s = {}
    for layout, memory_format in FORMATS.items():
        laid = images.contiguous(memory_format=memory_format)
        rows = torch.arange(given.batch)
        batch = Batch((laid,), rows % 10, rows)
        for kind, module in (("eager", copy.deepcopy(model)),
                             ("captured", make_trainable(program.graph_module)),
                             ("captured, compiled", make_trainable(program.graph_module))):
            key, passes = f"{kind}, {layout}", laid_out(module, memory_format)
            if kind.endswith("compiled"):
                since = time.perf_counter()
                passes = try_compile(module, (laid,), True, 1, nullcontext).module
                compile_s[key] = round(time.perf_counter() - since, 1)
            kinds[key] = in_turn(step_of(passes, module, make_objective(None)), [batch])
    found = compare_latency(kinds, rounds=given.rounds, warmup=1)
    base = found["eager, contiguous"].median_ms
    return {key: {"median_ms": round(latency.median_ms, 1),
                  "ratio_to_eager": round(latency.median_ms / base, 3)}
            | ({"trial_s": compile_s[key]} if key in compile_s else {})
            for key, latency in found.items()}


def taught_steps(name: str, task: ew.Task, given: argparse.Namespace) -> dict[str, Any]:
    """Steps by what teaches, in turn; ratios to the labels alone."""
    model = load_model(f"{RESNETS}:{name}")
    train = task.train.select(range(4 * given.batch))
    few = ew.Task(train, task.val, task.test)
    batches = list(train.batches(given.batch, shuffle_seed=SEED, view=View(0, "standard")))
    program = ew.Program.capture(model, batches[0].inputs[0][:2])
    with tempfile.TemporaryDirectory() as folder:
        cached = cache_teacher(as_teacher(model), few, Path(folder, "cache"), views=1)
        objectives = {"labels": make_objective(None), "cached": make_objective(cached),
                      "live": make_objective(model)}
        batches = [channels_last(batch) for batch in batches]
        kinds = {}
        for kind, objective in objectives.items():
            module = laid_out(make_trainable(program.graph_module), torch.channels_last)
            kinds[kind] = in_turn(step_of(module, module, objective), batches)
        found = compare_latency(kinds, rounds=given.rounds, warmup=1)
    base = found["labels"].median_ms
    return {kind: {"median_ms": round(latency.median_ms, 1),
                   "images_per_s": round(1e3 * given.batch / latency.median_ms),
                   "ratio_to_labels": round(latency.median_ms / base, 3)}
            for kind, latency in found.items()}


def in_turn(step: Step, batches: list[Batch]) -> Callable[[int], None]:
    """The step on one batch after another."""
    return lambda index: step(batches[index % len(batches)])


def waiting(name: str, split: Split, batch: int) -> dict[str, Any]:
    """The share of an epoch's time spent on waiting for the next batch, on all cores."""
    found: dict[str, Any] = {"threads": torch.get_num_threads(), "cores": os.cpu_count(),
                             "model": name}
    model = load_model(f"{RESNETS}:{name}")
    program = ew.Program.capture(model, split.example(2))
    module = laid_out(make_trainable(program.graph_module), torch.channels_last)
    step = step_of(module, module, make_objective(None))
    for policy in policies():
        began, waited = time.perf_counter(), 0.0
        batches = split.batches(batch, shuffle_seed=SEED, view=View(SEED, policy))
        while True:
            since = time.perf_counter()
            ready = next(batches, None)
            waited += time.perf_counter() - since
            if ready is None:
                break
            step(channels_last(ready))
        found[policy] = round(waited / (time.perf_counter() - began), 4)
    return found


def laid_out(module: nn.Module, memory_format: torch.memory_format) -> nn.Module:
    """The module, its weights in a memory format."""
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=memory_format)
    return module.train()


def channels_last(batch: Batch) -> Batch:
    """The batch, its images with channels last in memory."""
    images, = batch.inputs
    return batch._replace(inputs=(images.contiguous(memory_format=torch.channels_last),))


def step_of(passes: nn.Module, module: nn.Module, objective: Objective) -> Step:
    """One whole step of stochastic gradient descent on an objective."""
    optimizer = torch.optim.SGD(module.train().parameters(), lr=1e-4, momentum=0.9)

    def run(batch: Batch) -> None:
        objective.loss((passes(*batch.inputs),), batch).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    return run


if __name__ == "__main__":
    main()
