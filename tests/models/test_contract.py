"""The interface of every method in models/methods/; new files are found automatically."""

import copy

import pytest
import torch

from models import methods
from models.translator import StyledTranslator, Translator
from tests.conftest import shrink

CHANNELS = {"a": 3, "b": 3}


@pytest.fixture(params=methods.names())
def method(request):
    return methods.find(request.param)(shrink(request.param), CHANNELS)


def batch():
    return {domain: torch.rand(2, 3, 16, 16) * 2 - 1 for domain in CHANNELS}


def test_optimizer_groups_have_every_parameter_exactly_once(method):
    grouped = [id(p) for group in method.optimizer_groups().values() for p in group.parameters()]
    assert sorted(grouped) == sorted(id(p) for p in method.parameters() if p.requires_grad)


def test_updates_name_groups_and_have_finite_scalars_under_unique_names(method):
    names = []
    for update in method.updates(batch(), 0):
        assert set(update.groups) <= set(method.optimizer_groups())
        # Only a method without optimizer groups has updates without groups.
        assert update.groups or not method.optimizer_groups()
        for name, loss in update.losses.items():
            assert loss.ndim == 0 and torch.isfinite(loss), name
            assert loss.requires_grad == bool(update.groups), name
        names += update.losses
    assert names and len(names) == len(set(names))


def test_updates_leave_grad_mode_and_autocast_unchanged(method):
    for _ in method.updates(batch(), 0):
        assert torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")


def test_every_group_is_updated_in_a_step(method):
    updated = {name for update in method.updates(batch(), 0) for name in update.groups}
    assert updated == set(method.optimizer_groups())


def test_translators_are_named_by_their_domains_and_keep_any_size(method):
    for name, translator in method.translators().items():
        assert isinstance(translator, Translator)
        assert name == f"{translator.source}_to_{translator.target}"
        for height, width in ((16, 16), (17, 23), (5, 40), (1, 1)):
            image = torch.rand(1, translator.in_channels, height, width) * 2 - 1
            assert translator(image).shape == (1, translator.out_channels, height, width)


def test_styles_are_sampled_reproducibly_and_encoded_from_references_of_any_size(method):
    for translator in method.translators().values():
        assert isinstance(translator, StyledTranslator) == (translator.style_dim > 0)
        if not isinstance(translator, StyledTranslator):
            continue
        sampled = translator.sample_style(3, seed=1)
        assert sampled.shape == (3, translator.style_dim)
        assert sampled.equal(translator.sample_style(3, seed=1))
        assert not sampled.equal(translator.sample_style(3, seed=2))
        for height, width in ((17, 23), (5, 40)):
            reference = torch.rand(2, translator.out_channels, height, width) * 2 - 1
            assert translator.encode_style(reference).shape == (2, translator.style_dim)
            image = torch.rand(2, translator.in_channels, height, width) * 2 - 1
            assert translator(image, sampled[:2]).shape == (
                2,
                translator.out_channels,
                height,
                width,
            )
        state = torch.get_rng_state()
        translator.sample_style(1)
        assert torch.get_rng_state().equal(state), (
            "sampling a style must not change the global random state"
        )


def test_the_state_round_trips(method):
    for _ in method.updates(batch(), 0):
        pass
    other = type(method)(shrink(type(method).Config().name), CHANNELS)
    other.load_state_dict(copy.deepcopy(method.state_dict()))
    images = batch()
    torch.manual_seed(1)
    one = [update.total().item() for update in method.updates(images, 1)]
    torch.manual_seed(1)
    assert one == [update.total().item() for update in other.updates(images, 1)]


def test_the_same_seed_gives_the_same_step(method):
    images, totals = batch(), []
    for _ in range(2):
        torch.manual_seed(3)
        again = copy.deepcopy(method)
        totals.append([update.total().item() for update in again.updates(images, 0)])
    assert totals[0] == totals[1]
