"""What a training step with fake quantizers costs: ResNet-20, batch 128, one thread, in turn.

torchao's PT2E step is timed too where it is installed (``pip install torchao``).

Example:
    python -m benchmarks.quantization.qat_step
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

import edgewright as ew
from benchmarks.common.commands import running_command
from benchmarks.common.paths import RESNETS, RESULTS
from edgewright.capture import make_trainable
from edgewright.measure import compare_latency, machine, pin_to_core
from edgewright.quantization import resolve
from edgewright.quantization.calibration import create_observer
from edgewright.quantization.placement._placement import place
from edgewright.quantization.simulation._simulate import simulate_quantization
from edgewright.task import load_model

SEED, ROUNDS, WARMUP, BATCH = 0, 30, 3, 128
OURS = {
    "W8A8 lsq": ew.Quantization(method="qat"),
    "W8A8 lsq+": ew.Quantization(method=ew.QAT(quantizer="lsq+")),
    "W8A8 pact": ew.Quantization(method=ew.QAT(quantizer="pact")),
    "W4A4 lsq": ew.Quantization(method="qat", weights=4, activations=4),
}


def main() -> None:
    """Time whole steps (forward, backward, SGD) in turn on one core; print and store ratios."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS / "qat_step.json")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    images = torch.randn(BATCH, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(BATCH) % 10
    program = ew.Program.capture(load_model(f"{RESNETS}:resnet20"),
                                 images[:2])
    modules: dict[str, nn.Module] = {"float": make_trainable(program.graph_module).train()}
    modules |= {name: fake_quantized(program, config, images) for name, config in OURS.items()}
    if find_spec("torchao"):
        modules[f"torchao {version('torchao')}"] = torchao_prepared(program, images)
    steps = {name: step(module, images, labels) for name, module in modules.items()}
    with pin_to_core():
        found = compare_latency(steps, rounds=ROUNDS, warmup=WARMUP)
    record = {
        "command": running_command(), "seed": SEED,
        "machine": machine(), "torch": torch.__version__, "threads": 1, "batch": BATCH,
        "rounds": ROUNDS,
        "rows": {name: {"median_ms": round(latency.median_ms, 1),
                        "ratio_to_float": round(latency.median_ms / found["float"].median_ms, 3)}
                 for name, latency in found.items()}}
    arguments.results.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


def fake_quantized(program: ew.Program, config: ew.Quantization,
                   images: torch.Tensor) -> nn.Module:
    """The program with quantizers at work, their ranges taken from one batch."""
    scheme = resolve(config)
    learned_range = scheme.method.quantizer if isinstance(scheme.method, ew.QAT) else "nothing"
    simulation = simulate_quantization(program, place(program, scheme), learned_range)
    for quantizer in simulation.quantizers:
        quantizer.observer = create_observer(scheme.range_estimator, quantizer.grid)
        quantizer.mode = "observe"
    with torch.no_grad():
        simulation.module(images)
    for quantizer in simulation.quantizers:
        if quantizer.observer is not None:
            quantizer.set_range(*quantizer.observer.range())
        quantizer.observer, quantizer.mode = None, "quantize"
    return simulation.module.train()


def torchao_prepared(program: ew.Program, images: torch.Tensor) -> nn.Module:
    """The same network as torchao's PT2E trains it, for its x86 backend."""
    from torchao.quantization.pt2e import (  # noqa: PLC0415 - may not be there
        move_exported_model_to_train,
    )
    from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e  # noqa: PLC0415
    from torchao.quantization.pt2e.quantizer import (  # noqa: PLC0415
        x86_inductor_quantizer as x86,
    )
    quantizer = x86.X86InductorQuantizer().set_global(
        x86.get_default_x86_inductor_quantization_config(is_qat=True))
    prepared = prepare_qat_pt2e(program.copy().graph_module, quantizer)
    module: nn.Module = move_exported_model_to_train(prepared)
    module(images)
    return module


def step(module: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> Callable[[int], None]:
    """One whole step of stochastic gradient descent."""
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad],
                                lr=1e-4, momentum=0.9)

    def run(index: int) -> None:
        del index
        loss = F.cross_entropy(module(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    return run


if __name__ == "__main__":
    main()
