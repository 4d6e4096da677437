"""A checkpoint whose content is not what its file holds is refused in one line, in little memory."""

import resource
import time
from dataclasses import replace

import pytest
import torch

import export
import train
import translate
from common.errors import UserError
from engine.checkpoint import Checkpoints, load_checkpoint, state_dict_mismatch
from engine.checkpoint_content import check_content, check_sizes, check_tensors
from options.load import from_yaml, to_yaml
from tests.conftest import TINY, call, raises_user_error


@pytest.fixture
def state(trained):
    return Checkpoints(trained / "checkpoints").load_latest()


def saved(tmp_path, state):
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / "step_00000008.pt")
    (tmp_path / "run" / "options.yaml").write_text(state.get("options", ""))
    return folder / "step_00000008.pt"


def stretched(state):
    name = next(name for name, x in state["method"].items() if isinstance(x, torch.Tensor))
    state["method"] = {**state["method"], name: torch.zeros(1).expand(40_000, 40_000)}
    return state


@pytest.mark.parametrize(
    "command", [translate, export, train], ids=["translate", "export", "train"]
)
def test_a_tensor_without_data_is_refused_by_every_command(command, state, photos, tmp_path):
    path = saved(tmp_path, stretched(state))
    words = {
        translate: [path, photos / "testA", tmp_path / "out", "direction=a_to_b"],
        export: [path, f"out={tmp_path / 'out'}", "formats=pt2"],
        train: ["cyclegan", f"data.root={photos}", f"run={tmp_path / 'new'}", f"init_from={path}", *TINY],
    }[command]  # fmt: skip
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    code, error = call(command, *words)
    assert code == 2 and "has no data" in error and str(path) in error
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KiB
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("change", [
    {"step": None}, {"step": -1}, {"step": True}, {"step": 1.5}, {"options": 7}, {"method": []},
    {"ema": 3}, {"optimizers": "x"}, {"frozen_until": [1]}, {"rollbacks": "2"}, {"rank_states": {}},
    {"method": {"x": torch.zeros(3, 3).to_sparse()}}, {"step": 10**30}, {"rollbacks": -5},
    {"frozen_until": {"x": "y"}}, {"seconds": float("nan")},
    {"method": {"x": torch.zeros(3, device="meta")}},
], ids=str)  # fmt: skip
def test_parts_of_another_type_are_refused(state, tmp_path, change):
    with raises_user_error(path=tmp_path):
        check_content({**state, **change}, tmp_path)
    name = next(iter(change))
    if name in ("step", "options", "method", "ema"):
        with raises_user_error(path=tmp_path):
            check_content({key: value for key, value in state.items() if key != name}, tmp_path)


@pytest.mark.parametrize("entry", [
    {"exp_avg": torch.zeros(3)}, {"exp_avg": "x"}, {"step": "x"}, {"exp_avg": torch.zeros(1).long()},
], ids=str)  # fmt: skip
def test_moments_of_other_parameters_are_refused_and_not_computed_with(
    state, photos, tmp_path, entry
):
    optimizer = state["optimizers"]["generators"]
    optimizer["state"][0] = {**optimizer["state"][0], **entry}
    saved(tmp_path, state)
    words = ["cyclegan", f"data.root={photos}", f"run={tmp_path / 'run'}", *TINY]
    words += ["duration=8 steps", "checkpoint_every=4", "log.every=2", "log.previews_every=4"]
    code, error = call(train, *words, "ema_half_life=4")
    assert code == 2 and "does not fit the optimizer generators" in error


def test_weights_that_init_from_cannot_use_are_named(state, photos, tmp_path):
    name = next(name for name, x in state["method"].items() if isinstance(x, torch.Tensor))
    state["method"] = {**state["method"], name: state["method"][name].to(torch.complex64)}
    state["ema"] = None
    path = saved(tmp_path, state)
    words = [
        "cyclegan",
        f"data.root={photos}",
        f"run={tmp_path / 'new'}",
        f"init_from={path}",
        *TINY,
    ]
    code, error = call(train, *words)
    assert code == 2 and name in error


def test_content_that_is_nested_without_end_is_refused(tmp_path):
    deep: list = []
    for _ in range(5000):
        deep = [deep]
    with raises_user_error(path=tmp_path):
        check_tensors(deep, tmp_path)


@pytest.mark.parametrize("name", ["method.generator.blocks", "method.generator.channels",
                                  "method.discriminator.channels"])  # fmt: skip
def test_networks_larger_than_their_weights_are_not_built(state, tmp_path, photos, name):
    text = to_yaml(with_option(from_yaml(state["options"], "x"), name))
    path = saved(tmp_path, {**state, "options": text})
    began = time.monotonic()
    code, error = call(translate, path, photos / "testA", tmp_path / "out", "direction=a_to_b")
    assert code == 2 and name in error and time.monotonic() - began < 5


def with_option(options, name: str):
    """Return options in which one number is a million."""
    first, _, rest = name.partition(".")
    value = getattr(options, first)
    if rest:
        return replace(options, **{first: with_option(value, rest)})
    return replace(options, **{first: 1_000_000})


def test_sizes_of_the_weights_themselves_are_accepted(state, tmp_path):
    options = from_yaml(state["options"], "x")
    check_sizes(options.method, state["method"], tmp_path)
    wide = replace(options.method, generator=replace(options.method.generator, blocks=513))  # pyright: ignore
    with raises_user_error(option="method.generator.blocks"):
        check_sizes(wide, state["method"], tmp_path)


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64, torch.float8_e4m3fn, torch.bool])
def test_weights_of_another_kind_of_numbers_are_named(dtype):
    expected = {"w": torch.zeros(2)}
    assert state_dict_mismatch(expected, {"w": torch.zeros(2).half()}) == ""
    assert "of another type w" in state_dict_mismatch(expected, {"w": torch.zeros(2).to(dtype)})


def test_a_checkpoint_of_this_software_is_still_read(trained):
    path = max((trained / "checkpoints").glob("step_*.pt"))
    assert load_checkpoint(path)["step"] == 8
    with pytest.raises(UserError):
        load_checkpoint(path, "0" * 64)


@pytest.mark.parametrize("kind", [torch.zeros(3), [2], {"2": 2}, 2.5, None], ids=str)
def test_a_format_of_another_type_is_refused(state, tmp_path, kind):
    path = saved(tmp_path, {**state, "format": kind})
    with raises_user_error(path=path):
        load_checkpoint(path)


def test_a_checkpoint_without_the_time_that_it_took_is_continued(state, photos, tmp_path):
    state.pop("seconds")
    saved(tmp_path, {**state, "step": 4})
    words = [
        "cyclegan",
        f"data.root={photos}",
        f"run={tmp_path / 'run'}",
        *TINY,
        "duration=8 steps",
    ]
    words += ["checkpoint_every=4", "log.every=2", "log.previews_every=4", "ema_half_life=4"]
    assert call(train, *words) == (0, "")
