"""One table of the optional packages: what installs them, what imports them, who says so."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import edgewright
from edgewright._extras import EXTRAS, missing_extra
from edgewright.errors import MissingExtraError

SOURCES = Path(edgewright.__file__).parent
PYPROJECT = SOURCES.parent.parent / "pyproject.toml"
EXTRA_OF = {name: extra for extra, packages in EXTRAS.items()
            for names in packages.values() for name in names}


def canonical(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", requirement)[0]).lower()


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(node: ast.AST) -> Iterator[str]:
    """The top packages that a piece of code imports."""
    for part in ast.walk(node):
        names = []
        if isinstance(part, ast.Import):
            names = [alias.name for alias in part.names]
        elif isinstance(part, ast.ImportFrom) and not part.level:
            names = [str(part.module)]
        elif isinstance(part, ast.Call) and ast.unparse(part.func).endswith("import_module"):
            names = [one.value for argument in part.args for one in ast.walk(argument)
                     if isinstance(one, ast.Constant) and isinstance(one.value, str)]
        yield from (name.partition(".")[0] for name in names)


def test_the_table_is_that_of_pyproject() -> None:
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    wanted = {"": project["dependencies"], **project["optional-dependencies"]}
    del wanted["dev"]
    stated = {extra: {canonical(one) for one in requirements if canonical(one) != "edgewright"}
              for extra, requirements in wanted.items()}
    assert {extra: {canonical(one) for one in packages} for extra, packages in EXTRAS.items()} \
        == stated


def test_every_package_that_the_source_imports_is_in_the_table() -> None:
    strangers = {name for path in SOURCES.rglob("*.py") for name in imported(parsed(path))
                 if name not in EXTRA_OF and name not in sys.stdlib_module_names
                 and name not in {"edgewright", "tensorboard", "mlflow", "torch"}}
    assert strangers == set()


def test_every_package_of_the_table_is_imported() -> None:
    found = {name for path in SOURCES.rglob("*.py") for name in imported(parsed(path))}
    dynamic = {"timm", "tensorboard"}   # by a name that is put together, or through torch
    assert set(EXTRA_OF) - found <= dynamic


def test_whoever_names_an_extra_names_the_one_that_helps() -> None:
    """Every ``try: import`` that raises MissingExtraError, beside the table."""
    seen = 0
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(parsed(path)):
            if not isinstance(node, ast.Try):
                continue
            extras = {str(call.args[1].value) for handler in node.handlers for call in ast.walk(handler)
                      if isinstance(call, ast.Call) and ast.unparse(call.func) ==
                      "MissingExtraError" and isinstance(call.args[1], ast.Constant)}
            packages = {name for part in node.body for name in imported(part)} - {"edgewright"}
            for extra in extras:
                seen += 1
                assert extra in EXTRAS, f"{path}: {extra}"
                assert {EXTRA_OF[name] for name in packages} <= {extra}, f"{path}: {packages}"
    assert seen >= 9


@pytest.mark.parametrize("name", [name for name, extra in EXTRA_OF.items() if extra])
def test_a_missing_package_is_known_by_its_import(name: Any) -> None:
    for error in (ModuleNotFoundError(name=name), ImportError(name=f"{name}.part")):
        found = missing_extra(error, "this")
        assert isinstance(found, MissingExtraError)
        assert f"pip install 'edgewright[{EXTRA_OF[name]}]'" in str(found)


def test_what_no_extra_installs_is_left_as_it_is() -> None:
    assert missing_extra(ModuleNotFoundError(name="numpy"), "this") is None
    assert missing_extra(ModuleNotFoundError(name="scipyx"), "this") is None
    assert missing_extra(ModuleNotFoundError("no name"), "this") is None


# In a process whose imports of one package fail, as they do where it is not installed.
BLOCKED = """
import json, os, sys, tempfile
from pathlib import Path

class Blocker:
    def __init__(self, package): self.package = package
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == self.package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

def compress():
    sys.argv = ["edgewright", "compress", "--model", "net.py:make", "--data", "digits",
                "--out", "out"]
    from edgewright.cli import main
    main()

def by_name():
    import edgewright
    edgewright.compress

def data(reference):
    from edgewright.task import load_task
    return lambda: load_task(reference)

def model(reference):
    from edgewright.task import load_model
    return lambda: load_model(reference)

def metric(goal):
    from edgewright.goals import as_goal
    return as_goal(goal).metrics[0].make

def tracker(kind):
    from edgewright.training import open_experiment_tracker
    return lambda: open_experiment_tracker(kind, Path("."))

def image():
    from edgewright.core import Preprocessing
    from edgewright.runtime import read_image
    return read_image("a.png", Preprocessing(channels=1, height=1, width=1, mean=(0,), std=(1,)))

def engine(name):
    import edgewright.runtime
    return lambda: getattr(edgewright.runtime, name)(b"")

def agent():
    from edgewright.device import create_app
    create_app(None)

def serve():
    from edgewright.device import serve
    serve(port=0, announce=lambda _: sys.exit("served"))

def remote():
    from edgewright.device import bench_remotely
    bench_remotely("http://127.0.0.1:1", [], rounds=1, seed=0)

def cluster():
    from edgewright.search._ray import connect
    connect("local", None).__enter__()

def database():
    from edgewright.search._storage import open_storage
    return lambda: open_storage("postgresql://ann@127.0.0.1/trials")

def doctor():
    sys.argv = ["edgewright", "doctor"]
    from edgewright.cli import main
    main()

def told(package, act):
    \"\"\"In a process of its own: the error's class, its exit code and its message.\"\"\"
    from edgewright.errors import EdgewrightError
    reading, writing = os.pipe()
    if not os.fork():
        os.dup2(writing, 2)
        for name in [n for n in sys.modules if n.partition(".")[0] == package]:
            del sys.modules[name]
        sys.meta_path.insert(0, Blocker(package))
        try:
            act()
            print(json.dumps(["nothing", 0, ""]), file=sys.stderr)
        except SystemExit as end:
            print(json.dumps(["exit", end.code, ""]), file=sys.stderr)
        except EdgewrightError as error:
            print(json.dumps([type(error).__name__, error.exit_code, str(error)]), file=sys.stderr)
        except BaseException as error:
            print(json.dumps([type(error).__name__, 1, str(error)]), file=sys.stderr)
        sys.stderr.flush()
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as said:
        lines = said.read().splitlines()
    os.wait()
    return [*json.loads(lines[-1]), "\\n".join(lines[:-1])]

answers = {f"{package} {act.__name__}": told(package, act) for package, act in [
    ("torch", compress), ("torch", by_name), ("torch", doctor), ("onnxruntime", doctor),
    ("PIL", image), ("openvino", engine("OpenVinoEngine")),
    ("ai_edge_litert", engine("LiteRtEngine")), ("fastapi", agent), ("starlette", agent),
    ("python_multipart", agent), ("uvicorn", serve), ("httpx", remote)]}
import torch   # once for all that need it
for package in ("onnx", "onnxscript", "onnx_ir", "lightning_fabric", "safetensors", "scipy", "yaml",
                "optuna", "sqlalchemy"):
    answers[f"{package} compress"] = told(package, compress)
answers["scipy by_name"] = told("scipy", by_name)
import edgewright.pipeline
folder = tempfile.mkdtemp()
os.makedirs(f"{folder}/train/a"); Path(f"{folder}/train/a/a.png").touch()
parquet = tempfile.mkdtemp(); Path(parquet, "train.parquet").touch()
for package, act in [("sklearn", data("digits")), ("datasets", data("hf:no/such")),
                     ("pyarrow", data(f"parquet:{parquet}")), ("timm", model("timm:resnet18")),
                     ("torchvision", model("torchvision:resnet18")),
                     ("torchmetrics", metric("regression")), ("pycocotools", metric("detection")),
                     ("ray", cluster), ("psycopg", database()),
                     ("tensorboard", tracker("tensorboard")), ("mlflow", tracker("mlflow"))]:
    answers[f"{package} {act.__name__}"] = told(package, act)
print("\\n" + json.dumps(answers))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="it forks, so that torch is loaded once")
def test_a_missing_package_is_said_with_its_install_line_wherever_it_is_used() -> None:
    done = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True,
                          check=True, timeout=300)
    answers = json.loads(done.stdout.splitlines()[-1])
    for key, (kind, code, message, lines) in answers.items():
        package, act = key.split()
        words = f"run: pip install 'edgewright[{EXTRA_OF[package]}]'"
        if act == "doctor":
            assert (kind, code) == ("exit", 0), (key, kind, message, lines)
        elif act == "compress":
            assert (kind, code) == ("exit", 6), (key, kind, message, lines)
            assert lines.startswith("error: "), (key, lines)
            assert words in lines, (key, lines)
            assert "Traceback" not in lines
        else:
            assert (kind, code) == ("MissingExtraError", 6), (key, kind, message)
            assert words in message, (key, message)
    asked = {key.split()[0] for key in answers}
    # These two are of converters, whose own tests block them.
    assert asked == {name for name, extra in EXTRA_OF.items() if extra} - {
        "executorch", "litert_torch"} | {"onnxruntime"}


def test_doctor_lists_every_package() -> None:
    done = subprocess.run([sys.executable, "-c", "from edgewright.cli import main; main()",
                           "doctor"], capture_output=True, text=True, check=True,
                          env={**os.environ, "COLUMNS": "200"})
    for extra, packages in EXTRAS.items():
        for name in packages:
            assert re.search(rf"│ {re.escape(extra or '(always)')} +│ {name} +│", done.stdout), name
