from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import edgewright as ew
from benchmarks.jobs.lines import count_lines
from edgewright.pipeline import Result
from edgewright.task import load_model, load_task
from edgewright.training import Training

FOLDER = Path(__file__).parents[2] / "examples" / "jobs"
METRICS = {
    "anomalies": ["auroc"],
    "binary": ["accuracy", "auroc"],
    "custom_goal": ["angle"],
    "day_and_night": ["accuracy"],
    "embedding": ["recall_at_1"],
    "regression": ["mae", "rmse"],
    "segmentation": ["miou", "pixel_accuracy"],
    "spoken_digits": ["accuracy"],
    "super_resolution": ["psnr"],
    "tabular": ["accuracy"],
    "tags": ["f1", "accuracy"],
    "text": ["accuracy"],
    "two_heads": ["age/mae", "age/rmse", "sex/accuracy"],
    "vision_transformer": ["accuracy"],
}
SHORT = Training(epochs=1, batch_size=64, lr=0.001, optimizer="adamw", augment=False)
WHOLE = ew.Recipe(name="whole", prune=ew.ChannelPruning(ratio=0.25, round_to=4, samples=64,
                                                        prove_export=False),
                  recover=SHORT, quantize=ew.Quantization(method=ew.QAT(training=SHORT),
                                                          calibration_samples=64))
FAST = ew.Recipe.by_name("fast")


@pytest.fixture(autouse=True, scope="module")
def few_runs() -> Iterator[None]:
    """Latencies are measured from a few runs, because nothing here is about them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgewright.pipeline._evaluate._ROUNDS", 5)
        patch.setattr("edgewright.pipeline._evaluate._WARMUP", 1)
        patch.setattr("edgewright.pipeline._assemble.find_slow_layers", lambda *_: ())
        yield


@pytest.fixture(scope="module")
def train() -> Callable[[str], tuple[ew.Program, ew.Task]]:
    known: dict[str, tuple[ew.Program, ew.Task]] = {}

    def run(job: str) -> tuple[ew.Program, ew.Task]:
        if job not in known:
            task = load_task(f"{FOLDER / job}.py:make_task")
            model = load_model(f"{FOLDER / job}.py:make_model")
            captured = ew.Program.capture(model, task.train.example(2))
            known[job] = ew.fit(captured, task, SHORT), task
        return known[job]
    return run


def test_every_example_is_listed() -> None:
    assert sorted(METRICS) == sorted(path.stem for path in FOLDER.glob("*.py"))


@pytest.mark.parametrize("job", METRICS)
def test_the_user_of_a_job_writes_few_lines(job: str) -> None:
    assert count_lines(FOLDER / f"{job}.py").task <= (25 if job == "custom_goal" else 8)


@pytest.mark.parametrize("job", METRICS)
def test_a_job_is_quantized_to_a_proved_file(
        job: str, train: Callable[[str], tuple[ew.Program, ew.Task]], tmp_path: Path) -> None:
    program, task = train(job)
    result = ew.compress(program, task, recipe=FAST, out=tmp_path / "run", quiet=True)
    _check(job, result, task)


@pytest.mark.parametrize("job", METRICS)
def test_a_job_is_pruned_recovered_and_trained_in_int8(
        job: str, train: Callable[[str], tuple[ew.Program, ew.Task]], tmp_path: Path) -> None:
    program, task = train(job)
    result = ew.compress(program, task, recipe=WHOLE, out=tmp_path / "run", quiet=True)
    _check(job, result, task)
    report = result.manifest.report
    assert report.compressed["macs"] < 0.85 * report.original["macs"]
    assert [stage.name for stage in report.stages] == ["capture", "prune", "recover", "quantize"]
    for stage in report.stages:
        assert stage.figures.metric is None or stage.figures.metric.name == METRICS[job][0]


def test_a_search_finds_a_file_for_a_table(
        train: Callable[[str], tuple[ew.Program, ew.Task]], tmp_path: Path) -> None:
    program, task = train("tabular")
    training = SHORT.replace(time=60)
    search = ew.Search(training=training, quantized_training=training, samples=32, candidates=1)
    result = ew.compress(program, task, ew.Budget(size="50 %"), time=3600, search=search,
                         out=tmp_path / "run", quiet=True)
    _check("tabular", result, task)
    report = result.manifest.report
    assert report.breaches == ()
    assert report.compressed["size_bytes"] <= 0.5 * report.original["size_bytes"]


def _check(job: str, result: Result, task: ew.Task) -> None:
    report = result.manifest.report
    assert report.parity is not None
    assert report.parity.agreement >= 0.995
    for figures in (report.original, report.compressed, report.simulated):
        assert [metric.name for metric in figures.metrics] == METRICS[job]
    assert [(metric.unit, metric.higher_is_better) for metric in report.compressed.metrics] \
        == [(spec.unit, spec.higher_is_better) for spec in task.metrics]
    assert report.compressed["size_bytes"] < report.original["size_bytes"]
    assert result.manifest.model.goal == task.goal.name
    checks = ew.verify(result.bundle, task)
    assert [check.figure for check in checks][:len(METRICS[job])] == METRICS[job]
