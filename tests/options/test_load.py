"""Words become options, presets and help; every mistake is one line that names its option."""

from dataclasses import replace

import pytest

from common.errors import UserError, one_line
from models import methods
from options.config import ExportOptions, TestOptions, TrainOptions, TranslateOptions
from options.introspection import option_fields
from options.load import (
    from_yaml,
    to_yaml,
    train_options,
    with_settings,
)
from options.presets import preset_list, preset_names
from options.resume_check import check_same
from tests.conftest import raises_user_error


def loaded(*words: str) -> TrainOptions:
    options = train_options(list(words))
    assert options is not None
    return options


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_builds_and_has_a_line_of_explanation(name):
    options = loaded(name)
    assert options.run == f"runs/{name}"
    channels = options.data.channels_of()
    small = replace(options.method, **{
        part: replace(group, channels=2, **({"weights": "random"} if hasattr(group, "weights") else {}))
        for part, group in vars(options.method).items() if hasattr(group, "channels")
    })  # fmt: skip
    method = methods.find(options.method.name)(small, channels)
    method.check_crop_size(options.data.crop_size, options.data.crop_size)
    line = next(line for line in preset_list().splitlines() if line.split()[:1] == [name])
    assert len(line.split()) > 3


def test_the_presets_have_the_papers_settings():
    paper = loaded("cyclegan")
    assert (paper.method.cycle_weight, paper.method.identity_weight, paper.method.pool_size) == (
        10,
        0.5,
        50,
    )
    assert (paper.method.gan_mode, paper.learning_rate, paper.adam_betas) == (
        "lsgan",
        2e-4,
        [0.5, 0.999],
    )
    assert (paper.duration, paper.decay_after, paper.batch_size) == ("200 epochs", "50%", 1)
    assert (paper.data.load_size, paper.data.crop_size, paper.method.generator.blocks) == (
        286,
        256,
        9,
    )
    assert paper.ema_half_life == 0
    for name in ("monet2photo", "vangogh2photo", "cezanne2photo", "ukiyoe2photo"):
        assert loaded(name).method.identity_weight == 0.5
        assert loaded(name).data.domains[1] == "photo"
    for name in ("horse2zebra", "apple2orange", "summer2winter", "maps", "facades", "cityscapes"):
        assert loaded(name).method.identity_weight == 0
    small = loaded("cityscapes")
    assert (small.data.crop_size, small.method.generator.blocks) == (128, 6)
    assert loaded("horse2zebra").data.domains == ["horse", "zebra"]
    assert loaded("summer2winter").data.domains == ["summer", "winter"]


def test_written_options_are_a_preset_of_the_same_options(tmp_path):
    options = loaded(
        "monet2photo", "run=x", "data.train.monet=/a b", "learning_rate=1e-4", "log.tags=[x,y]"
    )
    path = tmp_path / "options.yaml"
    path.write_text(to_yaml(options))
    assert loaded(str(path)) == options
    assert from_yaml(to_yaml(options), "there") == options
    assert loaded(str(tmp_path), "run=y") == replace(options, run="y")


def test_a_preset_builds_on_another_and_the_command_line_has_the_last_word(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("base: demo\nbatch_size: 7\nmethod: {generator: {blocks: 3}}\n")
    options = loaded(str(path), "method.generator.channels=5")
    assert (options.batch_size, options.learning_rate) == (7, 0.0005)
    assert (options.method.generator.blocks, options.method.generator.channels) == (3, 5)
    assert options.run == "runs/mine"


def test_texts_stay_texts_and_lists_are_lists():
    options = loaded(
        "demo", "run=001", "data.domains=[monet,photo]", "data.channels=[1,3]", "log.group=1e3"
    )
    assert (options.run, options.log.group) == ("001", "1e3")
    assert options.data.domains == ["monet", "photo"]
    assert options.data.channels_of() == {"monet": 1, "photo": 3}
    assert loaded("demo", "--batch_size=3").batch_size == 3
    assert loaded("demo", "log.tags=x,y").log.tags == ["x", "y"]
    assert loaded("demo", "log.tags=null").log.tags is None


# A word after `demo` -> the option that the error names, and a part of its line.
MISTAKES = {
    "learning_rat=1": ("learning_rat", "did you mean learning_rate?"),
    "lr=1": ("lr", "unknown option 'lr'"),
    "epochs=100": ("epochs", "write duration='100 epochs'"),
    "log.wandb=off": ("log.wandb", "'off' is not one of auto, online, offline, disabled"),
    "rates.generators=2": ("rates.generators", "now called lr_multipliers.generators"),
    "init_partial=true": ("init_partial", "now called init_strict=false"),
    "init_partial=false": ("init_partial", "now called init_strict=true"),
    "scores=[colour,swd]": ("scores", "now called validation_metrics=[color,swd]"),
    "method.generator.kind=plain_unet": ("method.generator.kind", "now called norm_free_unet"),
    "method.objective=wgan": ("method.objective", "now called method.gan_mode"),
    "method.generator.initial=xavier": (
        "method.generator.initial",
        "now called method.generator.init_type",
    ),
    "crop_size=32": ("crop_size", "did you mean data.crop_size?"),
    "method.generator.chanels=3": ("method.generator.chanels", "method.generator.channels"),
    "data.croop_size=3": ("data.croop_size", "did you mean data.crop_size?"),
    "batch_size=two": ("batch_size", "two"),
    "batch_size=1.5": ("batch_size", "1.5"),
    "batch_size=": ("batch_size", "batch_size=..."),
    "batch_size=0": ("batch_size", "more than 0"),
    "learning_rate=-1": ("learning_rate", "more than 0"),
    "learning_rate=nan": ("learning_rate", "finite"),
    "learning_rate=inf": ("learning_rate", "finite"),
    "method.gan_mode=wgann": ("method.gan_mode", "wgann"),
    "method.name=cyclegam": ("method.name", "did you mean cyclegan?"),
    "data.fit=squash": ("data.fit", "squash"),
    "data.flip=maybe": ("data.flip", "true or false"),
    "duration=40": ("duration", "'200 epochs' or '5000 steps'"),
    "duration=40 stepps": ("duration", "'200 epochs'"),
    "decay_after=half": ("decay_after", "half"),
    "data.crop_size=300": ("data.crop_size", "data.load_size"),
    "data.domains=monet": ("data.domains", "2 or more"),
    "data.channels={a: 1}": ("data.channels", "{'a': 1}"),
    "data.domains[0]=x": ("data.domains[0]", "data.domains=[...]"),
    "adam_betas=[0.5]": ("adam_betas", "two numbers"),
    "adam_betas=[0.5,1]": ("adam_betas", "two numbers"),
    "method.cycle_weight=-1": ("method.cycle_weight", "0 or more"),
    "method.discriminator.layers=9": ("method.discriminator.layers", "1 to 5"),
    "method=3": ("method", "method"),
    "method.generator=[1]": ("method.generator", "method.generator"),
    "data.train.c=x": ("data.train.c", "data.train.a"),
    "log.every=0": ("log.every", "at least 1"),
    "log.wandb=onlin": ("log.wandb", "onlin"),
    "run=${oc.env:HOME}": ("run", "not allowed"),
    "run=a\0b": ("run", "zero byte"),
    "seed=-1": ("seed", "0 or more"),
    "--fast": ("fast", "fast=value"),
    "cyclegan": ("", "one preset at a time"),
    "=3": ("", "unknown option ''"),
    "data.channels=1" + "0" * 400: ("data.channels", "must be"),
    "checkpoint_every=0": ("checkpoint_every", "more than 0"),
    "ema_half_life=-3": ("ema_half_life", "-3"),
    "validation_images=1e400": ("validation_images", "whole number"),
    "data.load_size={a: 1}": ("data.load_size", "whole number"),
    "seed=99999999999999999999999": ("seed", "2^63"),
    "batch_size=1000000000": ("batch_size", "at most 65536"),
    "data.load_size=10000000": ("data.load_size", "1 to 32766"),
    "run=a\udcff": ("run", "not UTF-8"),
    "data.train.a=\ud800": ("data.train", "not UTF-8"),
    "log.tags=[x\udcff]": ("log.tags", "UTF-8"),
    "data.test.a=a\0b": ("data.test", "zero byte"),
}


@pytest.mark.parametrize("word", MISTAKES)
def test_a_mistake_is_answered_in_one_short_line(word):
    with pytest.raises(UserError) as answer:
        options = loaded("demo", word)
        methods.find(options.method.name)(options.method, options.data.channels_of())
    (option, part), text = MISTAKES[word], str(answer.value)
    assert answer.value.option == option
    assert part in text and "\n" not in text and len(text) <= 200


@pytest.mark.parametrize(("words", "part"), [
    (["dmo"], "did you mean demo?"), (["horse2zebr"], "did you mean horse2zebra?"), ([], "name a preset"),
    (["nowhere.yaml"], "no such preset file"),
    (["a\nb", "c\x1b[2J"], r"got a\\nb and c\\x1b\[2J; options are"),
])  # fmt: skip
def test_a_preset_that_is_not_there_is_answered(words, part):
    with pytest.raises(UserError, match=part.replace("?", r"\?")) as answer:
        train_options(words)
    assert answer.value.path == {"nowhere.yaml": "nowhere.yaml"}.get("".join(words), "")


@pytest.mark.parametrize("text", [
    "!!python/object/apply:os.system ['touch marker']", "a: 1\na: 2", "[1, 2]", "3", "a: [", "\tx: 1",
    "run: ${oc.env:HOME}", "base: 3", "base: [demo]", "base: nothing", "batch_size: many", "unknown: 1",
    "data: 3", "1: 2", "learning_rate: .nan", "x" * 10_000, "[" * 3000, "method: {name: 7}",
    "data: {train: {a: {b: c}}}", "method: null", "log: [1]", "a: &x [1]\nb: *x",
])  # fmt: skip
def test_a_broken_preset_is_answered_in_one_line_that_names_it(tmp_path, text, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(UserError) as answer:
        train_options([str(tmp_path / "bad.yaml")])
    assert "\n" not in one_line(answer.value)
    assert not (tmp_path / "marker").exists()


def test_bases_that_form_a_cycle_are_refused(tmp_path):
    for one, other in (("a", "b"), ("b", "a")):
        (tmp_path / f"{one}.yaml").write_text(f"base: {tmp_path}/{other}.yaml\n")
    with raises_user_error(path=tmp_path / "a.yaml"):
        train_options([str(tmp_path / "a.yaml")])


def test_binary_presets_and_folders_are_answered(tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00binary")
    with raises_user_error(path=tmp_path / "x.yaml"):
        train_options([str(tmp_path / "x.yaml")])


def test_help_explains_every_option_with_the_values_of_the_preset(capsys):
    assert train_options(["cityscapes", "--help"]) is None
    page = capsys.readouterr().out
    assert "data.crop_size=128" in page and "method.generator.blocks=6" in page
    for field in option_fields(TrainOptions, {"method": methods.find("cyclegan").Config}):
        assert f"  {field.name}=" in page
    assert train_options(["--help"]) is None
    assert train_options(["--list"]) is None
    assert "monet2photo" in capsys.readouterr().out


@pytest.mark.parametrize("options", [TrainOptions, TestOptions, TranslateOptions, ExportOptions])
def test_every_option_is_explained(options):
    for name in methods.names():
        for field in option_fields(options, {"method": methods.find(name).Config}):
            assert len(field.explanation) > 8, f"the line of {field.name} has no comment"


def test_the_other_commands_take_options_too(capsys):
    changed = with_settings(TestOptions(), ["checkpoint=best", "data.crop_size=64"], "usage")
    assert changed is not None
    assert (changed.checkpoint, changed.data.crop_size) == ("best", 64)
    assert with_settings(TestOptions(), ["--help"], "usage of test") is None
    assert "usage of test" in capsys.readouterr().out
    for word in ("checkpont=best", "checkpoint=worst", "stray", "--fast"):
        with pytest.raises(UserError):
            with_settings(TestOptions(), [word], "usage")


def test_another_configuration_in_the_same_folder_is_refused_with_the_difference(tmp_path):
    saved = loaded("demo")
    check_same(tmp_path, saved, replace(saved, checkpoint_every=3, log=replace(saved.log, every=7)))
    with pytest.raises(UserError, match=r"learning_rate 0.0005 -> 0.1") as answer:
        check_same(tmp_path, saved, replace(saved, learning_rate=0.1))
    assert (answer.value.option, answer.value.path) == ("learning_rate", str(tmp_path))


def test_numbers_by_optimizer_group_are_set_by_their_dotted_names(tmp_path):
    options = loaded(
        "cyclegan",
        "lr_multipliers.discriminators=4",
        "update_every.generators=5",
        "clip_grad_norm.generators=0.5",
    )
    assert options.lr_multipliers == {"discriminators": 4.0}
    assert options.update_every == {"generators": 5}
    assert options.clip_grad_norm == {"generators": 0.5}
    assert from_yaml(to_yaml(options), "there").lr_multipliers == {"discriminators": 4.0}
    preset = tmp_path / "mine.yaml"
    preset.write_text("base: cyclegan\nrates: {generators: 0.5}\n")
    assert loaded(str(preset)).lr_multipliers == {"generators": 0.5}


@pytest.mark.parametrize(
    "setting",
    [
        "lr_multipliers.discriminators=-1",
        "update_every.generators=0",
        "update_every.generators=often",
        "warm_up=soon",
    ],
)
def test_a_wrong_number_of_an_optimizer_group_is_refused(setting):
    with raises_user_error(option=setting.partition("=")[0]):
        loaded("cyclegan", setting)


@pytest.mark.parametrize(
    ("setting", "option"),
    [
        ("lr_multipliers.generators=1e400", "lr_multipliers"),
        ("adam_betas=[0.5,1e400]", "adam_betas"),
    ],
)
def test_numbers_in_groups_and_lists_are_finite_too(setting, option):
    with pytest.raises(UserError, match="must be a finite number") as answer:
        loaded("cyclegan", setting)
    assert answer.value.option == option


NAMES = ["01,02", "no,yes", "1_1,2_2", "null,true", "1e3,0x1", "on,off"]


@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize("form", ["{}", "[{}]"])
def test_names_of_domains_are_words_as_written(names, form, tmp_path):
    expected = names.split(",")
    options = train_options(["cyclegan", f"data.domains={form.format(names)}", "run=x"])
    assert options is not None and options.data.domains == expected
    assert from_yaml(to_yaml(options), "x").data.domains == expected
    preset = tmp_path / "p.yaml"
    preset.write_text(f"base: cyclegan\ndata:\n  domains: [{names}]\n")
    if "1e3" not in names:  # a number of YAML; in quotes it is a name
        options = train_options([str(preset), "run=x"])
        assert options is not None and options.data.domains == expected


def test_folders_and_keys_in_a_preset_are_words_as_written(tmp_path):
    preset = tmp_path / "p.yaml"
    preset.write_text(
        "base: cyclegan\nrun: 01\ndata:\n  domains: [01, no]\n"
        "  train:\n    01: 007\n    no: off\nlearning_rate: 1e-3\nseed: 5\n"
    )
    options = train_options([str(preset)])
    assert options is not None and options.run == "01"
    assert options.data.train == {"01": "007", "no": "off"}
    assert options.learning_rate == 1e-3 and options.seed == 5


def test_an_end_of_line_in_a_list_is_one_line_of_error():
    with pytest.raises(UserError, match="is not a list of words"):
        train_options(["cyclegan", "data.domains=a,\rb"])
