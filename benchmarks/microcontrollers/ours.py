"""What Edgewright's C does on a board: the same bits as the reference, and what they take."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.microcontrollers.models import Model, test_images
from edgewright.boards import run_on_board
from edgewright.exporters import to_onnx
from edgewright.exporters.integers import to_integer_network
from edgewright.integers import from_integers, run_reference, to_integers
from edgewright.integers.c import CompiledNetwork, write_c
from edgewright.program import Program
from edgewright.runtime import OnnxEngine
from edgewright.task import Task

_ACCURACY_IMAGES: Final = 1000
_BATCH: Final = 100


class Ours:
    """A quantized program, its network of integers, and its C."""

    def __init__(self, model: Model, program: Program, task: Task) -> None:
        self.model, self.program, self.task = model, program, task
        self.network = to_integer_network(program)
        self.source = write_c(self.network)
        self.macs = program.costs().macs

    @cached_property
    def images(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Test images and their classes."""
        return test_images(self.task, _ACCURACY_IMAGES)

    def integers(self, count: int) -> NDArray[Any]:
        """The first test images as the network stores them."""
        port = self.network.structure.inputs[0]
        return to_integers(self.images[0][:count], port, self.network.tensors[port.tensor])

    def measure_answers(self) -> dict[str, Any]:
        """Shares of right answers of the integer network and of the ONNX file."""
        port = self.network.structure.outputs[0]
        stored = CompiledNetwork(self.network).run([self.integers(_ACCURACY_IMAGES)])[0]
        values = from_integers(stored, port, self.network.tensors[port.tensor])
        engine = OnnxEngine(to_onnx(self.program))
        batches = range(0, _ACCURACY_IMAGES, _BATCH)
        onnx = np.concatenate([engine.run((self.images[0][k:k + _BATCH],))[0] for k in batches])
        classes = self.images[1]
        return {"images": _ACCURACY_IMAGES, "macs": self.macs,
                "accuracy_integers": float((values.argmax(1) == classes).mean()),
                "accuracy_onnx": float((onnx.argmax(1) == classes).mean()),
                "same_class": float((values.argmax(1) == onnx.argmax(1)).mean()),
                "constant_bytes": self.source.constant_bytes,
                "memory_bytes": self.source.memory.size}

    def measure_board(self, cpu: str, samples: int) -> dict[str, Any]:
        """Flash, memory and instructions on a board, and how many samples have the same bits."""
        inputs = self.integers(samples)
        run = run_on_board(self.network, self.source, cpu, [inputs])
        wanted = run_reference(self.network, [inputs])[0]
        same = (run.outputs[0] == wanted).reshape(samples, -1).all(axis=1)
        return {"samples": samples, "samples_bit_for_bit": int(same.sum()),
                "flash_bytes": run.flash_bytes, "ram_bytes": run.ram_bytes,
                "instructions": run.instructions,
                "instructions_per_mac": round(run.instructions / self.macs, 3)}
