"""The manifest of a bundle: versioned JSON with a part for the runtime and a part for reports."""

from __future__ import annotations

from typing import Any, Final, Literal

from edgewright.core._model_spec import ModelSpec
from edgewright.core._run_report import RunReport
from edgewright.core._settings import Value

FORMAT_VERSION: Final = 7


class Manifest(Value):
    """A bundle's ``manifest.json``, also written to the run directory.

    Attributes:
        format_version: Version of this schema; a reader refuses any other.
        model: What a runtime needs to run the bundle.
        report: How the bundle was made and what was measured on it.

    Example:
        >>> from edgewright.core import Budget, Figures
        >>> manifest = Manifest(
        ...     model=ModelSpec(name="tiny", inputs=(), outputs=(), segments=()),
        ...     report=RunReport(data="digits", recipe={}, seed=0, budget=Budget(), versions={},
        ...                      machine="", original=Figures(), compressed=Figures(),
        ...                      simulated=Figures()))
        >>> manifest.with_report(seed=7).report.seed
        7
    """

    format_version: Literal[7] = FORMAT_VERSION
    model: ModelSpec
    report: RunReport

    def with_model(self, **changes: Any) -> Manifest:
        """This manifest with other fields in its model part; raises what `replace` raises."""
        return self.replace(model=self.model.replace(**changes))

    def with_breaches(self) -> Manifest:
        """This manifest with the limits of its budget that its figures break."""
        report = self.report
        return self.with_report(breaches=report.budget.breaches(report.compressed, report.original))

    def with_report(self, **changes: Any) -> Manifest:
        """This manifest with other fields in its report part; raises what `replace` raises."""
        return self.replace(report=self.report.replace(**changes))
