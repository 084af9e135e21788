from __future__ import annotations

import pytest

from edgewright.errors import ModelError, UsageError
from edgewright.exporters._converter_errors import ConverterErrors


class SpecificationViolated(Exception):  # noqa: N818 - named as torch names its own
    """An exception of a converter's own, as torch's verifier of operators has one."""


@pytest.mark.parametrize("error", [SpecificationViolated("not in Core ATen"), Exception("plain"),
                                   RuntimeError("failed"), KeyError("val")])
def test_every_exception_of_a_converter_names_the_format(error: Exception) -> None:
    with pytest.raises(ModelError, match=r"the program has no ExecuTorch translation: .*; replace "
                                         r"the operator in the model") as found, ConverterErrors(
                                             "ExecuTorch"):
        raise error
    assert found.value.__cause__ is error


@pytest.mark.parametrize("error", [UsageError("wrong"), OSError("disk full"), MemoryError(),
                                   ModuleNotFoundError("no package"), KeyboardInterrupt()])
def test_what_is_not_about_the_program_passes(error: BaseException) -> None:
    with pytest.raises(type(error)) as found, ConverterErrors("ONNX"):
        raise error
    assert found.value is error
