from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from edgewright.core import Preprocessing
from edgewright.distill import (
    Distillation,
    DistillationLoss,
    ModuleTeacher,
    Teacher,
    TeacherOutput,
    cache_teacher,
    fit,
)
from edgewright.errors import DataError, ModelError, StorageError, UsageError
from edgewright.program import Program
from edgewright.task import Batch, DatasetSplit, ImageSplit, Split, Task, View
from edgewright.training import Augmentation, Training, train

SAMPLES = 600
RECIPE = Preprocessing(channels=1, height=8, width=8, mean=(0.5,), std=(0.25,))


def images(count: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randint(0, 256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8),
            torch.randint(0, 4, (count,), generator=generator))


def task_of(pixels: Any, labels: Any, *, flip: bool = True) -> Any:
    train, val, test = (ImageSplit(values, targets, RECIPE, flip=flip) for values, targets in (
        (pixels, labels), images(20, 1), images(20, 2)))
    return Task(train, val, test)


def net(classes: int = 4, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 8, 3, stride=2), nn.ReLU(), nn.Flatten(),
                         nn.Linear(72, classes))


@pytest.fixture
def task() -> Any:
    return task_of(*images(SAMPLES, 0))


class Counting(Teacher):
    """A teacher that counts what it is asked, and may be stopped, and speaks of some views."""

    def __init__(self, module: nn.Module, views: Any = None, stop_at: Any = None) -> None:
        self.inner = ModuleTeacher(module)
        self.name = self.inner.name
        self.views = views
        self.stop_at = stop_at
        self.asked = 0

    def teach(self, batch: Any) -> Any:
        if self.stop_at is not None and self.asked >= self.stop_at:
            raise KeyboardInterrupt
        self.asked += len(batch.rows)
        return self.inner.teach(batch)


@pytest.mark.parametrize("classes", [4, 40])
def test_the_cache_returns_the_teachers_outputs_in_every_view(task: Any, tmp_path: Path,
                                                              classes: int) -> None:
    teacher = ModuleTeacher(net(classes))
    cached = cache_teacher(teacher, task, tmp_path / "c", views=3)
    for number in range(3):
        for batch in task.train.batches(100, shuffle_seed=number, view=View(number)):
            live, kept = teacher.teach(batch).outputs, cached.teach(batch).outputs
            if classes == 4:
                assert torch.equal(kept, live.half().float())
            else:
                largest = live.topk(16).indices
                torch.testing.assert_close(kept.softmax(1).gather(1, largest),
                                           live.softmax(1).gather(1, largest), rtol=0.01, atol=1e-3)
    assert cached.bytes_per_sample == 3 * (8 if classes == 4 else 66)
    assert cached.views == 3


def test_a_subset_is_looked_up_by_row(tmp_path: Path) -> None:
    pixels, labels = images(80, 0)
    whole = ImageSplit(pixels, labels, RECIPE)
    task = Task(whole.select(torch.arange(79, 0, -2)), whole.select(range(0, 80, 2)),
                ImageSplit(*images(9, 3), RECIPE))
    teacher = ModuleTeacher(net())
    cached = cache_teacher(teacher, task, tmp_path / "c", views=None)
    batch = next(task.train.batches(40, shuffle_seed=0))
    assert torch.equal(cached.teach(batch).outputs, teacher.teach(batch).outputs.half().float())
    for split in (task.val, whole.select([78])):
        with pytest.raises(DataError, match=r"no entry for sample \d+: it covers the training split"):
            cached.teach(next(split.batches(4)))


def test_the_teacher_runs_only_once(task: Any, tmp_path: Path) -> None:
    teacher = Counting(net())
    cache_teacher(teacher, task, tmp_path / "c", views=2)
    assert teacher.asked == 2 * SAMPLES + 32  # and once more about a few of them
    again = Counting(net())
    cache_teacher(again, task, tmp_path / "c", views=2)
    assert again.asked == 32


@pytest.mark.parametrize("stop_at", [300, 700, 1300])
def test_an_interrupted_cache_continues_to_the_same_file(task: Any, tmp_path: Path,
                                                         stop_at: int) -> None:
    cache_teacher(Counting(net()), task, tmp_path / "whole", views=3)
    path = tmp_path / "c"
    with pytest.raises(KeyboardInterrupt):
        cache_teacher(Counting(net(), stop_at=stop_at), task, path, views=3)
    assert not path.exists()
    (partial,) = tmp_path.glob("c.*.partial")
    with partial.open("ab") as file:
        file.write(b"a torn record")
    teacher = Counting(net())
    cache_teacher(teacher, task, path, views=3)
    assert path.read_bytes() == (tmp_path / "whole").read_bytes()
    assert teacher.asked < 3 * SAMPLES
    assert [entry.name for entry in sorted(tmp_path.iterdir())] == ["c", "whole"]


def test_a_full_disk_raises_and_the_cache_can_be_continued(task: Any, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="file size limits are POSIX")
    cache_teacher(ModuleTeacher(net()), task, tmp_path / "whole", views=3)
    path, before = tmp_path / "c", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6001, before[1]))
    try:
        with pytest.raises(StorageError, match=r"cannot write the teacher cache .*c: File too large"):
            cache_teacher(ModuleTeacher(net()), task, path, views=3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not path.exists()
    teacher = Counting(net())
    cache_teacher(teacher, task, path, views=3)
    assert path.read_bytes() == (tmp_path / "whole").read_bytes()
    assert teacher.asked < 3 * SAMPLES


def test_a_partial_file_with_another_header_is_restarted(task: Any, tmp_path: Path) -> None:
    path = tmp_path / "c"
    with pytest.raises(KeyboardInterrupt):
        cache_teacher(Counting(net(), stop_at=400), task, path, views=1)
    (partial,) = tmp_path.glob("c.*.partial")
    partial.write_bytes(b"something else\n" + partial.read_bytes())
    teacher = Counting(net())
    cache_teacher(teacher, task, path, views=1)
    assert teacher.asked == SAMPLES + 32


def changed_labels() -> Any:
    pixels, labels = images(SAMPLES, 0)
    labels[-1] = (labels[-1] + 1) % 4
    return task_of(pixels, labels)


STALE = {
    "weights": ({"teacher": net(seed=1)}, r"for another teacher \(Sequential \w+, not"),
    "fewer samples": ({"task": task_of(*images(599, 0))}, "for 600 samples, not 599"),
    "labels": ({"task": changed_labels()}, "for other training samples"),
    "images": ({"task": task_of(images(SAMPLES, 7)[0], images(SAMPLES, 0)[1])},
               "for other training samples"),
    "views": ({"views": 3}, "for 2 views, not 3"),
    "no views": ({"views": None}, "for 2 views, not samples without augmentation"),
    "augmentation": ({"task": task_of(*images(SAMPLES, 0), flip=False)},
                     "for samples augmented in another way"),
}


@pytest.mark.parametrize("change", STALE)
def test_a_stale_cache_raises_with_the_reason(task: Any, tmp_path: Path, change: Any) -> None:
    cache_teacher(ModuleTeacher(net()), task, tmp_path / "c", views=2)
    before = (tmp_path / "c").read_bytes()
    arguments, message = STALE[change]
    teacher = ModuleTeacher(arguments.get("teacher", net()))
    with pytest.raises(StorageError, match=rf"{message}.*; delete it, or give another path"):
        cache_teacher(teacher, arguments.get("task", task), tmp_path / "c",
                      views=arguments.get("views", 2))
    assert (tmp_path / "c").read_bytes() == before


class Shifted(Split):
    """Images that every policy shifts by another number."""

    augmentation_policies = frozenset({"standard", "rand_augment"})

    def __init__(self) -> None:
        super().__init__("train", 40, torch.arange(40) % 4)

    def _stream(self, chunks: Any, view: Any) -> Iterator[Any]:
        for chunk in chunks:
            shift = 0.0 if view is None else view.number + len(view.policy)
            yield Batch((chunk.float().reshape(-1, 1, 1, 1).expand(-1, 1, 8, 8) + shift,),
                        torch.arange(40)[chunk] % 4, chunk, view)


def test_views_of_another_policy_are_different_views(tmp_path: Path) -> None:
    task, teacher = Task(Shifted(), images_float(8), images_float(9)), ModuleTeacher(net())
    cached = cache_teacher(teacher, task, tmp_path / "c", views=2, policy="rand_augment")
    batch = next(task.train.batches(9, view=View(1, "rand_augment")))
    assert torch.equal(cached.teach(batch).outputs, teacher.teach(batch).outputs.half().float())
    with pytest.raises(UsageError, match=r"view 1 \(standard\) was requested"):
        cached.teach(next(task.train.batches(9, view=View(1))))
    with pytest.raises(StorageError, match="for samples augmented by 'rand_augment', not 'standard'"):
        cache_teacher(teacher, task, tmp_path / "c", views=2)


def test_fit_caches_the_views_that_it_trains_on(tmp_path: Path) -> None:
    task = Task(Shifted(), images_float(8), images_float(9))
    program = Program.capture(net(), task.train.example(2))
    config = Training(epochs=3, augment="rand_augment", compute="cpu")
    fit(program, task, config, program, cache=tmp_path / "c", views=2)
    kept = cache_teacher(ModuleTeacher(program), task, tmp_path / "c", views=2,
                         policy="rand_augment")
    batch = next(task.train.batches(8, view=config.augment.view(0)))
    assert torch.equal(kept.teach(batch).outputs, program.run(*batch.inputs).half().float())


class Scaled(nn.Module):
    """Code that changes, with the same weights and the same looks."""

    def __init__(self, scale: Any) -> None:
        super().__init__()
        self.net = net()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.net(x)


def test_a_teacher_with_changed_code_is_detected(task: Any, tmp_path: Path) -> None:
    cache_teacher(ModuleTeacher(Scaled(1.0)), task, tmp_path / "c", views=1)
    with pytest.raises(StorageError, match=r"Scaled \w+ differ from those stored in .*: its "
                       "code has changed, or the file is damaged"):
        cache_teacher(ModuleTeacher(Scaled(1.2)), task, tmp_path / "c", views=1)


def test_a_damaged_file_raises(task: Any, tmp_path: Path) -> None:
    path = tmp_path / "c"
    cache_teacher(ModuleTeacher(net()), task, path, views=2)
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with pytest.raises(StorageError, match=rf"has {len(whole) - 5} bytes, and {len(whole)} were "
                       "expected: it is truncated or damaged; delete it"):
        cache_teacher(ModuleTeacher(net()), task, path, views=2)
    for content in (b"", b"{}\n", whole[1:], b"\xff" * 100):
        path.write_bytes(content)
        with pytest.raises(StorageError, match="is not a teacher cache, is damaged, or has another"):
            cache_teacher(ModuleTeacher(net()), task, path, views=2)


def test_a_folder_cannot_be_a_cache(task: Any, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot read the teacher cache .*: Is a directory"):
        cache_teacher(ModuleTeacher(net()), task, tmp_path, views=1)
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"cannot write the teacher cache .*: .*; choose a file"):
        cache_teacher(ModuleTeacher(net()), task, tmp_path / "file" / "c", views=1)


class Drawn(Dataset[Any]):
    """Draws its own augmentation, afresh each time."""

    def __init__(self, spread: Any) -> None:
        self.spread = spread

    def __len__(self) -> int:
        return 50

    def __getitem__(self, index: Any) -> tuple[Any, ...]:
        noise = self.spread * torch.randn(1, 8, 8)
        return torch.full((1, 8, 8), index / 50) + noise, index % 4


def test_a_randomly_augmenting_dataset_raises(tmp_path: Path) -> Any:
    def drawn(spread: Any) -> Any:
        return Task(DatasetSplit(Drawn(spread)), images_float(8), images_float(9))

    cached = cache_teacher(ModuleTeacher(net()), drawn(0.0), tmp_path / "c", views=1)
    assert cached.bytes_per_sample == 8
    with pytest.raises(DataError, match=r"sample 0 of the train split differs each time "
                       r"it is read.*augments randomly"):
        cache_teacher(ModuleTeacher(net()), drawn(0.1), tmp_path / "d", views=1)


def images_float(count: int) -> tuple[Any, ...]:
    return torch.randn(count, 1, 8, 8), torch.arange(count) % 4


def test_views_that_are_not_stored_raise(task: Any, tmp_path: Path) -> None:
    cached = cache_teacher(ModuleTeacher(net()), task, tmp_path / "c", views=2)
    for view, name in ((View(2), r"view 2 \(standard\)"), (None, "samples without augmentation")):
        with pytest.raises(UsageError, match=rf"holds view 0 \(standard\), view 1 \(standard\), "
                           f"but {name} was requested"):
            cached.teach(next(task.train.batches(4, view=view)))
    plain = cache_teacher(ModuleTeacher(net()), task, tmp_path / "d", views=None)
    with pytest.raises(UsageError, match="holds samples without augmentation, but view 0"):
        plain.teach(next(task.train.batches(4, view=View(0))))


@pytest.mark.parametrize("views", [None, 2])
def test_mixed_samples_raise_for_every_way_to_use_a_cache(task: Any, tmp_path: Path,
                                                          views: int | None) -> None:
    cached = cache_teacher(ModuleTeacher(net()), task, tmp_path / "c", views=views)
    program = Program.capture(net(seed=1), task.train.example(2))
    config = Training(epochs=1, compute="cpu", augment=Augmentation(
        policy=None if views is None else "standard", mixup=0.2))
    for teacher in (cached, [cached, net(seed=2)]):
        with pytest.raises(UsageError, match="mixup cannot be used with a teacher cache, which"):
            fit(program, task, config, teacher)


def test_logits_that_cannot_be_stored_raise(task: Any, tmp_path: Path) -> None:
    class WithFeatures(Teacher):
        name = "features"

        def teach(self, batch: Any) -> Any:
            return TeacherOutput(torch.zeros(len(batch.rows), 4), (torch.zeros(len(batch.rows), 2),))

    with pytest.raises(UsageError, match="needs at least one view, got 0"):
        cache_teacher(ModuleTeacher(net()), task, tmp_path / "c", views=0)
    with pytest.raises(UsageError, match="teacher features returns 1 features"):
        cache_teacher(WithFeatures(), task, tmp_path / "c")
    broken = net()
    broken[3].bias.data[2] = float("nan")
    with pytest.raises(ModelError, match="logits hold NaN"):
        cache_teacher(ModuleTeacher(broken), task, tmp_path / "c")


def test_progress_is_reported(task: Any, tmp_path: Path) -> None:
    told: list[object] = []

    class Telling:
        def start(self, epochs: Any, steps: Any, done: Any) -> None:
            told.append((epochs, steps, done))

        def advance(self, samples: Any, loss: Any) -> None:
            told.append(samples)

        def time_left(self, seconds: float) -> None:
            told.append(seconds)

        def epoch(self, record: Any) -> None:
            told.append(record)

        def note(self, text: str) -> None:
            told.append(text)

        def stop(self) -> None:
            told.append("stop")

    cache_teacher(ModuleTeacher(net()), task, tmp_path / "c", views=1, progress=Telling())
    assert told == [f"running the teacher on 1 x 600 samples, 8 bytes each, for {tmp_path / 'c'}",
                    (1, 3, 0), 256, 256, 88, "stop"]


def test_another_process_maps_the_file_itself(task: Any, tmp_path: Path) -> None:
    cached = cache_teacher(ModuleTeacher(net()), task, tmp_path / "c", views=1)
    sent = pickle.dumps(cached)
    batch = next(task.train.batches(9, view=View(0)))
    assert len(sent) < 8 * SAMPLES + 4000  # the rows; not the logits
    again = pickle.loads(sent)  # noqa: S301 - of this very test
    assert torch.equal(again.teach(batch).outputs, cached.teach(batch).outputs)


def test_training_from_a_cache_matches_training_with_the_teacher(task: Any, tmp_path: Path) -> None:
    cached = cache_teacher(ModuleTeacher(net()), task, tmp_path / "c", views=2)
    config = Training(epochs=3, batch_size=64, lr=0.02, compute="cpu")
    students = {}
    for name, teacher in (("live", Counting(net(), views=2)), ("kept", cached),
                          ("every view", Counting(net()))):
        students[name] = net(seed=5)
        train(students[name], task, config, DistillationLoss(teacher, Distillation(alpha=1.0)), seed=3)
    live, kept, other = (nn.utils.parameters_to_vector(student.parameters())
                         for student in students.values())
    step = (live - nn.utils.parameters_to_vector(net(seed=5).parameters())).norm()
    assert (live - kept).norm() < 0.01 * step
    assert (live - other).norm() > 0.05 * step
