"""The mean Gram matrices of a domain."""

import torch

from models.running_gram_matrices import RunningGramMatrices


def test_every_image_has_the_same_weight_in_batches_of_any_size():
    # One channel of constant 1, 2, 3: Gram matrices 1, 4, 9, whose mean is 14/3.
    images = torch.tensor([1.0, 2.0, 3.0])[:, None, None, None].expand(3, 1, 2, 2)
    one, other = RunningGramMatrices({"relu1_1": 1}), RunningGramMatrices({"relu1_1": 1})
    one.update({"relu1_1": images})
    for part in (images[:1], images[1:]):
        other.update({"relu1_1": part})
    for grams in (one, other):
        assert torch.allclose(grams.means()["relu1_1"], torch.tensor([[[14 / 3]]]))
        assert grams.seen.item() == 3
    assert other.state_dict().keys() == {"seen", "relu1_1"}
