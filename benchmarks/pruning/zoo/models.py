"""The models of the zoo: torchvision's classification models, and a choice of timm's.

torchvision's build from the registry does not import beside a CPU build of torch, because its
compiled operators are missing; `torchvision_models` declares the two that are asked for.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import torch
from torch import Tensor, nn

LARGEST: Final = 120_000_000  # parameters
_SIZE: Final = 224
_OWN_SIZE: Final = {"inception_v3": 299}
_TIMM: Final = tuple(
    "resnet26d efficientnet_lite0 mobilenetv4_conv_small ghostnet_100 repvgg_a0 hrnet_w18_small "
    "dla34 res2net50_14w_8s cspresnet50 convnextv2_atto fastvit_t8 mobilevit_xs mobilevitv2_050 "
    "edgenext_xx_small efficientformer_l1 efficientvit_b0 deit_tiny_patch16_224 levit_128s "
    "poolformer_s12".split())
_BATCH: Final = 4  # images that batch norms take their statistics of
_OPERATORS: Final = ("nms", "qnms")


@dataclass(frozen=True)
class ZooModel:
    """One model of the zoo; it is built with random weights.

    Attributes:
        source: "torchvision" or "timm".
        name: What its source calls it.

    Example:
        >>> ZooModel.parse("timm:levit_128s").name
        'levit_128s'
    """

    source: str
    name: str

    def __str__(self) -> str:
        return f"{self.source}:{self.name}"

    @classmethod
    def parse(cls, reference: str) -> ZooModel:
        """The inverse of ``str``."""
        source, _, name = reference.partition(":")
        return cls(source, name)

    def build(self, seed: int) -> nn.Module:
        """A model in evaluation mode, its weights drawn from ``seed`` so that a proof can see."""
        torch.manual_seed(seed)
        if self.source == "timm":
            torchvision_models()  # timm imports it
            model: nn.Module = importlib.import_module("timm").create_model(self.name)
        else:
            model = torchvision_models().get_model(self.name, weights=None, **self._options())
        model.eval()
        redraw_constants(model)
        settle_statistics(model, self.example(model).expand(_BATCH, -1, -1, -1))
        return model

    def example(self, model: nn.Module) -> Tensor:
        """One image of the size the model is made for."""
        size = _OWN_SIZE.get(self.name, _SIZE)
        if self.source == "timm":
            _, height, width = model.default_cfg["input_size"]  # type: ignore[index]
            return torch.randn(1, 3, int(height), int(width))
        return torch.randn(1, 3, size, size)

    def _options(self) -> dict[str, Any]:
        """Two models draw their weights slowly, by SciPy's truncated normal, unless told."""
        return {"init_weights": False} if self.name in ("googlenet", "inception_v3") else {}


def redraw_constants(model: nn.Module) -> None:
    """Draw anew what starts out as one value: scales of norms and layers, biases.

    A residual branch behind a scale of 0 or 1e-6 would else hide any fault from the proof.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            first = parameter.flatten()[0]
            if bool((parameter == first).all()):
                parameter.copy_(torch.rand_like(parameter) + 0.5 if first else
                                torch.randn_like(parameter) / 10)


def settle_statistics(model: nn.Module, *inputs: Tensor) -> None:
    """Let batch norms take the statistics of noise, as training would have them do.

    With those they start with, a signal dies out on its way, and no output depends on an input.
    Of ``inputs`` only the shapes count.
    """
    norms = [layer for layer in model.modules()
             if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    with torch.no_grad():
        model(*map(torch.randn_like, inputs))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval()
        norm.momentum = momentum


def torchvision_models() -> Any:
    """The models of torchvision, whether or not its compiled operators are there."""
    try:
        return importlib.import_module("torchvision.models")
    except RuntimeError:  # operator torchvision::nms does not exist
        _declare_operators()
        return importlib.import_module("torchvision.models")


@cache
def _declare_operators() -> torch.library.Library:
    """Kept for good: the library object takes its operators with it."""
    library = torch.library.Library(  # type: ignore[no-untyped-call]
        "torchvision", "FRAGMENT")
    for name in _OPERATORS:
        library.define(  # type: ignore[no-untyped-call]
            f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def all_models() -> tuple[tuple[ZooModel, ...], dict[str, int]]:
    """The zoo, and what is too large for it with its published number of parameters."""
    models = torchvision_models()
    sizes = {name: next(iter(models.get_model_weights(name))).meta["num_params"]
             for name in models.list_models(module=models)}
    small = [ZooModel("torchvision", name) for name, size in sizes.items() if size <= LARGEST]
    small += [ZooModel("timm", name) for name in _TIMM]
    return tuple(small), {name: size for name, size in sizes.items() if size > LARGEST}
