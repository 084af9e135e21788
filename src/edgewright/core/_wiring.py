"""How the segments of a model that chooses its path by the input are connected."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pydantic import Field

from edgewright.core._settings import Value


class Fork(Value):
    """The end of a segment from which only one of several branches is run.

    Attributes:
        index: Name of the value with the branch to take, int64: shape (N,), or () for a whole call.
        branches: The first segment of each branch, by index.
        results: Names of the values that every branch gives.
        after: The segment that goes on from the results; None if there is nothing left to do.
        per_sample: Whether each sample has its own index, so that the samples of a call may take
            different branches; else one decision is made per call.

    Example:
        >>> Fork(index="argmax", branches=(1, 2), results=("route",)).after is None
        True
    """

    index: str
    branches: tuple[int, ...] = Field(min_length=1)
    results: tuple[str, ...] = Field(min_length=1)
    after: int | None = None
    per_sample: bool = True


class Wiring(Value):
    """What a segment takes and gives, by name, and what runs after it.

    Attributes:
        takes: Names of the values that its file takes, in order: inputs of the model, and what
            earlier segments gave.
        gives: Names of the values that its file returns, in order.
        fork: The branches after it; None at the end of a branch or of the model.
    """

    takes: tuple[str, ...]
    gives: tuple[str, ...]
    fork: Fork | None = None


def check_wiring(wirings: Sequence[Wiring | None], inputs: Collection[str],
                 outputs: Collection[str]) -> None:
    """Check that every path through the segments ends, and gives what is taken and returned.

    Args:
        wirings: One per segment, the start first; all of them None if the model has no routes.
        inputs: Names of the model's inputs.
        outputs: Names of the model's outputs.

    Raises:
        ValueError: A segment is missing, comes before the one that leads to it, or takes a value
            that is not given on the way to it; or a path does not give all outputs.

    Example:
        >>> check_wiring([Wiring(takes=("x",), gives=("z",))], ["x"], ["y"])
        Traceback (most recent call last):
            ...
        ValueError: the segments do not give the outputs ['y']
    """
    if all(wiring is None for wiring in wirings):
        return
    given = _follow(wirings, 0, frozenset(inputs))
    if missing := sorted(set(outputs) - given):
        raise ValueError(f"the segments do not give the outputs {missing}")


def _follow(wirings: Sequence[Wiring | None], number: int,
            known: frozenset[str]) -> frozenset[str]:
    """The names that are known after a segment and everything that it leads to."""
    wiring = wirings[number]
    if wiring is None:
        raise ValueError(f"segment {number} has no wiring, but others have")
    if missing := sorted(set(wiring.takes) - known):
        raise ValueError(f"segment {number} takes {missing}, which no segment before it gives")
    known = known.union(wiring.gives)
    fork = wiring.fork
    if fork is None:
        return known
    following = [*fork.branches, *(() if fork.after is None else (fork.after,))]
    if not all(number < one < len(wirings) for one in following):
        raise ValueError(f"segment {number} leads to the segments {following}, expected later "
                         f"ones, below {len(wirings)}")
    if fork.index not in known:
        raise ValueError(f"segment {number} decides by {fork.index!r}, which nothing gives")
    for branch in fork.branches:
        if missing := sorted(set(fork.results) - _follow(wirings, branch, known)):
            raise ValueError(f"the branch that starts with segment {branch} does not give "
                             f"{missing}")
    known = known.union(fork.results)
    return known if fork.after is None else _follow(wirings, fork.after, known)
