"""The discriminator of UVCGAN v2: its size, and the past features that extend its batches."""

import pytest
import torch

from models.networks.discriminators.batch_head_discriminator import (
    BatchHeadDiscriminator,
    MinibatchStd,
)


def tiny(**changes) -> BatchHeadDiscriminator:
    config = {"channels": 4, "layers": 1} | changes
    return BatchHeadDiscriminator(3, BatchHeadDiscriminator.Config(**config))


def image(seed: int = 0, side: int = 16) -> torch.Tensor:
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize(("head", "count"), [("batch_norm", 5_122_881), ("batch_stdev", 5_126_465)])
def test_the_discriminators_of_the_paper_have_their_authors_parameter_counts(head, count):
    # Counted in the authors' networks: a body of 2,757,440 and heads of 2,365,441 and 2,369,025.
    network = BatchHeadDiscriminator(3, BatchHeadDiscriminator.Config(head=head))
    assert sum(p.numel() for p in network.parameters()) == count
    body = sum(p.numel() for p in network.patches.parameters())
    assert body == 2_757_440


@pytest.mark.parametrize(("layers", "side"), [(1, 16), (1, 23), (2, 24), (3, 64)])
def test_it_returns_as_many_scores_as_score_size_predicts(layers, side):
    network = tiny(layers=layers)
    scores = network(image(side=side))
    assert scores.shape == (1, 1, network.score_size(side), network.score_size(side))


def test_an_image_whose_features_have_one_position_is_too_small():
    network = tiny(layers=3)  # 23 pixels: 11, 5, 2, and 1 position
    assert network.score_size(16) < 1 and network.score_size(24) == 2


def test_the_added_channel_is_the_standard_deviation_over_the_batch():
    # Two images of 0 and 2 everywhere: deviation 1 at every position, sqrt(1 + 1e-6) with epsilon.
    extended = MinibatchStd()(torch.tensor([0.0, 2.0])[:, None, None, None].expand(2, 3, 4, 5))
    assert extended.shape == (2, 4, 4, 5)
    assert extended[:, 3].unique().tolist() == pytest.approx([1.0], abs=1e-6)
    # A single image has deviation 0, which leaves sqrt(1e-6).
    single = MinibatchStd()(torch.rand(1, 3, 4, 5))[:, 3]
    assert single.unique().tolist() == pytest.approx([0.001])


@pytest.mark.parametrize("head", ["batch_norm", "batch_stdev"])
def test_past_reals_extend_batches_of_reals_and_past_fakes_those_of_fakes(head):
    network = tiny(head=head).eval()  # no power iterations
    network.head.train()  # statistics of the batch, as in training
    with torch.no_grad():
        as_fake, as_real = network(image()), network(image(), 1.0)
        assert as_fake.equal(as_real)  # both queues are empty
        network(image(1), 1.0, remember=True)
        assert network(image()).equal(as_fake)
        assert not network(image(), 1.0).allclose(as_real, atol=1e-5)


def test_a_forward_without_remember_leaves_the_queues_alone():
    network = tiny()
    network(image(), remember=True)
    network(image(1))
    network(image(2), torch.tensor(0.5))
    assert network.past_fake.count == 1 and network.past_real.count == 0


def test_past_features_of_a_blend_are_blended_in_the_same_ratio():
    network = tiny()
    network(image(1), 1.0, remember=True)
    features = network.patches.body(image())
    assert network.past_features(features, torch.tensor(0.25)) is None  # no past fakes yet
    network(image(2), 0.0, remember=True)
    of_real, of_fake = network.past_features(features, 1.0), network.past_features(features, 0.0)
    assert of_real is not None and of_fake is not None and not of_real.equal(of_fake)
    blend = network.past_features(features, torch.tensor(0.25))
    assert blend is not None and blend.allclose(0.25 * of_real + 0.75 * of_fake, atol=1e-6)


def test_spectral_norm_is_on_the_body_and_not_on_the_head():
    network = tiny(channels=8)
    for _ in range(30):
        network(image())
    for name, layer in network.named_modules():
        if isinstance(layer, torch.nn.Conv2d):
            largest = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), ord=2).item()
            assert (largest == pytest.approx(1.0, abs=0.02)) == name.startswith("patches"), name


@pytest.mark.parametrize(
    ("changes", "reason"), [({"kind": "pixel"}, "kind=patch"), ({"scales": 2}, "scales=1"),
                            ({"queue": -1}, "queue must be 0 or more")],
)  # fmt: skip
def test_options_that_the_head_does_not_support_are_refused(changes, reason):
    with pytest.raises(ValueError, match=rf"method\.discriminator.*{reason}"):
        BatchHeadDiscriminator.Config(**changes)
