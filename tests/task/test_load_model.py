from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edgewright.errors import BudgetError, MissingExtraError, ModelError, UsageError
from edgewright.task import load_model, load_weights, user_modules

SHARED = Path(os.environ.get("EDGEWRIGHT_SHARED",
                             Path(__file__).parents[2].parent / "shared")) / "models"

CODE = """
import dataclasses
import torch
from torch import nn
from edgewright.errors import BudgetError

@dataclasses.dataclass
class Size:
    width: int = 4

def make_net():
    from blocks import layer
    return nn.Sequential(layer(Size().width), nn.BatchNorm1d(4))

class Net(nn.Linear):
    def __init__(self):
        super().__init__(2, 2)

ready = nn.Linear(1, 1)
number = 3

def fails():
    raise KeyError("lost")

def ours():
    raise BudgetError("mine")

def wrong():
    return "text"
"""


@pytest.fixture
def net(tmp_path: Path) -> Any:
    (tmp_path / "blocks.py").write_text(
        "from torch import nn\ndef layer(n): return nn.Linear(3, n)\n")
    (tmp_path / "net.py").write_text(CODE)
    return tmp_path / "net.py"


def test_a_file_is_run_and_its_factory_called(net: Any) -> None:
    path = list(sys.path)
    module = load_model(f"{net}:make_net")
    assert isinstance(module.get_submodule("0"), nn.Linear)
    assert not module.training
    assert sys.path == path


def test_modules_that_no_other_process_can_import_are_known(tmp_path: Path) -> None:
    (tmp_path / "beside_the_net.py").write_text("WIDTH = 3\n")
    (tmp_path / "net.py").write_text("from torch import nn\nfrom beside_the_net import WIDTH\n"
                                     "def make():\n    return nn.Linear(2, WIDTH)\n")
    load_model(f"{tmp_path / 'net.py'}:make")
    assert {Path(str(module.__file__)).name for module in user_modules()
            if Path(str(module.__file__)).parent == tmp_path} == {"net.py", "beside_the_net.py"}


def test_a_file_is_found_from_the_working_directory(net: Any,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(net.parent)
    assert load_model("net.py:Net").in_features == 2


def test_a_factory_may_be_a_class_or_a_module_instance(net: Any) -> None:
    assert type(load_model(f"{net}:Net")).__name__ == "Net"
    assert load_model(f"{net}:ready").in_features == 1


def test_a_module_of_the_import_path(net: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(net.parent)
    monkeypatch.delitem(sys.modules, "net", raising=False)
    assert isinstance(load_model("torch.nn:Identity"), nn.Identity)
    assert load_model("net:Net").in_features == 2
    monkeypatch.delitem(sys.modules, "net")


@pytest.mark.parametrize(("name", "message"), [
    ("make_nets", "the module has no 'make_nets'; it has: make_net"),
    ("fails", "calling it failed: KeyError: 'lost'"),
    ("wrong", "returned a str; expected a Module"),
    ("number", "is a int; expected a function without arguments"),
])
def test_invalid_factories_raise_model_error(net: Any, name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_model(f"{net}:{name}")


def test_our_own_errors_pass_through_a_factory(net: Any) -> None:
    with pytest.raises(BudgetError, match="mine"):
        load_model(f"{net}:ours")


def test_files_and_modules_that_fail_to_import_raise(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no file .*absent.py"):
        load_model(f"{tmp_path}/absent.py:make")
    (tmp_path / "broken.py").write_text("1 / 0")
    with pytest.raises(ModelError, match=r"running .*broken.py failed: ZeroDivisionError"):
        load_model(f"{tmp_path}/broken.py:make")
    with pytest.raises(ModelError, match="importing no_such_package failed: ModuleNotFoundError"):
        load_model("no_such_package:make")


@pytest.mark.parametrize("ref", ["", "resnet18", "timm:", "a-b:c", "net.py"])
def test_an_unknown_reference_lists_the_known_ones(ref: str) -> None:
    with pytest.raises(UsageError, match=r"is not a model reference; expected file.py:factory"):
        load_model(ref)


@pytest.mark.parametrize("package", ["timm", "torchvision"])
def test_a_missing_model_package_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch,
                                                            package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'edgewright\[{package}\]'"):
        load_model(f"{package}:resnet18")


def test_timm_and_torchvision_models_load_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def make(name: str, **options: Any) -> nn.Module:
        made.append((name, options))
        return nn.Identity().train()

    names = ["resnet18", "resnet34"]
    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(
        is_model=names.__contains__, list_models=lambda: names, create_model=make))
    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace(
        models=SimpleNamespace(list_models=lambda: names, get_model=make)))
    assert not load_model("timm:resnet18").training
    assert not load_model("torchvision:resnet34").training
    assert made == [("resnet18", {"pretrained": False}), ("resnet34", {"weights": None})]
    for package in ("timm", "torchvision"):
        with pytest.raises(ModelError, match=f"{package} has no model 'resnet19'; did you mean"):
            load_model(f"{package}:resnet19")


def model() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


@pytest.mark.parametrize("wrap", [
    lambda state: state, lambda state: {"state_dict": state, "epoch": 3},
    lambda state: {f"module.{key}": value for key, value in state.items()},
    lambda state: {"model": {f"module.{key}": value for key, value in state.items()}},
])
def test_weights_load_from_wrapping_dicts(net: Any, tmp_path: Path,
                                          wrap: Callable[..., Any]) -> None:
    state = model().state_dict()
    torch.save(wrap(state), tmp_path / "w.pt")
    found = load_model(f"{net}:make_net", tmp_path / "w.pt").state_dict()
    assert all(torch.equal(found[key], state[key]) for key in state)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_model_may_have_a_submodule_called_module(tmp_path: Path, prefix: str) -> None:
    """As one has that wraps another; or as DataParallel leaves such a one."""
    inner, empty = nn.ModuleDict({"module": model()}), nn.ModuleDict({"module": model()})
    with torch.no_grad():
        inner.get_parameter("module.0.weight").add_(1)
    torch.save({f"{prefix}{key}": value for key, value in inner.state_dict().items()},
               tmp_path / "w.pt")
    load_weights(empty, tmp_path / "w.pt")
    assert torch.equal(empty.get_parameter("module.0.weight"), inner.get_parameter("module.0.weight"))


def test_safetensors_load_and_a_batch_counter_may_be_missing(net: Any, tmp_path: Path) -> None:
    state = {k: v for k, v in model().state_dict().items() if "num_batches" not in k}
    save_file(state, tmp_path / "w.safetensors")
    found = load_model(f"{net}:make_net", tmp_path / "w.safetensors").state_dict()
    assert torch.equal(found["0.weight"], state["0.weight"])


def test_mismatched_keys_are_listed(tmp_path: Path) -> None:
    state = model().state_dict()
    del state["0.bias"]
    state["0.weight"] = torch.zeros(5, 3)
    state.update({f"extra{i}": torch.zeros(1) for i in range(7)})
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ModelError) as caught:
        load_weights(model(), tmp_path / "w.pth")
    assert str(caught.value).endswith(
        "do not fit Sequential: 1 missing: 0.bias; 7 unexpected: extra0, extra1, extra2, extra3, "
        "extra4 and 2 more; 1 with mismatched shapes: 0.weight (file (5, 3), model (4, 3))")


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("harm",)


def test_files_without_weights_raise_model_error(tmp_path: Path,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelError, match=r"weights file .*absent.pt does not exist"):
        load_weights(model(), tmp_path / "absent.pt")
    (tmp_path / "w.onnx").touch()
    with pytest.raises(ModelError, match=r"suffix '.onnx'; expected .safetensors, .pt or .pth"):
        load_weights(model(), tmp_path / "w.onnx")
    for name in ("cut.pt", "cut.safetensors", "empty.pt"):
        torch.save(model().state_dict(), tmp_path / "whole.pt")
        size = 0 if name == "empty.pt" else 200
        (tmp_path / name).write_bytes((tmp_path / "whole.pt").read_bytes()[:size])
        with pytest.raises(ModelError, match=f"{name} is truncated, or contains objects other than tensors"):
            load_weights(model(), tmp_path / name)
    torch.save({"a": Harmful()}, tmp_path / "harm.pt")
    with pytest.raises(ModelError, match=r"harm\.pt is truncated, or contains objects other than tensors"):
        load_weights(model(), tmp_path / "harm.pt")
    assert "harm" not in capsys.readouterr().out
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    with pytest.raises(ModelError, match=r"list.pt holds a list; expected a state dict"):
        load_weights(model(), tmp_path / "list.pt")


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no trained models in {SHARED}")
def test_a_real_checkpoint_lists_mismatched_keys() -> None:
    with pytest.raises(ModelError, match=r"unexpected: bn1\.bias"):
        load_weights(model(), SHARED / "resnet20-cifar10.safetensors")
