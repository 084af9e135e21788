"""Where candidates are built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, final

from edgewright.pipeline import RunSettings
from edgewright.search._builder import Builder
from edgewright.search._built import Built, Failure, attempt
from edgewright.search._candidate import Candidate
from edgewright.search._config import Search


class Executor(Protocol):
    """Builds candidates; asking, telling and timing are left to the process that searches.

    Attributes:
        workers: How many candidates are built at once.
    """

    @property
    def workers(self) -> int:
        """How many candidates are built at once."""

    def prepare(self, settings: RunSettings, config: Search,
                identity: Mapping[str, str]) -> None:
        """Check that candidates can be built, before work is spent.

        Args:
            settings: Model, data, budget and seed.
            config: The settings of the search.
            identity: What every worker must find equal; see `run_identity`.

        Raises:
            InputError: A worker finds another model, data, settings or versions.
        """

    def build(self, builder: Builder, candidates: Sequence[Candidate],
              ) -> Iterator[Built | Failure]:
        """Build candidates.

        Args:
            builder: What they are built with; their files are in its directory afterwards.
            candidates: The candidates.

        Yields:
            What came of each, in the order of the candidates. While the caller works on one, no
            other is being built, so that latencies can be measured in between.
        """


@final
@dataclass(frozen=True)
class InProcess:
    """Builds candidates in this process, one after the other.

    Attributes:
        workers: For how many candidates to ask at once; more than 1 repeats the proposals of a
            search with that many workers.
    """

    workers: int = 1

    def prepare(self, settings: RunSettings, config: Search,
                identity: Mapping[str, str]) -> None:
        """Nothing needs to be checked."""

    def build(self, builder: Builder, candidates: Sequence[Candidate],
              ) -> Iterator[Built | Failure]:
        """Build each when the caller asks for it."""
        for candidate in candidates:
            yield attempt(partial(builder.build, candidate))
