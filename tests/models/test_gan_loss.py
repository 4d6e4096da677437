"""The loss against a discriminator: every option against a value worked out by hand."""

import copy

import pytest
import torch
from torch import nn
from torch.autograd.function import once_differentiable

from models.gan_loss import GANLoss, GANLossConfig
from models.networks.discriminators.patch_discriminator import PatchDiscriminator
from models.networks.layers.norm_act_pad import NormActPad
from models.networks.layers.op_backends import KernelSet, instance_norm_act_pad

REAL, FAKE = torch.full((2, 3, 4, 4), 0.5), torch.full((2, 3, 4, 4), -0.5)


class Linear(nn.Module):
    """D(x) = 0.1 * sum of an image's 48 values + 0.3."""

    def forward(self, image):
        return 0.1 * image.flatten(1).sum(dim=1) + 0.3


class Recorder(nn.Module):
    """Store the inputs."""

    def __init__(self):
        super().__init__()
        self.inputs = []

    def forward(self, image):
        self.inputs.append(image)
        return image.flatten(1).mean(dim=1)


def gan_loss(**options) -> GANLoss:
    return GANLoss(GANLossConfig(**options), "b")


def test_the_terms_are_those_of_the_gan_mode_with_the_weight_applied():
    # D(real) = 0.1 * 24 + 0.3 = 2.7, D(fake) = -2.1: ((2.7 - 1)^2 + 2.1^2) / 2 = 3.65;
    # (-3.1)^2 * 2.
    plain = gan_loss(adversarial_weight=2.0)
    assert plain.discriminator_losses(Linear(), REAL, FAKE, 0)[
        "discriminator_b"
    ].item() == pytest.approx(3.65)
    assert plain.generator_loss(Linear(), FAKE, 0).item() == pytest.approx(2 * 9.61)


def test_scores_of_several_scales_are_added_up():
    class Twice(Linear):
        def forward(self, image):
            return [super().forward(image)] * 2

    assert gan_loss().generator_loss(Twice(), FAKE, 0).item() == pytest.approx(2 * 9.61)
    terms = gan_loss().discriminator_losses(Twice(), REAL, FAKE, 0)
    assert terms["discriminator_b"].item() == pytest.approx(2 * 3.65)


@pytest.mark.parametrize(
    ("penalty", "weight", "expected"),
    [("r1", 1.0, 0.24), ("wgan_gp", 10.0, 0.943594), ("zero_centered", 1.0, 0.48)],
)
def test_penalties_are_those_of_the_papers(penalty, weight, expected):
    loss = gan_loss(penalty=penalty, penalty_weight=weight)
    terms = loss.discriminator_losses(Linear(), REAL, FAKE, 0)
    assert terms["penalty_b"].item() == pytest.approx(expected, rel=1e-5)


def test_a_lazy_penalty_comes_every_kth_step_as_many_times_as_strong():
    lazy = gan_loss(penalty="r1", penalty_weight=1.0, penalty_every=4)
    terms = [lazy.discriminator_losses(Linear(), REAL, FAKE, step) for step in range(8)]
    assert ["penalty_b" in losses for losses in terms] == [step % 4 == 0 for step in range(8)]
    assert terms[4]["penalty_b"].item() == pytest.approx(4 * 0.24, rel=1e-5)


def test_penalties_are_at_reals_or_between_reals_and_fakes():
    for penalty, whole_batch in (("wgan_gp", False), ("zero_centered", True)):
        discriminator = Recorder()
        gan_loss(penalty=penalty).discriminator_losses(discriminator, REAL, FAKE, 0)
        between = discriminator.inputs[0].detach().flatten(1)
        assert (between.abs() < 0.5).all()
        assert (between == between[:, :1]).all()  # one interpolation weight for all of an image
        assert bool((between[0] == between[1]).all()) == whole_batch
    discriminator = Recorder()
    gan_loss(penalty="r1").discriminator_losses(discriminator, REAL, FAKE, 0)
    assert discriminator.inputs[0].equal(REAL)


class Once(torch.autograd.Function):
    """An operation with a gradient but without a second one, like a compiled kernel."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        return gradient


def test_a_penalty_reaches_the_weights_with_any_kernels():
    discriminator = PatchDiscriminator(3, PatchDiscriminator.Config(channels=4, layers=1))

    def kernel(x, shortcut, slope, padding):
        return Once.apply(instance_norm_act_pad(x, shortcut, slope, padding))

    parts = [part for part in discriminator.modules() if isinstance(part, NormActPad)]
    for part in parts:
        part.kernels = KernelSet(norm_act_pad=kernel)
    images = torch.rand(2, 3, 16, 16)
    gan_loss(penalty="r1").discriminator_losses(discriminator, images, -images, 0)[
        "penalty_b"
    ].backward()
    assert all(p.grad is not None for n, p in discriminator.named_parameters() if "weight" in n)
    # The kernels are restored afterwards.
    assert [part.kernels.norm_act_pad for part in parts] == [kernel] * len(parts)


def test_label_smoothing_lowers_the_target_of_reals():
    # ((2.7 - 0.9)^2 + 2.1^2) / 2 = 3.825
    terms = gan_loss(label_smoothing=0.1).discriminator_losses(Linear(), REAL, FAKE, 0)
    assert terms["discriminator_b"].item() == pytest.approx(3.825)


def test_instance_noise_halves_in_its_half_life():
    noisy, stds = gan_loss(instance_noise=0.4, noise_half_life=100), []
    for step in (0, 100, 200):
        discriminator = Recorder()
        noisy.generator_loss(discriminator, torch.zeros(64, 3, 16, 16), step)
        stds.append(discriminator.inputs[0].std().item())
    assert stds == pytest.approx([0.4, 0.2, 0.1], rel=0.02)


def test_a_captured_step_reads_the_noise_std_from_a_tensor():
    noisy = gan_loss(instance_noise=0.4, noise_half_life=100)
    noisy.prepare_cuda_graph_inputs(100, torch.device("cpu"))
    discriminator = Recorder()
    noisy.generator_loss(discriminator, torch.zeros(64, 3, 16, 16), 0)  # the step that was captured
    assert discriminator.inputs[0].std().item() == pytest.approx(0.2, rel=0.02)


def test_reals_and_fakes_are_augmented_in_both_updates():
    discriminator = Recorder()
    loss = gan_loss(augment="always", diffaug_policy=["cutout"])
    loss.discriminator_losses(discriminator, REAL, FAKE, 0)
    loss.generator_loss(discriminator, FAKE, 0)
    assert len(discriminator.inputs) == 3
    assert all((images == 0).any() for images in discriminator.inputs)


def test_ada_raises_p_while_r_t_is_above_its_target_and_lowers_it_below():
    # Every fourth step changes p by 4 batches of 2 images of 500,000.
    loss, sure, unsure = gan_loss(augment="adaptive"), REAL + 1, REAL - 1
    for _ in range(8):
        loss.discriminator_losses(Recorder(), sure, FAKE, 0)
    assert loss.ada_p.item() == pytest.approx(2 * 8 / 500_000)
    for _ in range(4):
        loss.discriminator_losses(Recorder(), unsure, FAKE, 0)
    assert loss.ada_p.item() == pytest.approx(8 / 500_000)


def test_label_smoothing_moves_the_threshold_of_ada():
    # The label of reals is 0.8, and 0.45 is nearer to it than to 0; without smoothing it is not.
    for smoothing, expected in ((0.2, 2 * 4 / 500_000), (0.0, 0.0)):
        loss = gan_loss(augment="adaptive", label_smoothing=smoothing)
        for _ in range(4):
            loss.discriminator_losses(Recorder(), REAL - 0.05, FAKE, 0)
        assert loss.ada_p.item() == pytest.approx(expected)


def test_the_probability_of_ada_is_in_the_state_dict():
    loss = gan_loss(augment="adaptive")
    loss.ada_p.fill_(0.25)
    other = gan_loss(augment="adaptive")
    other.load_state_dict(copy.deepcopy(loss.state_dict()))
    assert other.ada_p.item() == 0.25
    assert not gan_loss().state_dict()  # without ADA there are no buffers


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"adversarial_weight": -1}, "method.adversarial_weight"),
        ({"penalty_every": 0}, "method.penalty_every"),
        ({"label_smoothing": 0.5}, "method.label_smoothing"),
        ({"label_smoothing": 0.1, "gan_mode": "hinge"}, "gan_mode=hinge"),
        ({"augment": "always", "diffaug_policy": []}, "method.diffaug_policy"),
        ({"augment_target": 1.0}, "method.augment_target"),
        ({"augment": "adaptive", "gan_mode": "wgan"}, "gan_mode=wgan"),
    ],
)
def test_invalid_options_are_named(options, named):
    with pytest.raises(ValueError, match=named):
        GANLossConfig(**options)
