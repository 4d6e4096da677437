"""What README.md and docs/*.md say is so: commands run or parse, and what they name is there."""

import glob
import importlib
import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import test
import train
from common.command_line import split_words
from common.errors import UserError
from data.download import ARCHIVES
from data.scenes import TRANSLATIONS
from evaluation.report import FIGURES
from models import methods
from models.method import Method
from options.config import ExportOptions, TestOptions, TrainOptions, TranslateOptions
from options.introspection import option_fields
from options.load import train_options, with_settings
from options.presets import OWN, preset_names
from tests.conftest import PYTHON, TINY, call, picture, write_images
from tests.documents import PAGES, ROOT, Command, anchors, commands, inline, links
from training.failure_modes import FAILURE_MODES

# Commands that are only parsed here (what they name must exist), and where they are run instead.
ONLY_PARSED = {
    "make ": "sets an environment up, or runs for minutes",
    "pip install": "changes the environment",
    ". .venv": "is the shell's",
    "torchrun ": "starts processes: tests/engine/distributed/test_distributed.py",
    "wandb sweep": "needs a server: tests/options/test_sweeps.py",
    "wandb:ENTITY": "needs a server: tests/engine/tracking/test_wandb_artifacts.py",
    "/wandb/offline-run": "the name is an example: tests/options/test_repeat_run.py",
    "monet2photo": "needs a data set that is downloaded",
    "plan=true": "measures for minutes: tests/training/test_cost_estimate.py",
    "git clone": "needs the network",
}  # fmt: skip
# What takes long is run by the slow test alone; without it an export writes weights and no graphs.
SLOW = ("run_onnx.py",)
QUICK = "formats=safetensors"
SMALL = [*TINY, "duration=2 steps", "checkpoint_every=2", "log.every=1", "log.previews_every=0"]
# Names that stand for the reader's own.
OWN_NAMES = {
    "PRESET": "cyclegan",
    "plain": "cyclegan",
    "N": "1",
    "NAME": "horse2zebra",
    "OUT": "out",
    "DATA": "DATA",
}
# What modules with a few words of their own take; the commands with option classes are not here.
WORDS = {"out", "workers", "tolerance", "markdown", "train", "test", "size", "seed"}
WORDS |= {"resume"}  # of W&B's library
# Paths that a page tells the reader to make.
TO_BE_MADE = {
    "models/methods/plain.py", "options/presets/plain.yaml", "tests/models/methods/test_plain.py",
    "tests/golden/plain.json",
}  # fmt: skip
COMMANDS = {"test": TestOptions, "translate": TranslateOptions, "export": ExportOptions}

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def filled(words: Sequence[str]) -> list[str]:
    """Return words as they could be typed: names in capitals are replaced, three dots are dropped."""
    found = []
    for word in words:
        name, equals, value = word.partition("=")
        value = OWN_NAMES.get(value, value)
        found.append(f"{name}={value}" if equals else OWN_NAMES.get(word, word))
    return [word for word in found if word != "..."]


def parsed(words: Sequence[str]) -> None:
    """Raise AssertionError or UserError where a command names what does not exist."""
    program, *rest = filled(words)
    if program in ("torchrun", "srun"):
        if "train.py" in rest:
            train_line(rest[rest.index("train.py") + 1 :])
    elif program == "make":
        assert rest[0] in re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif program == "wandb":
        assert rest[0] == "sweep" and (ROOT / rest[1]).is_file()
    elif program == "pip":
        required(rest)
    elif program == "python" and rest[0] == "-m":
        module(rest[1], rest[2:])
    elif program == "python" and rest[0] == "train.py":
        train_line(rest[1:])
    elif program == "python" and rest[0].removesuffix(".py") in COMMANDS:
        options = COMMANDS[rest[0].removesuffix(".py")]
        domains = dict.fromkeys(re.findall(r"data\.test\.(\w+)=", " ".join(rest)))
        named = [f"data.domains={','.join(domains)}"] if domains else []  # the run's
        with_settings(options(), [*named, *split_words(rest[1:])[1]], "usage")
    elif program == "python" and not rest[0].startswith("runs/"):
        script(rest[0], rest[1:])


def train_line(words: Sequence[str]) -> None:
    """Parse the options of train.py; a run's own options are CycleGAN's."""
    preset = [
        "cyclegan" if "=" not in word and ("/" in word or word == "RUN") else word for word in words
    ]
    if words[:2] == ["FOLDER", "FOLDER"] or [word[:2] for word in words[:2]] == ["~/", "~/"]:
        preset = ["cyclegan", *preset[2:]]  # two folders
    train_options(preset)


def required(words: Sequence[str]) -> None:
    assert words[:2] == ["install", "-r"] and (ROOT / words[2]).is_file()


def module(name: str, words: Sequence[str]) -> None:
    assert importlib.util.find_spec(name) is not None, f"no module {name}"
    if name == "pip":
        required(words)
    elif name == "data.download":
        assert words[0] in ARCHIVES
    elif name == "data.scenes":
        assert words[0] in TRANSLATIONS
    elif name == "pytest":
        assert all((ROOT / word).exists() for word in words if word.startswith("tests/"))
    for word in words:
        if "=" in word:
            assert_option(word)


def script(name: str, words: Sequence[str]) -> None:
    """Check a script that has its own parser: its flags are in it, other words are train.py's."""
    assert (ROOT / name).is_file(), f"no file {name}"
    flags = [word for word in words if word.startswith("--")]
    assert all(f'"{flag}"' in (ROOT / name).read_text() for flag in flags), flags
    if name == "benchmarks/known_truth.py":
        train_line([word for word in words if "=" in word or word in preset_names()])


def known_options() -> dict[str, str]:
    """Return every option of every command -> a preset that has it, or nothing where it is not train.py's."""
    found = {field.name: "" for each in COMMANDS.values() for field in option_fields(each)}
    presets = {name: train_options([name]) for name in preset_names()}
    for preset, options in reversed(presets.items()):
        assert options is not None
        config: type[Method.Config] = methods.find(options.method.name).Config
        found |= {field.name: preset for field in option_fields(TrainOptions, {"method": config})}
    return found | {f.name: "cyclegan" for f in option_fields(
        TrainOptions, {"method": methods.find("cyclegan").Config})}  # fmt: skip


OPTIONS = known_options()


def assert_option(word: str) -> None:
    name = word.partition("=")[0].removesuffix(".")
    group = name.rpartition(".")[0]
    assert name in OPTIONS or name in WORDS or group in OWN, f"no option {name}"


def values(chunk: str) -> Iterator[list[str]]:
    """Yield the words of name=value text; a|b stands for two."""
    words = chunk.split()
    most = max(word.count("|") for word in words) + 1
    for number in range(most):
        yield [
            f"{word.partition('=')[0]}={(word.partition('=')[2].split('|') * most)[number]}"
            for word in words
        ]


@pages
def test_every_command_is_understood(page):
    for command in commands(page):
        try:
            parsed(command.words)
        except (AssertionError, UserError) as error:
            raise AssertionError(f"{command}: {error}") from None


@pages
def test_every_option_exists_and_takes_the_value_it_is_shown_with(page):
    for line, text in inline(page):
        chunk = text.replace("\\|", "|").replace('"', "")
        settings = all(re.match(r"[a-z][a-zA-Z_.]*=", word) for word in chunk.split())
        named = re.fullmatch(r"(method|data|runtime|log|style)\.[a-z_.]+[a-z]", chunk)
        where = f"{page.name}:{line}: {text}"
        if settings and "wandb:" not in text:
            for words in values(chunk):
                for word in words:
                    assert_option(word)
                presets = {OPTIONS.get(word.partition("=")[0], "") for word in words}
                if len(presets) == 1 and (preset := presets.pop()):
                    given = [word for word in filled(words) if not word.endswith(("=", "=..."))]
                    assert train_options([preset, *given]), where
        elif named and not chunk.endswith((".json", ".py")):
            groups = {name.rpartition(".")[0] for name in OPTIONS}
            modules = importlib.util.find_spec(chunk) if chunk.startswith("data.") else None
            assert chunk in OPTIONS or chunk in groups or modules, f"{where}: no such option"


@pages
def test_every_link_and_file_exists(page):
    for target in links(page):
        path, _, place = target.partition("#")
        aim = (page.parent / path).resolve() if path else page
        assert aim.exists(), f"{page.name}: {target}"
        assert not place or place in anchors(aim), f"{page.name}: {target}"
    folders = {path.name for path in ROOT.iterdir() if path.is_dir()} - {"runs", "scenes"}
    for line, text in inline(page):
        if re.fullmatch(r"[a-z_]+(/[\w-]+)+\.(py|md|yaml|html|json|txt)", text):
            known = text.partition("/")[0] not in folders or text in TO_BE_MADE
            assert known or (ROOT / text).exists(), f"{page.name}:{line}: no file {text}"


@pytest.fixture(scope="module")
def photos_and_paintings(tmp_path_factory) -> Path:
    """A folder to work in, with pictures where the pages have them, and three short runs."""
    place = tmp_path_factory.mktemp("desk")
    sets = {"pictures/train/photo": 12, "pictures/train/monet": 11, "pictures/test/photo": 2,
            "pictures/test/monet": 2, "DATA/trainA": 4, "DATA/trainB": 3, "DATA/testA": 2,
            "DATA/testB": 2, "photos": 12, "monet": 10, "more_photos": 2, "more_monet": 2,
            "holiday": 2, "INPUT": 2}  # fmt: skip
    for number, (folder, count) in enumerate(sets.items()):
        write_images(place / folder, count, first=20 * number)
    picture(place / "INPUT/260.png").save(place / "holiday/beach.jpg")
    root = [f"data.root={place / 'pictures'}", "data.domains=photo,monet"]
    lines = [("RUN", [*root, "seed=0"]), ("runs/other", [*root, "seed=1"]),
             ("runs/x", [f"data.root={place / 'DATA'}"])]  # fmt: skip
    for run, words in lines:
        assert call(train, "cyclegan", *words, *SMALL, f"run={place / run}") == (0, "")
        if run != "runs/x":
            assert call(test, place / run, "checks=false") == (0, "")
    return place


def only_parsed(command: Command) -> bool:
    return not command.whole or any(part in " ".join(command.words) for part in ONLY_PARSED)


def run(command: Command, number: int, slow: bool = False) -> None:
    """Run a command in this process, with toy networks for a few steps."""
    words = filled(command.words)[1:]
    places = [place for place, word in enumerate(words) if word == "RUN"]
    for place in places[1:]:
        words[place] = "runs/other"
    words = [f"out_{number}" if word == "OUTPUT" else word for word in words]
    words = [
        part for word in words for part in (sorted(glob.glob(word)) if "*" in word else [word])
    ]
    if words[0] == "-m":
        found = importlib.util.find_spec(words[1])
        package = found is not None and found.submodule_search_locations is not None
        main = importlib.import_module(f"{words[1]}.__main__" if package else words[1])
        words = words[2:]
    elif words[0].startswith("runs/"):
        subprocess.run([PYTHON, *words], check=True, capture_output=True, timeout=120)
        return
    else:
        main = importlib.import_module(words[0].removesuffix(".py"))
        words = [word if slow or "formats=" not in word else QUICK for word in words[1:]]
        if main is train and not {"--list", "--help"} & {*words}:
            grown = (
                ["data.progressive_crops=[12,16]"]
                if "data.progressive_crops" in " ".join(words)
                else []
            )
            words += [*SMALL, *grown]
    assert call(main, *words) == (0, ""), str(command)


def to_run(page: Path, slow: bool = False) -> list[Command]:
    """Return the commands of a page that are run here, in order; with the slow ones where asked."""
    found = [command for command in commands(page) if not only_parsed(command)]
    return [c for c in found if slow or not any(part in " ".join(c.words) for part in SLOW)]


@pytest.fixture
def desk(photos_and_paintings, tmp_path, monkeypatch) -> Path:
    """The reader's folder, as each page finds it, and home."""
    place = shutil.copytree(photos_and_paintings, tmp_path / "desk")
    monkeypatch.chdir(place)
    monkeypatch.setenv("HOME", str(place))
    return place


RUN = [page for page in PAGES if to_run(page)]
LONG = [p for p in RUN if any(part in str(c) for part in (*SLOW, "formats=") for c in commands(p))]


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_the_commands_of_a_page_work_one_after_the_other(page, desk):
    for number, command in enumerate(to_run(page)):
        run(command, number)


@pytest.mark.slow
@pytest.mark.parametrize("page", LONG, ids=lambda page: page.stem)
def test_the_commands_of_a_page_work_with_those_that_take_long(page, desk):
    for number, command in enumerate(to_run(page, slow=True)):
        run(command, number, slow=True)


def test_the_pages_that_promise_commands_have_them():
    counts = {page.stem: len(to_run(page)) for page in RUN}
    assert counts["quick_start"] >= 6 and counts["README"] >= 3 and counts["reproducing"] >= 6


def test_every_reason_not_to_run_a_command_is_needed():
    texts = [
        " ".join(command.words) for page in PAGES for command in commands(page) if command.whole
    ]
    assert not [part for part in (*ONLY_PARSED, *SLOW) if not any(part in text for text in texts)]


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_every_figure_of_a_report_is_explained():
    assert not [name for name in FIGURES if f"| `{name}`" not in text_of("docs/metrics.md")]


def test_every_failure_mode_is_in_the_tips_under_its_own_words():
    tips = text_of("docs/training_tips.md")
    assert not [symptom.title for symptom in FAILURE_MODES if f"`{symptom.title}`" not in tips]
    said = text_of("training/failure_monitor.py").replace('"\n                    "', "")
    for words in ("the discriminator is never in doubt, and the generator learns nothing from it",
                  "has been near 0 up to step"):  # fmt: skip
        assert words in said and words in tips


def test_the_table_of_methods_has_every_method_and_no_other():
    rows = re.findall(r"^\| `(\w+)` \|.*?\| (`.*?) \|", text_of("README.md"), re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(methods.names())
    assert {preset for _, cell in rows for preset in re.findall(r"`(\w+)`", cell)} <= {
        *preset_names()
    }


def test_the_example_method_and_its_test_work(tmp_path):
    """The page's code passes the contract as a file of models/methods would, in a process of its own."""
    method, test = re.findall(r"```python\n(.*?)```", text_of("docs/adding_a_method.md"), re.DOTALL)
    (tmp_path / "plain.py").write_text(method)
    test_of_contract = text_of("tests/models/test_contract.py").replace(
        "params=methods.names()", 'params=["plain"]'
    )
    (tmp_path / "test_contract_of_plain.py").write_text(test_of_contract)
    (tmp_path / "test_plain.py").write_text(test)
    (tmp_path / "conftest.py").write_text(
        f"from models import methods\nmethods.__path__.append({str(tmp_path)!r})\n"
    )
    command = [PYTHON, "-m", "pytest", "-p", "no:cacheprovider", f"--rootdir={ROOT}"]
    command += ["-c", str(ROOT / "pyproject.toml"), str(tmp_path)]
    result = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-2000:]
    assert result.stdout.count(".") >= 9, result.stdout[-2000:]


def test_a_command_option_file_or_module_that_does_not_exist_is_noticed():
    # Each is a documented form with one letter wrong.
    for wrong in ("python train.py cyclegan data.rot=DATA", "python train.py cyclegann",
                  "python test.py RUN checkpoint=bst", "python export.py RUN formats=onxx",
                  "python translate.py RUN a b tile=7", "python -m data.docter DATA",
                  "python -m comparison.seeds RUN markdwn=true", "make setupp",
                  "wandb sweep sweeps/none.yaml", "python -m data.download zebra2horse",
                  "python benchmarks/known_truth.py cyclegan --sed 0",
                  "torchrun --nproc-per-node=2 train.py cyclegan batchsize=2"):  # fmt: skip
        with pytest.raises((AssertionError, UserError)):
            parsed(wrong.split())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_line_of_prose_is_over_120_characters(page):
    lines = enumerate(page.read_text().splitlines(), 1)
    assert [number for number, line in lines if len(line) > 120 and line[0] != "|"] == []
