"""Reading .wav files, and sessions that take them."""

from __future__ import annotations

import wave
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgewright.bundle import Bundle
from edgewright.core import AudioPreprocessing, ClassProbabilities, Preprocessing
from edgewright.errors import DataError
from edgewright.runtime import ClassRanking, Session, is_picture, read_recording

from .conftest import parse, spec

Make = Callable[..., Bundle]
RECIPE = AudioPreprocessing(sample_rate=8000, length=1000, frame_length=256, hop=128, fft_size=256,
                            mels=8)
SOUND = np.random.default_rng(0).integers(-9000, 9000, (700, 2)).astype(np.int16)


def write(path: Path, samples: np.ndarray, rate: int = 8000) -> Path:
    """Write (samples, channels) as a .wav file of the samples' width."""
    with wave.open(str(path), "wb") as file:
        file.setparams((samples.shape[1], samples.itemsize, rate, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return path


@pytest.fixture
def listener(make_bundle: Make) -> Bundle:
    """Its logits are the mean of each band."""
    shape = RECIPE.shape
    model = parse(f"""s (float[N, 1, 8, {shape[2]}] x) => (float[N, 8] y) {{
                      y = ReduceMean<axes=[1, 3], keepdims=0>(x) }}""")
    return make_bundle([model], (spec("x", None, *shape),), (spec("y", None, 8),),
                       classes=tuple("abcdefgh"), preprocessing=RECIPE,
                       decoding=(ClassProbabilities(output="y"),))


def test_one_channel_has_the_features_of_its_samples(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", SOUND[:, :1])
    np.testing.assert_allclose(read_recording(path, RECIPE), RECIPE.features(SOUND[:, 0][None]),
                               rtol=1e-6)


def test_the_mean_of_two_channels_is_taken(tmp_path: Path) -> None:
    mean = (SOUND.astype(np.float64).mean(axis=1) / 32768).astype(np.float32)
    np.testing.assert_allclose(read_recording(write(tmp_path / "a.wav", SOUND), RECIPE),
                               RECIPE.features(mean[None]), rtol=1e-6)


@pytest.mark.parametrize("name", ["seven.wav", "SEVEN.WAV"])
def test_a_recording_gives_one_result(listener: Bundle, tmp_path: Path, name: str) -> None:
    session = Session(listener)
    path = write(tmp_path / name, SOUND)
    (features,) = session.read(path)
    np.testing.assert_array_equal(features, read_recording(path, RECIPE))
    found = session.predict(str(path))
    assert isinstance(found, ClassRanking)
    assert found.label == "abcdefgh"[int(features.mean(axis=(1, 3)).argmax())]
    assert session.decode(session(features), path)[0].label == found.label
    assert [one.label for one in session.predict(features)] == [found.label]
    assert not is_picture(path)


@pytest.mark.parametrize(("make", "message"), [
    (lambda path: write(path, SOUND, 16000), "has 16000 samples per second, but the model takes "
                                             "8000"),
    (lambda path: write(path, SOUND.astype(np.uint8)), "has 8 bits per sample"),
    (lambda path: write(path, SOUND[:0]), "is empty"),
    (lambda path: path.write_bytes(b"RIFF"), "cannot be read as a recording"),
    (lambda path: path.write_bytes(write(path, SOUND).read_bytes()[:-100]), "is cut off"),
    (lambda path: None, "No such file")],
    ids=["rate", "bits", "empty", "no wav", "cut off", "missing"])
def test_other_files_are_refused(listener: Bundle, tmp_path: Path,
                                 make: Callable[[Path], object], message: str) -> None:
    make(tmp_path / "a.wav")
    with pytest.raises(DataError, match=message):
        Session(listener).read(tmp_path / "a.wav")


def test_a_picture_is_no_recording(listener: Bundle, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no image preprocessing; give a \.wav file"):
        Session(listener).predict("cat.png")
    picture = Preprocessing(channels=1, height=8, width=8, mean=(0.0,), std=(1.0,))
    model = listener.manifest.model.replace(preprocessing=picture)
    bundle = replace(listener, manifest=listener.manifest.replace(model=model))
    with pytest.raises(DataError, match="no audio preprocessing; give an image"):
        Session(bundle).predict(write(tmp_path / "a.wav", SOUND))


@pytest.mark.parametrize("channels", [0, 1, 2])
def test_a_waveform_gives_what_its_file_gives(listener: Bundle, tmp_path: Path, channels: int) -> None:
    samples = SOUND[:, 0] if channels == 0 else SOUND[:, :channels]
    path = write(tmp_path / "a.wav", samples.reshape(len(samples), -1))
    session = Session(listener)
    found, expected = session.predict(samples), session.predict(path)
    assert isinstance(found, ClassRanking)
    np.testing.assert_array_equal(found.probabilities, expected.probabilities)
    np.testing.assert_array_equal(session.read(samples)[0], session.read(path)[0])


def test_an_empty_waveform_and_one_without_preprocessing_are_refused(listener: Bundle) -> None:
    with pytest.raises(DataError, match=r"the waveform is empty \(shape \(0,\)\); record it again"):
        Session(listener).predict(np.zeros(0, dtype=np.int16))
    manifest = listener.manifest.with_model(preprocessing=None)
    bare = Session(replace(listener, manifest=manifest))
    with pytest.raises(DataError, match="the waveform: this bundle has no audio preprocessing"):
        bare.read(SOUND)
    with pytest.raises(DataError, match="input 'x' is int16, expected float32"):
        bare.predict(SOUND)  # an array for the model's input, as it is
