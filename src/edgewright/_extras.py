"""Which packages belong to which extra, and the error that says how to install one.

The one table of them: ``edgewright doctor`` prints it, and a test holds it against pyproject.toml
and against every import of the source.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from edgewright.errors import MissingExtraError

# By extra: the packages it installs, as pip calls them, and the names they are imported by.
EXTRAS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "": {"numpy": ("numpy",), "onnxruntime": ("onnxruntime",), "typer": ("typer",),
         "pydantic": ("pydantic", "pydantic_core"), "rich": ("rich",)},
    "compress": {"torch": ("torch",), "onnx": ("onnx",), "onnxscript": ("onnxscript",),
                 "onnx-ir": ("onnx_ir",), "lightning-fabric": ("lightning_fabric",),
                 "safetensors": ("safetensors",), "datasets": ("datasets",),
                 "pyarrow": ("pyarrow",), "scikit-learn": ("sklearn",), "scipy": ("scipy",),
                 "pyyaml": ("yaml",), "optuna": ("optuna",),
                 "sqlalchemy": ("sqlalchemy",), "torchmetrics": ("torchmetrics",),
                 "pycocotools": ("pycocotools",)},
    "image": {"pillow": ("PIL",)},
    "openvino": {"openvino": ("openvino",)},
    "executorch": {"executorch": ("executorch",)},
    "litert": {"litert-torch": ("litert_torch",), "ai-edge-litert": ("ai_edge_litert",)},
    "timm": {"timm": ("timm",)},
    "torchvision": {"torchvision": ("torchvision",)},
    "ray": {"ray": ("ray",)},
    "postgres": {"psycopg": ("psycopg",)},
    "tensorboard": {"tensorboard": ("tensorboard",)},
    "mlflow": {"mlflow": ("mlflow",)},
    "device": {"fastapi": ("fastapi",), "starlette": ("starlette",), "uvicorn": ("uvicorn",),
               "httpx": ("httpx",), "python-multipart": ("python_multipart",)},
}
_EXTRA_OF: Final = {name: extra for extra, packages in EXTRAS.items() if extra
                    for names in packages.values() for name in names}


def missing_extra(error: ImportError, what: str) -> MissingExtraError | None:
    """The error to raise where ``what`` failed for a package of an extra, else None.

    Example:
        >>> missing_extra(ModuleNotFoundError(name="scipy.optimize"), "pruning")
        MissingExtraError("pruning needs an extra that is not installed; run: pip install \
'edgewright[compress]'")
        >>> missing_extra(ModuleNotFoundError(name="my_model"), "pruning") is None
        True
    """
    extra = _EXTRA_OF.get((error.name or "").partition(".")[0])
    return None if extra is None else MissingExtraError(what, extra)
