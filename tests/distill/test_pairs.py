from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import nn

from edgewright.channels import find_branches, remove_branch
from edgewright.distill import find_pairs
from edgewright.distill._pairs import find_feature_places
from edgewright.errors import ModelError, UsageError
from edgewright.exits import EarlyExits, add_exits
from edgewright.program import Program, fold_batch_norm
from edgewright.task import Task


def names(pairs: Any) -> Any:
    return [(pair.student, pair.teacher) for pair in pairs]


def test_the_places_are_the_ends_of_the_stages(pyramid: Program) -> None:
    places = find_feature_places(pyramid)
    assert [place.name for place in places] == ["relu_4", "relu_8", "relu_12"]
    assert [place.shape for place in places] == [(1, 8, 8, 8), (1, 16, 4, 4), (1, 32, 2, 2)]
    assert [place.spatial for place in places] == [(8, 8), (4, 4), (2, 2)]
    assert 0 < places[0].depth < places[1].depth < places[2].depth < 1


def test_a_network_of_one_stage_is_cut_into_thirds(tokens: Program, captured: Any,
                                                   perceptron: Any) -> None:
    assert [round(place.depth, 1) for place in find_feature_places(tokens)] == [0.3, 0.7, 1.0]
    assert {place.shape for place in find_feature_places(tokens)} == {(1, 16, 8)}
    deep = captured(perceptron(4, 8, 8, 8, 8, 3), 4)
    assert [place.name for place in find_feature_places(deep)] == ["relu_1", "relu_2", "relu_3"]


def test_a_single_layer_network_has_no_places(captured: Any) -> None:
    assert find_feature_places(captured(nn.Linear(4, 3), 4)) == ()


def test_a_thinner_and_shallower_student_is_paired_by_name(halved: Program,
                                                           deep_pyramid: Program) -> None:
    pairs = find_pairs(halved, deep_pyramid)
    assert names(pairs) == [(f"relu_{n}", f"relu_{n}") for n in (8, 16, 24)]
    assert [pair.student_shape for pair in pairs] == [(1, 6, 8, 8), (1, 12, 4, 4), (1, 24, 2, 2)]
    assert [pair.teacher_shape for pair in pairs] == [(1, 12, 8, 8), (1, 24, 4, 4), (1, 48, 2, 2)]


def test_a_student_missing_a_stage_end_is_paired_at_its_own_stage_end(projecting: Program) -> None:
    small = projecting
    for _ in range(3):
        small = remove_branch(small, next(branch for branch in find_branches(small)
                                          if branch.name.startswith("stages.0")))
    pairs = find_pairs(small, projecting)
    assert [pair.student for pair in pairs] == [pair.teacher for pair in pairs]
    assert [pair.student_shape for pair in pairs] == [pair.teacher_shape for pair in pairs]


def test_folded_norms_leave_the_names(pyramid: Program) -> None:
    folded = fold_batch_norm(pyramid)
    assert names(find_pairs(folded, pyramid)) == [(f"relu_{n}", f"relu_{n}") for n in (4, 8, 12)]


def test_a_student_of_another_architecture_is_paired_by_stage(pyramid: Program,
                                                              deep_pyramid: Program) -> None:
    """Its nodes have names of the teacher's, which stand for other places there."""
    pairs = find_pairs(pyramid, deep_pyramid)
    assert names(pairs) == [("relu_4", "relu_8"), ("relu_8", "relu_16"), ("relu_12", "relu_24")]


def test_if_no_size_matches_the_depth_decides(pyramid: Program, captured: Any,
                                              pyramid_of: Any) -> None:
    large = captured(pyramid_of(depth=3), 1, 12, 12)
    assert names(find_pairs(pyramid, large)) == [("relu_4", "relu_6"), ("relu_8", "relu_12"),
                                                 ("relu_12", "relu_18")]


def test_perceptrons_are_paired_by_depth(captured: Any, perceptron: Any) -> None:
    shallow, deep = (captured(perceptron(*widths), 4)
                     for widths in ((4, 8, 8, 3), (4, 8, 8, 8, 8, 3)))
    assert names(find_pairs(shallow, deep)) == [("relu", "relu_1"), ("relu_1", "relu_3")]


def test_a_student_with_exits_is_paired_on_the_path_to_its_last_exit(pyramid: Program) -> None:
    x, y = torch.randn(8, 1, 8, 8), torch.arange(8) % 4
    staged = add_exits(pyramid, Task((x, y), test=(x, y)), EarlyExits(places=2, training=None))
    assert names(find_pairs(staged, pyramid)) == names(find_pairs(pyramid, pyramid))


def test_given_pairs_are_used(pyramid: Program, deep_pyramid: Program) -> None:
    pairs = find_pairs(pyramid, deep_pyramid, [("relu_1", "conv2d_3"), ("mean", "mean")])
    assert names(pairs) == [("relu_1", "conv2d_3"), ("mean", "mean")]
    assert pairs[1].teacher_shape == (1, 48)


def test_an_unknown_name_raises_with_similar_ones(pyramid: Program, deep_pyramid: Program) -> None:
    with pytest.raises(UsageError, match=r"the student has no node 'relu_20' that computes a "
                       r"feature; similar names: .*relu_2"):
        find_pairs(pyramid, deep_pyramid, [("relu_20", "relu_20")])
    message = ("the teacher has no node 'stage' that computes a feature; the ends of its stages: "
               "relu_8 (1, 12, 8, 8), relu_16")
    with pytest.raises(UsageError, match=re.escape(message)):
        find_pairs(pyramid, deep_pyramid, [("relu", "stage")])
    with pytest.raises(UsageError, match="the student has no node 'stem_weight'"):
        find_pairs(pyramid, deep_pyramid, [("stem_weight", "relu")])


def test_a_pair_of_different_ranks_raises(pyramid: Program) -> None:
    message = (r"the pair \(relu, mean\) cannot be compared: for one sample the student's tensor "
               r"has shape \(1, 8, 8, 8\), the teacher's \(1, 32\)")
    with pytest.raises(UsageError, match=message):
        find_pairs(pyramid, pyramid, [("relu", "mean")])


def test_without_pairs_the_error_lists_both_sides(pyramid: Program, tokens: Program,
                                                  captured: Any) -> None:
    message = (r"no pair of features was found to compare: the student relu_4 \(1, 8, 8, 8\), .*; "
               r"the teacher add_\d+ \(1, 16, 8\), .*; give pairs of node names")
    with pytest.raises(ModelError, match=message):
        find_pairs(pyramid, tokens)
    flat = captured(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)))
    with pytest.raises(ModelError, match=r"no pair of features was found .*the student has none"):
        find_pairs(flat, pyramid)


def test_the_programs_are_unchanged(pyramid: Program, deep_pyramid: Program) -> None:
    before = str(pyramid.graph), str(deep_pyramid.graph)
    find_pairs(pyramid, deep_pyramid)
    assert (str(pyramid.graph), str(deep_pyramid.graph)) == before
    assert isinstance(pyramid, Program)
