"""Text: a small BERT over token ids and an attention mask, with samples that are dicts."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import edgewright as ew

WORDS, LENGTH, WIDTH, HEADS = 100, 16, 32, 4


class Layer(nn.Module):
    """Self-attention and two linear layers, each added to its input and normalized."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.output = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.wide, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map (N, LENGTH, WIDTH) to the same shape; the mask says which positions count."""
        query, key, value = (layer(x).view(-1, LENGTH, HEADS, WIDTH // HEADS).transpose(1, 2)
                             for layer in (self.query, self.key, self.value))
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = self.norm1(x + self.output(seen.transpose(1, 2).reshape(-1, LENGTH, WIDTH)))
        normed: Tensor = self.norm2(x + self.narrow(F.gelu(self.wide(x))))
        return normed


class TextClassifier(nn.Module):
    """Embeddings, layers, and a classifier on the first position."""

    def __init__(self, depth: int = 1) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(WORDS, WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.layers = nn.ModuleList(Layer() for _ in range(depth))
        self.classifier = nn.Linear(WIDTH, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Map token ids and mask, (N, LENGTH) int64 each, to logits (N, 3)."""
        x = self.norm(self.words(input_ids) + self.positions.weight)
        mask = attention_mask[:, None, None, :].bool()
        for layer in self.layers:
            x = layer(x, mask)
        logits: Tensor = self.classifier(x[:, 0])
        return logits


def make_model() -> nn.Module:
    """The text classifier."""
    return TextClassifier()


def make_task() -> ew.Task:
    """Samples that are dicts: ``inputs`` names the model's inputs, the rest is the target."""
    samples = _samples()
    return ew.Task(samples[:600], test=samples[600:], inputs=("input_ids", "attention_mask"))


def _samples() -> list[dict[str, Any]]:
    """Up to 15 words after a start token; the one of 10, 11 and 12 that occurs is the class."""
    random = torch.Generator().manual_seed(0)
    samples = []
    for number in range(800):
        length = int(torch.randint(5, LENGTH + 1, (1,), generator=random))
        words = torch.randint(20, WORDS, (LENGTH,), generator=random)
        words[torch.randint(1, length, (1,), generator=random)] = 10 + number % 3
        mask = torch.arange(LENGTH) < length
        words[0], words[~mask] = 1, 0
        samples.append({"input_ids": words, "attention_mask": mask.long(), "label": number % 3})
    return samples
