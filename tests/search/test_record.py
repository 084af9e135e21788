"""What the record of a search says of its trials."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import edgewright as ew
from edgewright.core import ACCURACY, Figures, Measurement
from edgewright.errors import StorageError
from edgewright.pipeline import Recipe
from edgewright.quantization import QAT, Precision
from edgewright.search import read_record
from edgewright.search._record import keep_facts
from edgewright.search._storage import locate_store
from edgewright.search._store import TrialStore
from edgewright.search._trial import Trial


def figures(accuracy: float, size: float, split: str) -> Figures:
    return Figures.of(Measurement.of(ACCURACY, accuracy, split=split),
                      Measurement(name="size_bytes", value=size, kind="measured"),
                      Measurement(name="latency_ms", value=1.0, kind="measured"))


SPACE = SimpleNamespace(
    bits=dict.fromkeys(("stem", "block.a", "block.b", "other.a", "head")),
    blocks=[SimpleNamespace(name="block", tensors=("block.a", "block.bias", "block.b")),
            SimpleNamespace(name="other", tensors=("other.a",))])
FEWER = Precision(weights=4)
TRIALS = [
    Trial(name="quantized", recipe=Recipe(quantize=ew.Quantization()), seconds=2, score=0.93,
          figures=figures(0.93, 100, "val"), predicted={"size": 110}),
    Trial(name="00-1", seconds=9, score=0.9, figures=figures(0.9, 50, "val"),
          predicted={"size": 50},
          recipe=Recipe(
              blocks=ew.BlockPruning(remove=("block",)),
              prune=ew.ChannelPruning(widths={"stem": 8}), recover=ew.Training(time=30),
              quantize=ew.Quantization(layers={"other.a": FEWER, "block.a": FEWER},
                                       method=QAT(training=ew.Training(time=12))))),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store = TrialStore(locate_store(tmp_path), seed=0)
    builder = SimpleNamespace(
        settings=SimpleNamespace(budget=ew.Budget(size="60 B"),
                                 task=SimpleNamespace(metric=ACCURACY)),
        judge=None, original=figures(0.92, 200, "test"), validated=figures(0.95, 200, "val"))
    keep_facts(store, cast(Any, builder), cast(Any, SPACE), 600.0)
    for trial in TRIALS:
        store.add(trial)
    store.chosen = "00-1"
    for phase, seconds in (("prepare", 3.0), ("race", 4.0), ("prepare", 2.0)):
        store.add_seconds(phase, seconds)
    store.seconds = 9.0
    return tmp_path


def test_a_trial_says_what_it_changed(folder: Path) -> None:
    quantized, changed = read_record(folder).trials
    assert (quantized.removed, quantized.widths, quantized.bits) == ((), {}, {8: 5})
    assert (quantized.training_seconds, quantized.within_limits) == (0.0, False)
    assert (changed.removed, changed.widths) == (("block",), {"stem": 8})
    assert changed.bits == {8: 2, 4: 1}  # the weights of the removed block aside
    assert (changed.training_seconds, changed.quantized_training_seconds) == (30.0, 12.0)
    assert changed.within_limits
    assert changed.tested is None


def test_a_search_says_how_well_it_predicts_and_where_its_time_went(folder: Path) -> None:
    record = read_record(folder)
    assert record.front == ("00-1", "quantized")
    assert record.chosen == "00-1"
    size, = record.predictions
    assert (size.name, size.figure, size.trials) == ("size", "size_bytes", 2)
    assert size.mean_error == pytest.approx(0.05)
    assert size.rank_correlation == pytest.approx(1.0)
    assert record.phases == {"prepare": 5.0, "race": 4.0}
    assert (record.seconds, record.time_limit) == (9.0, 600.0)
    assert record.drop_of(record.trials[0].figures) == pytest.approx(0.02)


def test_trials_keep_their_places_when_they_are_measured_again(folder: Path) -> None:
    store = TrialStore(locate_store(folder), seed=0)
    store.add(TRIALS[0].replace(score=0.94))
    assert [(trial.name, trial.score) for trial in store.trials()] == [
        ("quantized", 0.94), ("00-1", 0.9)]


def test_a_search_without_a_candidate_is_refused(tmp_path: Path) -> None:
    TrialStore(locate_store(tmp_path), seed=0)
    with pytest.raises(StorageError, match="has measured no candidate yet"):
        read_record(tmp_path)
