"""Accuracy and mean cost, counted by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgewright.bundle import Bundle
from edgewright.errors import DataError
from edgewright.runtime import Session, evaluate


@pytest.fixture
def session(staged_bundle: Bundle) -> Any:
    return Session(staged_bundle)


def _batches(sizes: tuple[int, ...] = (7, 1, 12)) -> Any:
    rng = np.random.default_rng(3)
    return [((rng.normal(size=(size, 4)).astype(np.float32),), rng.integers(0, 3, size))
            for size in sizes]


def test_evaluation_is_that_of_the_single_samples(session: Any) -> None:
    batches = _batches()
    found = evaluate(session, iter(batches))
    hits, exits = [], []
    for (samples,), targets in batches:
        for sample, target in zip(samples, targets, strict=True):
            prediction = session(sample[np.newaxis])
            hits.append(int(prediction.output[0].argmax()) == target)
            exits.append(int(prediction.exit[0]))
    assert found.samples == 20
    assert found.metrics["accuracy"] == pytest.approx(sum(hits) / 20)
    assert found.exit_shares == tuple(exits.count(index) / 20 for index in range(3))
    assert found.macs == pytest.approx(sum((100, 1100, 11100)[index] for index in exits) / 20)
    assert found.energy_mj == pytest.approx(sum((0.5, 0.75, 8.75)[index] for index in exits) / 20)


def test_perfect_targets_give_accuracy_one(session: Any) -> None:
    inputs = _batches((9,))[0][0]
    targets = session(*inputs).output.argmax(axis=1)
    assert evaluate(session, [(inputs, targets)]).metrics == {"accuracy": 1.0}


def test_no_batches(session: Any) -> None:
    with pytest.raises(DataError, match="no batches were given"):
        evaluate(session, [])


@pytest.mark.parametrize(("targets", "message"), [
    (np.zeros(2), "targets are float64"), (np.zeros(3, int), r"shape \(3,\), expected integers"),
    (np.zeros((2, 1), int), r"of shape \(2, 1\)"),
    (np.array([0, 3]), "are from 0 to 3, expected 0 to 2"), (np.array([-1, 0]), "are from -1 to 0"),
])
def test_targets_that_do_not_fit(session: Any, targets: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        evaluate(session, [((np.ones((2, 4), np.float32),), targets)])


def test_output_that_is_no_classifier(make_bundle: Callable[..., Bundle],
                                      staged_bundle: Bundle) -> None:
    class Scalar:
        runtime = "scalar"

        def run(self, inputs: Any) -> tuple[Any, ...]:
            return (np.zeros(len(inputs[0]), np.float32),)

    bundle = make_bundle([b""], staged_bundle.manifest.model.inputs, staged_bundle.manifest.model.outputs)
    session = Session(bundle, engine=lambda model, threads: Scalar())
    with pytest.raises(DataError, match="accuracy needs a classifier"):
        evaluate(session, [((np.ones((2, 4), np.float32),), np.zeros(2, int))])


def test_other_goals_have_no_accuracy(staged_bundle: Bundle) -> None:
    manifest = staged_bundle.manifest.with_model(goal="embedding")
    session = Session(Bundle(staged_bundle.path, manifest, staged_bundle.segments))
    with pytest.raises(DataError, match="goal is embedding, whose outputs have no accuracy; pass"):
        evaluate(session, _batches())
