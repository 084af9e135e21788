"""Log-mel features against loops with a direct Fourier sum, and against torch's own transform."""

from __future__ import annotations

import cmath
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.core import AudioPreprocessing, ModelSpec, Preprocessing
from edgewright.errors import DataError, UsageError

RECIPE = AudioPreprocessing(sample_rate=8000, length=200, frame_length=48, hop=20, fft_size=64,
                            mels=6, fmin=100, fmax=3500, mean=-2.0, std=3.0)


def to_hertz(mel: float) -> float:
    return 700 * (10 ** (mel / 2595) - 1)


def triangle(recipe: AudioPreprocessing, band: int, hertz: float) -> float:
    """The weight of a frequency in a band: 0 at its neighbours' peaks, 1 at its own."""
    top = recipe.sample_rate / 2 if recipe.fmax is None else recipe.fmax
    low, high = (2595 * math.log10(1 + limit / 700) for limit in (recipe.fmin, top))
    step = (high - low) / (recipe.mels + 1)
    left, peak, right = (to_hertz(low + (band + k) * step) for k in range(3))
    if left < hertz <= peak:
        return (hertz - left) / (peak - left)
    return (right - hertz) / (right - peak) if peak < hertz < right else 0.0


def slow_features(recipe: AudioPreprocessing, waveform: list[float]) -> np.ndarray:
    """(mels, frames) of one recording, one number at a time."""
    samples = (waveform + [0.0] * recipe.length)[:recipe.length]
    columns = []
    start = 0
    while start + recipe.frame_length <= recipe.length:
        energies = [0.0] * recipe.mels
        for k in range(recipe.fft_size // 2 + 1):
            total = 0j
            for n in range(recipe.frame_length):
                window = 0.5 - 0.5 * math.cos(2 * math.pi * n / recipe.frame_length)
                total += (samples[start + n] * window
                          * cmath.exp(-2j * math.pi * k * n / recipe.fft_size))
            for band in range(recipe.mels):
                weight = triangle(recipe, band, k * recipe.sample_rate / recipe.fft_size)
                energies[band] += weight * abs(total) ** 2
        columns.append([(math.log(max(energy, recipe.floor)) - recipe.mean) / recipe.std
                        for energy in energies])
        start += recipe.hop
    return np.array(columns).T


def noise(count: int, samples: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).uniform(-1, 1, (count, samples)).astype(np.float32)


@settings(max_examples=8, deadline=None)
@given(samples=st.integers(1, 260), hop=st.integers(9, 60), extra=st.sampled_from([0, 16, 17]),
       fmin=st.sampled_from([0.0, 150.0]), fmax=st.sampled_from([None, 3000.0]),
       seed=st.integers(0, 99))
def test_features_are_those_of_the_slow_reference(samples: int, hop: int, extra: int, fmin: float,
                                                  fmax: float | None, seed: int) -> None:
    recipe = RECIPE.replace(hop=hop, fft_size=48 + extra, mels=4, fmin=fmin, fmax=fmax)
    waveforms = noise(2, samples, seed)
    found = recipe.features(waveforms)
    assert (found.dtype, found.shape) == (np.dtype(np.float32), (2, *recipe.shape))
    for one, waveform in zip(found, waveforms, strict=True):
        expected = slow_features(recipe, waveform.tolist())
        np.testing.assert_allclose(one[0], expected, rtol=1e-5, atol=1e-5)


def test_features_follow_the_transform_of_torch() -> None:
    recipe = AudioPreprocessing(sample_rate=16000, length=16000, frame_length=512, hop=160,
                                fft_size=512, mels=40, fmin=20)
    waveforms = noise(3, 16000)
    spectrum = torch.stft(torch.from_numpy(waveforms).double(), 512, 160, center=False,
                          window=torch.hann_window(512, dtype=torch.float64), return_complex=True)
    hertz = np.arange(257) * 16000 / 512
    filters = torch.tensor([[triangle(recipe, band, one) for one in hertz] for band in range(40)])
    expected = (filters.double() @ spectrum.abs().square()).clamp(min=1e-6).log()
    np.testing.assert_allclose(recipe.features(waveforms)[:, 0], expected.numpy(), rtol=1e-5,
                               atol=1e-5)


def test_features_are_those_of_torchaudio() -> None:
    try:
        from torchaudio import transforms  # noqa: PLC0415 - optional
    except (ImportError, OSError) as error:  # OSError: made for another version of torch
        pytest.skip(f"needs torchaudio: {error}")
    recipe = AudioPreprocessing(sample_rate=16000, length=16000, frame_length=512, hop=160,
                                fft_size=512, mels=40, fmin=20)
    waveforms = noise(3, 16000)
    energies = transforms.MelSpectrogram(16000, 512, hop_length=160, f_min=20.0, n_mels=40,
                                         center=False)(torch.from_numpy(waveforms))
    np.testing.assert_allclose(recipe.features(waveforms)[:, 0],
                               energies.clamp(min=1e-6).log().numpy(), rtol=1e-4, atol=1e-4)


def test_a_tone_is_loudest_in_its_band() -> None:
    recipe = AudioPreprocessing(sample_rate=8000, length=4000, frame_length=256, hop=128,
                                fft_size=256, mels=16)
    tone = np.sin(2 * np.pi * 1000 * np.arange(4000) / 8000).astype(np.float32)[None]
    weights = [triangle(recipe, band, 1000.0) for band in range(16)]
    assert (recipe.features(tone)[0, 0].argmax(axis=0) == int(np.argmax(weights))).all()


def test_integers_are_read_as_shares_of_full_scale() -> None:
    integers = np.random.default_rng(0).integers(-32768, 32768, (2, 200)).astype(np.int16)
    shares = (integers / 32768).astype(np.float32)
    np.testing.assert_array_equal(RECIPE.features(integers), RECIPE.features(shares))


def test_silence_is_the_floor() -> None:
    found = RECIPE.features(np.zeros((1, 10), dtype=np.float32))
    np.testing.assert_allclose(found, (math.log(1e-6) + 2) / 3, rtol=1e-6)


def test_a_recording_in_a_batch_has_the_features_that_it_has_alone() -> None:
    waveforms = noise(130, 200)
    whole = RECIPE.features(waveforms)
    for row in (0, 63, 64, 129):
        np.testing.assert_allclose(whole[row], RECIPE.features(waveforms[row:row + 1])[0],
                                   rtol=1e-6, atol=1e-6)


def test_standardized_features_have_mean_0_and_deviation_1() -> None:
    waveforms = noise(20, 200)
    found = RECIPE.standardize(waveforms).features(waveforms)
    assert found.mean() == pytest.approx(0, abs=1e-4)
    assert found.std() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(("changes", "message"), [
    ({"frame_length": 65}, "a frame must fit into both"), ({"length": 40}, "a frame must fit"),
    ({"fmin": -1.0}, "half the sample rate, 4000"), ({"fmax": 4001.0}, "bands from 100 to 4001 Hz"),
    ({"fmin": 3500.0}, "give a range"), ({"floor": 0.0}, "a floor and a deviation above 0"),
    ({"std": 0.0}, "a deviation above 0"), ({"mean": math.nan}, "a finite mean"),
    ({"mels": 60}, r"mel band \d+ of 60 holds no frequency"), ({"mean": math.inf}, "a finite mean")])
def test_impossible_numbers_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        RECIPE.replace(**changes)


@pytest.mark.parametrize("waveforms", [np.zeros(200, dtype=np.float32), np.zeros((1, 200)),
                                       np.zeros((1, 200), dtype=np.uint8)])
def test_other_waveforms_are_refused(waveforms: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"expected int16 or float32 of shape \(N, samples\)"):
        RECIPE.features(waveforms)


def test_a_model_keeps_either_preprocessing_through_json() -> None:
    picture = Preprocessing(channels=1, height=2, width=2, mean=(0.5,), std=(0.5,))
    assert "kind" not in picture.model_dump_json()
    for recipe in (picture, RECIPE, None):
        model = ModelSpec(name="m", inputs=(), outputs=(), segments=(), preprocessing=recipe)
        again = ModelSpec.model_validate_json(model.model_dump_json())
        assert again.preprocessing == recipe
        assert type(again.preprocessing) is type(recipe)
        assert model.replace(name="n").preprocessing == recipe


def test_another_kind_of_preprocessing_is_refused() -> None:
    with pytest.raises(ValueError, match="smell"):
        ModelSpec.model_validate({"name": "m", "inputs": (), "outputs": (), "segments": (),
                                  "preprocessing": {"kind": "smell"}})
