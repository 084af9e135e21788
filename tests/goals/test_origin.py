from __future__ import annotations

import torch

from edgewright.goals import Origin


def test_an_origin_names_samples_by_their_row_in_the_data() -> None:
    origin = Origin("val", torch.tensor([4, 0]))
    assert [origin.sample(0), origin.sample(1)] == ["sample 4 of the val split",
                                                    "sample 0 of the val split"]
    assert origin.targets == "the targets of the val split"
    assert origin.classes is None
