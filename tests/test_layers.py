"""Enforce docs/architecture.md: imports point to lower layers, and libraries have fixed importers."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# A package may import itself and the packages in earlier rows.
LAYERS = [
    ["common"], ["models", "data", "metrics"], ["engine"], ["options"], ["training", "inference"],
    ["evaluation", "comparison", "deployment"], ["train", "test", "translate", "export"],
    ["benchmarks", "reliability"],
]  # fmt: skip
DOORS = {
    "omegaconf": ["options/load.py"],
    "yaml": ["options/presets.py"],
    "wandb": ["engine/tracking/wandb_run.py"],
    "albumentations": ["data/augment.py"],
    "torch.distributed": ["engine/distributed/context.py"],
}
FORBIDDEN = {
    "engine": "models.methods",
    "models/networks": "models.losses",
    "models/losses": "models.networks",
}
SOURCES = sorted(
    path.relative_to(ROOT)
    for layer in LAYERS
    for name in layer
    for path in (
        [ROOT / f"{name}.py"] if (ROOT / f"{name}.py").exists() else (ROOT / name).rglob("*.py")
    )
)


def imports(source: str) -> list[str]:
    """Return every module that a source imports, inside functions too."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def faults(path: Path, source: str) -> list[str]:
    """Return one text per import of a file at `path` that breaks the rules."""
    package = path.parts[0].removesuffix(".py")
    level = next(i for i, layer in enumerate(LAYERS) if package in layer)
    above = {name for i, layer in enumerate(LAYERS) for name in layer if i >= level} - {package}
    wrong = []
    for module in imports(source):
        if module.split(".")[0] in above and package != "benchmarks":
            wrong.append(f"{path} imports {module}, which is not below it")
        for library, doors in DOORS.items():
            if (
                module == library or module.startswith(library + ".")
            ) and path.as_posix() not in doors:
                wrong.append(f"{path} imports {library}; only {' '.join(doors) or 'no file'} may")
        for folder, barred in FORBIDDEN.items():
            if path.as_posix().startswith(folder) and module.startswith(barred):
                wrong.append(f"{path} imports {module}")
    return wrong


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_imports_point_down_and_go_through_the_doors(path):
    assert faults(path, (ROOT / path).read_text()) == []


def test_one_place_turns_words_into_paths():
    assert sorted(str(p) for p in SOURCES if "expanduser" in (ROOT / p).read_text()) == [
        "common/user_paths.py", "deployment/templates/run_onnx.py"]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("models/method.py", "from engine.train_step import TrainStep"),
        ("models/method.py", "import data.samples"),
        ("engine/train_step.py", "from models import methods"),
        ("engine/train_step.py", "def f():\n    from options.load import to_yaml"),
        ("options/config.py", "import inference.open_run"),
        ("data/folders.py", "import albumentations as A"),
        ("train.py", "import wandb"),
        (
            "models/networks/layers/initialization.py",
            "from models.losses.adversarial import GAN_MODES",
        ),
    ],
)
def test_an_import_that_points_up_or_avoids_the_door_is_found(path, line):
    assert faults(Path(path), line) != []


MAX_FILES = 15  # per folder; models/methods has one file per paper and may have more
MAX_COMMAND_LINES = 60
COMMANDS = ("train.py", "test.py", "translate.py", "export.py")


def module_of(path: Path) -> str:
    """Return the name under which a source is imported."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def import_graph() -> dict[str, set[str]]:
    """Return module -> the project's modules that it imports, inside functions too."""
    modules = {module_of(path): path for path in SOURCES}
    return {
        module: {name for name in imports((ROOT / path).read_text()) if name in modules}
        for module, path in modules.items()
    }


def circles(graph: dict[str, set[str]]) -> list[str]:
    """Return the modules that import themselves through other modules."""

    def reachable(start: str) -> set[str]:
        found: set[str] = set()
        pending = list(graph[start])
        while pending:
            if (name := pending.pop()) not in found:
                found.add(name)
                pending += graph[name]
        return found

    return sorted(module for module in graph if module in reachable(module))


def test_no_module_imports_itself_through_others():
    assert circles(import_graph()) == []


def test_a_circle_is_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c"]


def test_no_folder_holds_more_files_than_a_reader_can_take_in():
    folders = {path.parent for path in SOURCES} - {Path(), Path("models/methods")}
    counts = {
        str(folder): sum(path.parent == folder and path.name != "__init__.py" for path in SOURCES)
        for folder in folders
    }
    assert {folder: count for folder, count in counts.items() if count > MAX_FILES} == {}


def test_the_commands_only_parse_options_and_call_one_function():
    lengths = {name: len((ROOT / name).read_text().splitlines()) for name in COMMANDS}
    assert {name: count for name, count in lengths.items() if count >= MAX_COMMAND_LINES} == {}
