"""What earlier versions wrote is read: names in checkpoints, options and bundles of format 1.

The golden files were written by the last version of format 1: the state-dict keys of a toy-sized network of
every method, and the options.yaml of a run.
"""

import json
from dataclasses import replace

import pytest

from engine.upgrade_format_1 import upgrade_keys, upgrade_options, upgrade_state
from models import methods
from options.load import from_yaml
from tests.conftest import ROOT, shrink

KEYS = json.loads((ROOT / "tests/golden/state_keys_format_1.json").read_text())


@pytest.mark.parametrize("name", KEYS)
def test_every_network_of_format_1_has_its_place(name):
    config = shrink(name)
    if name == "cyclegan":  # with the buffers of adaptive augmentation
        config = replace(config, augment="adaptive")  # pyright: ignore[reportCallIssue]
    method = methods.build(config, {"a": 3, "b": 3})
    assert list(upgrade_keys(dict.fromkeys(KEYS[name]))) == list(method.state_dict())


def test_options_of_format_1_keep_their_meaning():
    options = from_yaml((ROOT / "tests/golden/options_format_1.yaml").read_text(), "golden")
    assert options.lr_multipliers == {"generators": 0.5}
    assert options.update_every == {"discriminators": 2}
    assert options.clip_grad_norm == {"generators": 1.0}
    assert options.on_nonfinite == "skip" and options.validation_images == 2
    assert options.validation_metrics == ["color", "swd"] and options.init_strict
    assert options.data.memory_cache_gb == 0.5 and options.microbatches == 1
    method = options.method
    assert (method.gan_mode, method.pool_size) == ("lsgan", 50)  # pyright: ignore
    assert method.diffaug_policy == ["color", "translation"]  # pyright: ignore
    assert options.log.project == "unpaired-translation"


def test_values_are_renamed_too_and_todays_options_stay():
    old = {"init_partial": True, "method.penalty": "zero_centred", "method.generator.kind": "plain_unet",
           "method.discriminator.initial": "xavier", "method.mapping.widest": 8}  # fmt: skip
    assert upgrade_options(old) == {
        "init_strict": False, "method.penalty": "zero_centered",
        "method.generator.kind": "norm_free_unet", "method.discriminator.init_type": "xavier",
        "method.mapping.max_channels": 8,
    }  # fmt: skip
    new = {"init_strict": False, "validation_metrics": ["swd"], "data.workers": 2}
    assert upgrade_options(new) == new


def test_the_entries_of_a_checkpoint_are_renamed_and_what_it_holds_is_shared():
    weights, average = [1.0], {"a_to_b.generator.x": 2.0}
    state = upgrade_state({
        "format": 1, "step": 3, "detours": 1, "waiting": {"generators": 5}, "average": average,
        "method": {"to_b.x": weights}, "memories": [{"history_a._extra_state": {}}],
    })  # fmt: skip
    assert state == {
        "format": 1, "step": 3, "rollbacks": 1, "frozen_until": {"generators": 5}, "ema": average,
        "method": {"generator_ab.x": weights}, "rank_states": [{"image_pool_a._extra_state": {}}],
    }  # fmt: skip
    assert state["method"]["generator_ab.x"] is weights
