"""Quantities: every unit, there and back, and what is refused with which words."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.core import format_count, format_size, parse_quantity
from edgewright.core._units import Dimension
from edgewright.errors import UsageError

UNITS: dict[Dimension, dict[str, float]] = {
    "size": {"": 1, "B": 1, "kB": 1000, "KB": 1000, "MB": 1000**2, "GB": 1000**3,
             "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3},
    "time": {"": 1, "ns": 1e-6, "us": 1e-3, "µs": 1e-3, "μs": 1e-3, "ms": 1, "s": 1000},
    "duration": {"": 1, "ms": 1e-3, "s": 1, "m": 60, "min": 60, "h": 3600},
    "energy": {"": 1, "nJ": 1e-6, "uJ": 1e-3, "µJ": 1e-3, "mJ": 1, "J": 1000},
    "count": {"": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9},
    "fraction": {"": 1, "%": 0.01},
}
ALL_UNITS = [(dimension, unit, factor) for dimension, units in UNITS.items()
             for unit, factor in units.items()]


@pytest.mark.parametrize(("dimension", "unit", "factor"), ALL_UNITS)
def test_every_unit_has_its_factor(dimension: Any, unit: Any, factor: Any) -> None:
    assert parse_quantity(f"3{unit}", dimension) == pytest.approx(3 * factor, rel=1e-15)
    assert parse_quantity(f"  2.5  {unit} ", dimension) == pytest.approx(2.5 * factor, rel=1e-15)


@given(case=st.sampled_from(ALL_UNITS), number=st.floats(0, 1e12, allow_subnormal=False),
       space=st.sampled_from(["", " ", "\t "]))
def test_what_is_written_is_read(case: Any, number: Any, space: Any) -> None:
    dimension, unit, factor = case
    assert parse_quantity(f"{number!r}{space}{unit}", dimension) == pytest.approx(number * factor)


@given(number=st.one_of(st.integers(0, 10**15), st.floats(0, 1e300)),
       dimension=st.sampled_from(list(UNITS)))
def test_a_bare_number_is_in_the_base_unit(number: Any, dimension: Any) -> None:
    assert parse_quantity(number, dimension) == float(number)


@pytest.mark.parametrize(("text", "dimension", "example"), [
    ("", "size", "100 kB"), ("kB", "size", "100 kB"), ("-1 kB", "size", "100 kB"),
    ("two ms", "time", "2 ms"), ("nan", "time", "2 ms"), ("inf", "energy", "3 mJ"),
    ("1 2", "count", "40 M"), ("1,5", "count", "40 M"), ("1_000", "count", "40 M"),
    ("5.", "fraction", "0.5 %"), ("٣", "fraction", "0.5 %"), (-3, "size", "100 kB"),
    (float("nan"), "time", "2 ms"), (float("inf"), "time", "2 ms"), (True, "count", "40 M"),
])
def test_what_is_no_quantity_is_refused_with_an_example(text: Any, dimension: Dimension,
                                                        example: str) -> None:
    expected = f"{text!r} is not a quantity; write a number and a unit, as in {example!r}"
    with pytest.raises(UsageError, match=f"^{re.escape(expected)}$"):
        parse_quantity(text, dimension)


@pytest.mark.parametrize(("text", "dimension", "message"), [
    ("5 kb", "size", "unknown unit 'kb' in '5 kb' for a size; known: B, kB, KB, MB, GB, KiB, "
                     "MiB, GiB"),
    ("2 min", "time", "unknown unit 'min' in '2 min' for a time; known: ns, us, ms, s"),
    ("2 d", "duration", "unknown unit 'd' in '2 d' for a duration; known: ms, s, m, min, h"),
    ("2 W", "energy", "unknown unit 'W' in '2 W' for a energy; known: nJ, uJ, mJ, J"),
    ("2 %", "count", "unknown unit '%' in '2 %' for a count; known: (none), k, K, M, G"),
    ("2 kB", "fraction", "unknown unit 'kB' in '2 kB' for a fraction; known: (none), %"),
])
def test_an_unknown_unit_is_named_with_the_known_ones(text: str, dimension: Dimension,
                                                      message: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        parse_quantity(text, dimension)


@pytest.mark.parametrize("text", ["1e400", "1e400 B", "1e308 GB"])
def test_a_quantity_beyond_floats_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=f"'{text}' is too large"):
        parse_quantity(text, "size")


@given(st.text(max_size=12), st.sampled_from(list(UNITS)))
def test_any_text_is_a_finite_quantity_or_a_usage_error(text: Any, dimension: Any) -> None:
    try:
        value = parse_quantity(text, dimension)
    except UsageError as error:
        said = str(error)
    else:
        said = repr(text) if 0 <= value < float("inf") else f"got {value}"
    assert repr(text) in said


@pytest.mark.parametrize(("value", "size", "count"), [
    (0, "0 B", "0"), (7, "7 B", "7"), (0.5, "0.5 B", "0.5"), (999, "999 B", "999"),
    (999.5, "1 kB", "1 k"), (98496, "98.5 kB", "98.5 k"), (999_499, "999 kB", "999 k"),
    (999_500, "1 MB", "1 M"), (40_800_000, "40.8 MB", "40.8 M"), (1.25e9, "1.25 GB", "1.25 G"),
    (3e12, "3e+03 GB", "3 T"), (-98496, "-98.5 kB", "-98.5 k"),
])
def test_sizes_and_counts_are_written_to_three_digits(value: float, size: str, count: str) -> None:
    assert format_size(value) == size
    assert format_count(value) == count


@given(st.integers(0, 10**11))
def test_a_written_size_is_read_back_to_three_digits(size: Any) -> None:
    assert parse_quantity(format_size(size), "size") == pytest.approx(size, rel=5.1e-3)
