"""What a model does in training alone is kept, or said."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.programs import Net
from torch import Tensor, nn

from edgewright.errors import EdgewrightWarning
from edgewright.program import Program

SEQUENCE = torch.zeros(1, 5, 8)


class DropPath(nn.Module):
    def __init__(self, share: Any) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        if self.share == 0 or not self.training:
            return x
        return x * x.new_empty(len(x), 1, 1).bernoulli_(1 - self.share) / (1 - self.share)


class Residual(nn.Module):
    def __init__(self, share: Any) -> None:
        super().__init__()
        self.layer, self.path = nn.Linear(8, 8), DropPath(share)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.path(self.layer(x))


class Attention(nn.MultiheadAttention):
    def __init__(self, share: Any) -> None:
        super().__init__(8, 2, dropout=share, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x, x, x)[0]


def said(model: nn.Module) -> Any:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Program.capture(model.eval(), SEQUENCE)
    return [str(warning.message) for warning in caught
            if issubclass(warning.category, EdgewrightWarning)]


class Eager(nn.Module):
    """A share that is nought in evaluation, as transformers' eager attention hands it on."""

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.3 if self.training else 0.0, training=self.training)


@pytest.mark.parametrize(("model", "name"), [
    (nn.Sequential(nn.Dropout(0.1), Eager(), nn.Linear(8, 8)), "1"),
    (nn.Sequential(Residual(0.1), Residual(0.2)), "0.path, 1.path"),
    (nn.Sequential(nn.Linear(8, 8), Attention(0.1)), "1"),
    (nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)), "0.self_attn"),
])
def test_random_numbers_that_are_lost_are_said_once_by_module(model: Any, name: str) -> None:
    (message,) = said(model)
    assert f"({name}: it draws random numbers in training" in message
    assert message.startswith("training the program leaves out what Sequential does in training")


def test_a_norm_that_the_models_own_train_leaves_alone_is_said(net: type[Net]) -> None:
    model = net(lambda m, x: m.norm(m.layer(x.flatten(1))), layer=nn.Linear(SEQUENCE[0].numel(), 8),
                norm=nn.BatchNorm1d(8))
    class Resting(Net):
        def train(self, mode: bool = True) -> Any:
            super().train(mode)
            self.norm.eval()
            return self

    model.__class__ = Resting
    (message,) = said(model)
    assert "(norm: the model's own train() leaves it in evaluation mode)" in message


@pytest.mark.parametrize(("forward", "what"), [
    (lambda m, x: m.layer(x) + torch.randn_like(x) if m.training else m.layer(x), "draws random"),
    (lambda m, x: F.dropout(m.layer(x), 0.3 if m.training else 0.0), "draws random numbers"),
    (lambda m, x: x if m.training and torch.rand(1) < 0.1 else m.layer(x), "draws random numbers"),
    (lambda m, x: (m.layer(x), x) if m.training else m.layer(x),
     "2 outputs in training, where it has 1 in evaluation"),
    (lambda m, x: m.layer(x) * (2 if m.training else 1), "computes something else in training"),
])
def test_other_computations_are_said(net: type[Net], forward: Callable[..., Any],
                                     what: str) -> None:
    (message,) = said(net(forward, layer=nn.Linear(8, 8)))
    assert what in message


@pytest.mark.parametrize("model", [
    nn.Sequential(Residual(0.0)),
    nn.Sequential(nn.Linear(8, 8), Attention(0.0)),
    nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True),
    nn.Sequential(nn.Conv1d(5, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.5)),
    nn.Sequential(nn.Dropout1d(0.5), nn.AlphaDropout(0.5), nn.FeatureAlphaDropout(0.5), nn.RReLU()),
    nn.Sequential(nn.Unflatten(2, (2, 4)), nn.Dropout2d(0.5)),
    nn.Sequential(nn.Unflatten(2, (2, 2, 2)), nn.Dropout3d(0.5)),
])
def test_what_is_kept_is_not_said(model: Any) -> None:
    assert said(model) == []


def test_dropout_by_function_and_in_recurrent_layers_is_kept(net: type[Net]) -> None:
    assert said(net(lambda m, x: F.dropout(m.layer(x), 0.3, m.training), layer=nn.Linear(8, 8))) == []
    assert said(net(lambda m, x: m.layer(x)[0],
                    layer=nn.LSTM(8, 8, 2, dropout=0.5, batch_first=True))) == []


def test_a_training_that_needs_more_than_inputs_is_passed_over(net: type[Net]) -> None:
    assert said(net(lambda m, x: m.missing if m.training else x * 2)) == []
