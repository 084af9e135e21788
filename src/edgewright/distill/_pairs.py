"""Pair features of the student with features of the teacher."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from torch.fx import Node

from edgewright.distill._tap_features import feature_shape, is_feature
from edgewright.errors import ModelError, UsageError
from edgewright.graph import count_macs, weight_of
from edgewright.program import Program, find_cuts, outputs_of, set_outputs

_MAX_STAGES: Final = 4        # stages whose ends are compared, the last ones
_STAGE_FRACTIONS: Final = (1 / 3, 2 / 3, 1)  # of the one stage of a network that has no others
_ONE_STAGE: Final = 0.9  # of the multiply-accumulates


@dataclass(frozen=True)
class FeaturePair:
    """A feature of the student and one of the teacher.

    Attributes:
        student: Name of the student's node.
        teacher: Name of the teacher's node.
        student_shape: For one sample: (1, C), (1, tokens, C) or (1, C, H, W).
        teacher_shape: Of the same rank.
    """

    student: str
    teacher: str
    student_shape: tuple[int, ...]
    teacher_shape: tuple[int, ...]


@dataclass(frozen=True)
class FeaturePlace:
    """A node at the end of a stage, whose tensor is the only one that later nodes need.

    Attributes:
        name: Name of the node.
        shape: Shape of its feature, for one sample.
        depth: Share of the multiply-accumulates up to it.
    """

    name: str
    shape: tuple[int, ...]
    depth: float

    @property
    def spatial(self) -> tuple[int, ...]:
        """Height and width, or the number of tokens."""
        return self.shape[2:] if len(self.shape) == 4 else self.shape[1:-1]


def find_pairs(student: Program, teacher: Program,
               given: Sequence[tuple[str, str]] = ()) -> tuple[FeaturePair, ...]:
    """Find the features to compare: pairs given by name, or the ends of the stages.

    A student with the teacher's layers, or a subset of them, is paired with the teacher by node
    name. For any other student, the end of each stage is paired with the end of a teacher's stage
    of the same height and width, or else at the nearest share of the multiply-accumulates.

    Args:
        student: The program to train.
        teacher: The program to learn from.
        given: Pairs of node names, the student's and the teacher's; empty finds them automatically.

    Raises:
        UsageError: An unknown name, or a pair that cannot be compared.
        ModelError: No pair was found.

    Example:
        >>> import torch
        >>> def mlp(width):
        ...     model = torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.ReLU(),
        ...                                 torch.nn.Linear(width, 3))
        ...     return Program.capture(model, torch.zeros(1, 4))
        >>> [(pair.student, pair.teacher_shape) for pair in find_pairs(mlp(4), mlp(16))]
        [('relu', (1, 16))]
    """
    if given:
        return tuple(_resolve_pair(student, teacher, *names) for names in given)
    pairs = _pair_by_name(student, teacher) if _has_layers_of(student, teacher) else \
        _pair_by_stage(find_feature_places(student), find_feature_places(teacher))
    if not pairs:
        found = "; ".join(f"the {who} {_list_places(find_feature_places(program))}"
                          for who, program in (("student", student), ("teacher", teacher)))
        raise ModelError(f"no pair of features was found to compare: {found}; give pairs of node "
                         "names, or set features to None")
    return pairs


def find_feature_places(program: Program) -> tuple[FeaturePlace, ...]:
    """The ends of a program's stages, at most the last four, in order.

    A stage is a sequence of cuts with the same number of positions (height times width, or tokens).
    If one stage has nearly all of the multiply-accumulates, as in a transformer or a perceptron,
    its cuts at one third, two thirds and the end are used instead.
    """
    places = _find_feature_cuts(program)
    if not places:
        return ()
    stages = [list(stage) for _, stage in groupby(places, lambda cut: math.prod(cut.spatial))]
    starts = [0.0, *(stage[-1].depth for stage in stages)]
    shares = [stage[-1].depth - start for stage, start in zip(stages, starts, strict=False)]
    widest = max(range(len(stages)), key=shares.__getitem__)
    spread = [stage[-1] for stage in stages if math.prod(stage[-1].spatial) > 1]
    if spread and shares[widest] <= _ONE_STAGE * sum(shares):
        return tuple(spread[-_MAX_STAGES:])
    goals = [starts[widest] + share * shares[widest] for share in _STAGE_FRACTIONS]
    latest_first = stages[widest][::-1]
    return tuple(dict.fromkeys(
        min(latest_first, key=lambda cut: abs(cut.depth - goal)) for goal in goals))


def _find_feature_cuts(program: Program) -> list[FeaturePlace]:
    """Cuts on the path to the last output that hold features and lie between two layers."""
    trunk = _drop_exits(program) if program.exits else program
    cuts, spent, found = set(find_cuts(trunk, sizes=False)), 0, []
    total = sum(count_macs(node) for node in trunk.calls())
    for node in trunk.calls():
        spent += count_macs(node)
        if node in cuts and is_feature(node) and 0 < spent < total:
            found.append(FeaturePlace(node.name, feature_shape(node), spent / total))
    return found


def _drop_exits(program: Program) -> Program:
    trunk = program.copy(share_tensors=True)
    set_outputs(trunk.graph_module, outputs_of(trunk)[-1:])
    trunk.graph.eliminate_dead_code()
    return trunk


def _has_layers_of(student: Program, teacher: Program) -> bool:
    """Whether the student has only layers of the teacher, its last layer included."""
    ours, theirs = _layers(student), _layers(teacher)
    return bool(ours) and ours.items() <= theirs.items() and [*ours][-1] == [*theirs][-1]


def _layers(program: Program) -> dict[str, str]:
    return {node.name: str(weight.target) for node in program.calls()
            if count_macs(node) and (weight := weight_of(node)) is not None}


def _pair_by_name(student: Program, teacher: Program) -> tuple[FeaturePair, ...]:
    nodes = {node.name: node for node in teacher.calls() if is_feature(node)}
    pairs = (_pair(place, nodes[place.name]) for place in find_feature_places(student)
             if place.name in nodes)
    return tuple(pair for pair in pairs if len(pair.student_shape) == len(pair.teacher_shape))


def _pair(place: FeaturePlace, other: Node) -> FeaturePair:
    return FeaturePair(place.name, other.name, place.shape, feature_shape(other))


def _pair_by_stage(ours: Sequence[FeaturePlace],
                   theirs: Sequence[FeaturePlace]) -> tuple[FeaturePair, ...]:
    """Pair each place of the student with a teacher's place after those already used."""
    pairs: list[FeaturePair] = []
    taken = -1
    for place in ours:
        free = [index for index in range(taken + 1, len(theirs))
                if len(theirs[index].shape) == len(place.shape)]
        if free:
            taken = min(free, key=lambda index: _distance(place, theirs[index]))
            other = theirs[taken]
            pairs.append(FeaturePair(place.name, other.name, place.shape, other.shape))
    return tuple(pairs)


def _distance(place: FeaturePlace, other: FeaturePlace) -> tuple[bool, float]:
    return place.spatial != other.spatial, abs(place.depth - other.depth)


def _resolve_pair(student: Program, teacher: Program, ours: str, theirs: str) -> FeaturePair:
    shapes = [feature_shape(_feature(program, name, who)) for program, name, who
              in ((student, ours, "student"), (teacher, theirs, "teacher"))]
    if len(shapes[0]) != len(shapes[1]):
        raise UsageError(f"the pair ({ours}, {theirs}) cannot be compared: for one sample the "
                         f"student's tensor has shape {shapes[0]}, the teacher's {shapes[1]}; "
                         "pair tensors of the same number of dimensions")
    return FeaturePair(ours, theirs, *shapes)


def _feature(program: Program, name: str, who: str) -> Node:
    nodes = {node.name: node for node in program.calls() if is_feature(node)}
    if name not in nodes:
        near = difflib.get_close_matches(name, nodes, n=5, cutoff=0.5)
        listed = (f"similar names: {', '.join(near)}" if near else
                  f"the ends of its stages: {_list_places(find_feature_places(program))}")
        raise UsageError(f"the {who} has no node {name!r} that computes a feature; {listed}")
    return nodes[name]


def _list_places(places: Sequence[FeaturePlace]) -> str:
    return ", ".join(f"{place.name} {place.shape}" for place in places) or "has none"
