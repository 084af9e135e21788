"""Which branches the samples of a split took, from the counts of a session."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgewright.core import Fork, ModelSpec, RouteProfile


def profile_routes(model: ModelSpec, computed: Sequence[int],
                   split: str) -> tuple[RouteProfile, ...]:
    """The share and the mean cost of each branch, of every route that a sample reached.

    Args:
        model: The bundle's model.
        computed: On how many samples of the split each segment ran.
        split: The split's name.

    Returns:
        One profile per route, in order; empty for a model without routes.
    """
    return tuple(_profile(model, computed, split, number, fork)
                 for number, fork in _forks(model) if computed[number])


def _forks(model: ModelSpec) -> Iterator[tuple[int, Fork]]:
    for number, segment in enumerate(model.segments):
        if segment.wiring is not None and segment.wiring.fork is not None:
            yield number, segment.wiring.fork


def _profile(model: ModelSpec, computed: Sequence[int], split: str, number: int,
             fork: Fork) -> RouteProfile:
    counts = [computed[branch] for branch in fork.branches]
    totals = [sum(model.segments[one].macs * computed[one] for one in _inside(model, branch))
              for branch in fork.branches]
    return RouteProfile(
        segment=number, split=split, samples=sum(counts),
        shares=tuple(count / sum(counts) for count in counts),
        macs=tuple(total / count if count else None
                   for total, count in zip(totals, counts, strict=True)))


def _inside(model: ModelSpec, number: int) -> Iterator[int]:
    """A segment and all that it leads to."""
    yield number
    wiring = model.segments[number].wiring
    if wiring is not None and wiring.fork is not None:
        after = () if wiring.fork.after is None else (wiring.fork.after,)
        for following in (*wiring.fork.branches, *after):
            yield from _inside(model, following)
