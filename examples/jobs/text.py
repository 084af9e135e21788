"""Text: a BERT of Hugging Face from a configuration, and samples that are dicts of token ids."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

import edgewright as ew

WORDS, LENGTH = 100, 16


def make_model() -> nn.Module:
    """Token ids and mask, (N, 16) int64 each, to an output with logits (N, 3)."""
    config = BertConfig(vocab_size=WORDS, max_position_embeddings=LENGTH, num_labels=3,
                        hidden_size=32, num_hidden_layers=1, num_attention_heads=4,
                        intermediate_size=128)
    model: nn.Module = BertForSequenceClassification(config)
    return model


def make_task() -> ew.Task:
    """Samples that are dicts: ``inputs`` names the model's inputs, the rest is the target."""
    samples = _samples()
    return ew.Task(samples[:600], test=samples[600:], inputs=("input_ids", "attention_mask"),
                   goal=ew.Classification(output="logits"))


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
