"""Models of Hugging Face from configurations: captured as they come, or refused by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import (
    BertConfig,
    BertForTokenClassification,
    GPT2Config,
    GPT2LMHeadModel,
)

import edgewright as ew
from edgewright.errors import ModelError

WORDS, LENGTH, COUNT = 40, 6, 32
IDS = torch.randint(0, WORDS, (COUNT, LENGTH), generator=torch.Generator().manual_seed(0))
MASK = (torch.arange(LENGTH) < torch.arange(COUNT)[:, None] % 3 + 4).long()
SHORT = ew.Training(epochs=1, batch_size=16, lr=0.01, optimizer="adamw", augment=False)


def language_model() -> Any:
    return GPT2LMHeadModel(GPT2Config(vocab_size=WORDS, n_embd=16, n_layer=1, n_head=2,
                                      n_positions=LENGTH, bos_token_id=1, eos_token_id=2))


def tagger() -> Any:
    return BertForTokenClassification(BertConfig(
        vocab_size=WORDS, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=LENGTH, num_labels=3))


def test_a_language_model_with_a_cache_is_refused_with_a_way_out() -> None:
    with pytest.raises(ModelError, match=r"the output '\w+' of the model is a "
                                         r"DynamicCache, .*config.use_cache=False"):
        ew.Program.capture(language_model(), IDS[:2])


def test_a_language_model_without_a_cache_is_captured() -> None:
    torch.manual_seed(0)
    model = language_model().eval()
    program = ew.Program.capture(model, kwargs={"input_ids": IDS[:2], "attention_mask": MASK[:2],
                                                "use_cache": False})
    expected = model(IDS[:5], attention_mask=MASK[:5]).logits
    assert list(program.run(IDS[:5], MASK[:5])) == ["logits"]
    torch.testing.assert_close(program.run(IDS[:5], MASK[:5])["logits"], expected)
    model.config.use_cache = False
    assert ew.Program.capture(model, IDS[:2]).input_names == ("input_ids",)


def test_a_class_per_token_is_trained_and_pruned() -> None:
    torch.manual_seed(0)
    tags = (IDS % 3).masked_fill(MASK == 0, -100)
    samples = [{"input_ids": ids, "attention_mask": mask, "labels": own}
               for ids, mask, own in zip(IDS, MASK, tags, strict=True)]
    goal = ew.Segmentation(ignore_index=-100, class_axis=-1, output="logits")
    task = ew.Task(samples[:20], samples[20:26], samples[26:], goal,
                   inputs=("input_ids", "attention_mask"))
    program = ew.Program.capture(tagger(), (IDS[:2], MASK[:2]))
    logits = program.run(IDS, MASK)["logits"]
    assert logits.shape == (COUNT, LENGTH, 3)
    expected = cross_entropy(logits.flatten(0, 1), tags.flatten(), ignore_index=-100)
    torch.testing.assert_close(goal.loss({"logits": logits}, tags), expected)
    trained = ew.fit(program, task, SHORT)
    pruned = ew.prune(trained, task, ew.ChannelPruning(ratio=0.3, round_to=4, samples=16,
                                                       prove_export=False))
    assert pruned.costs().macs < trained.costs().macs
    assert pruned.run(IDS, MASK)["logits"].shape == logits.shape


def test_a_loss_of_the_model_itself_is_a_goal() -> None:
    torch.manual_seed(0)
    model = tagger()

    def loss(outputs: dict[str, Tensor], labels: Tensor) -> Tensor:
        found: Tensor = model.loss_function(outputs["logits"], labels, model.config)
        return found

    tags = (IDS % 3).masked_fill(MASK == 0, -100)
    goal = ew.CustomGoal(loss, {"tagged": Tagged()}, unit="fraction")
    train, val, test = (((IDS[rows], MASK[rows]), tags[rows])
                        for rows in (slice(0, 20), slice(20, 26), slice(26, 32)))
    task = ew.Task(train, val, test, goal)
    program = ew.Program.capture(model, (IDS[:2], MASK[:2]))
    trained = ew.fit(program, task, SHORT)
    before, after = (goal.loss(one.run(IDS[:20], MASK[:20]), tags[:20])
                     for one in (program, trained))
    assert after < before


class Tagged:
    """Share of the tokens with the right tag."""

    higher_is_better = True

    def __init__(self) -> None:
        self.reset()

    def update(self, outputs: dict[str, Tensor], tags: Tensor) -> None:
        counted = tags >= 0
        self.right += int((outputs["logits"].argmax(-1) == tags)[counted].sum())
        self.count += int(counted.sum())

    def compute(self) -> float:
        return self.right / self.count

    def reset(self) -> None:
        self.right = self.count = 0
