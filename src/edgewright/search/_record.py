"""The record of a search: what its report shows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final, final

from edgewright.allocation import JointSpace
from edgewright.bundle import read_bundle
from edgewright.core import (
    CONSTRAINTS,
    Budget,
    CostPrediction,
    Figures,
    MetricSpec,
    SearchRecord,
    TrialRecord,
    Value,
)
from edgewright.errors import StorageError
from edgewright.pipeline import Recipe
from edgewright.quantization import QAT, Quantization
from edgewright.search._builder import Builder
from edgewright.search._predictions import compare_predictions
from edgewright.search._recipes import training_seconds
from edgewright.search._storage import find_store
from edgewright.search._store import TrialStore
from edgewright.search._trial import Trial, find_front
from edgewright.training import Training

_FACTS: Final = "facts"
_FINISHED: Final = "model.edge"
_AGREEMENT: Final = MetricSpec(name="agreement", unit="fraction")


@final
class SearchFacts(Value):
    """What does not change during a search.

    Attributes:
        budget: The limits.
        original: The original's figures, metrics on the test split.
        validated: The original's metrics on the validation split.
        score: What candidates are compared by.
        weights: Names of the weights that are quantized.
        blocks: The weights of every block that may be removed, by its name.
        time_limit: Seconds that the search may take.
    """

    budget: Budget
    original: Figures
    validated: Figures
    score: MetricSpec
    weights: tuple[str, ...]
    blocks: dict[str, tuple[str, ...]]
    time_limit: float


def keep_facts(store: TrialStore, builder: Builder, space: JointSpace, time_limit: float) -> None:
    """Keep what `read_record` needs besides the trials."""
    metric = builder.settings.task.metric
    store.note(_FACTS, SearchFacts(
        budget=builder.settings.budget, original=builder.original, validated=builder.validated,
        score=metric if builder.judge is None else _AGREEMENT, weights=tuple(space.bits),
        blocks={block.name: block.tensors for block in space.blocks},
        time_limit=time_limit).model_dump(mode="json"))


def read_record(folder: str | Path, store: str | None = None) -> SearchRecord:
    """What a search has tried so far.

    Args:
        folder: The directory of a search.
        store: URL of the database of its trials, needed only if it has a password.

    Raises:
        StorageError: It holds no search, or one that has not measured a candidate; or its database
            cannot be reached.
    """
    root = Path(folder)
    return make_record(TrialStore(find_store(root, store), seed=0), root)


def read_race(folder: str | Path, store: str | None = None) -> list[list[Trial]]:
    """The trials of every round of a search's race, in the order of their building.

    Args:
        folder: The directory of a search.
        store: URL of the database of its trials, needed only if it has a password.

    Raises:
        StorageError: It holds no search, or its database cannot be reached.
    """
    trials = TrialStore(find_store(Path(folder), store), seed=0).trials()
    return [[trial for trial in trials if trial.round == place]
            for place in range(1, 1 + max((trial.round for trial in trials), default=0))]


def make_record(store: TrialStore, root: Path) -> SearchRecord:
    """What the search of a storage and a directory has tried so far.

    Raises:
        StorageError: It has not measured a candidate.
    """
    known, trials = store.recall(_FACTS), store.trials()
    if known is None or not trials:
        raise StorageError(f"the search in {root} has measured no candidate yet; repeat its "
                           "command to go on")
    facts = SearchFacts.model_validate(known)
    return SearchRecord(
        budget=facts.budget, original=facts.original, validated=facts.validated, score=facts.score,
        trials=tuple(_trial_record(root, trial, facts) for trial in trials),
        front=tuple(trial.name for trial in find_front(trials)), chosen=store.chosen,
        predictions=_predictions(trials), phases=store.phases, seconds=store.seconds,
        time_limit=facts.time_limit)


def _trial_record(root: Path, trial: Trial, facts: SearchFacts) -> TrialRecord:
    recipe, finished = trial.recipe, trial.folder(root) / _FINISHED
    removed = () if recipe.blocks is None else recipe.blocks.remove
    widths = None if recipe.prune is None else recipe.prune.widths
    return TrialRecord(
        name=trial.name, removed=removed, widths=widths or {}, bits=_count_bits(recipe, facts),
        training_seconds=training_seconds(recipe.recover),
        quantized_training_seconds=training_seconds(_quantized_training(recipe.quantize)),
        predicted=trial.predicted, figures=trial.figures,
        tested=read_bundle(finished).manifest.report.compressed if finished.is_file() else None,
        score=trial.score, seconds=trial.seconds,
        within_limits=trial.cost_ratio(facts.budget, facts.original) <= 1)


def _count_bits(recipe: Recipe, facts: SearchFacts) -> dict[int, int]:
    """How many weights are stored in how many bits, those of removed blocks aside."""
    scheme = recipe.quantize
    if scheme is None:
        return {}
    removed = () if recipe.blocks is None else recipe.blocks.remove
    gone = {tensor for block in removed for tensor in facts.blocks.get(block, ())}
    stored = (scheme.layers.get(weight) for weight in facts.weights if weight not in gone)
    found: list[int] = [bits for layer in stored
                        if (bits := scheme.weights if layer is None else layer.weights)]
    return dict(Counter(found))


def _quantized_training(scheme: Quantization | None) -> Training | None:
    return scheme.method.training if scheme is not None and isinstance(scheme.method, QAT) else None


def _predictions(trials: Sequence[Trial]) -> tuple[CostPrediction, ...]:
    figures = {name: constraint.figure for name, constraint in CONSTRAINTS.items()}
    found = compare_predictions(trials, figures)
    return tuple(
        CostPrediction(name=name, figure=figures[name], mean_error=error,
                       trials=sum(name in trial.predicted for trial in trials),
                       rank_correlation=None if math.isnan(correlation) else correlation)
        for name, (error, correlation) in found.items())
