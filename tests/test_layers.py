"""The architecture of docs/architecture.md, enforced: imports point down, and doors are single."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Each may import what stands in a row above its own, and itself.
LAYERS = [["errors"], ["paths"], ["models", "data", "metrics"], ["engine"], ["options"], ["inference"],
          ["train", "test", "translate", "export"], ["benchmarks", "reliability"]]  # fmt: skip
DOORS = {
    "omegaconf": ["options/load.py", "options/presets.py"],
    "yaml": [],
    "wandb": ["engine/logger.py"],
    "albumentations": ["data/augment.py"],
    "torch.distributed": ["engine/processes.py"],
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
    """Return every module that a source imports, wherever in it the import stands."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def faults(path: Path, source: str) -> list[str]:
    """Return what a file at `path` imports against the rules."""
    package = path.parts[0].removesuffix(".py")
    level = next(i for i, layer in enumerate(LAYERS) if package in layer)
    above = {name for i, layer in enumerate(LAYERS) for name in layer if i >= level} - {package}
    wrong = []
    for module in imports(source):
        if module.split(".")[0] in above and package != "benchmarks":
            wrong.append(f"{path} imports {module}, which does not stand below it")
        for library, doors in DOORS.items():
            if (
                module == library or module.startswith(library + ".")
            ) and path.as_posix() not in doors:
                wrong.append(
                    f"{path} imports {library}; its door is {' '.join(doors) or 'nowhere'}"
                )
        for folder, barred in FORBIDDEN.items():
            if path.as_posix().startswith(folder) and module.startswith(barred):
                wrong.append(f"{path} imports {module}")
    return wrong


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_imports_point_down_and_go_through_the_doors(path):
    assert faults(path, (ROOT / path).read_text()) == []


def test_one_place_turns_words_into_paths():
    assert sorted(str(p) for p in SOURCES if "expanduser" in (ROOT / p).read_text()) == [
        "inference/templates/run_onnx.py", "paths.py"]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("models/method.py", "from engine.trainer import Trainer"),
        ("models/method.py", "import data.loading"),
        ("engine/trainer.py", "from models import methods"),
        ("engine/trainer.py", "def f():\n    from options.load import to_yaml"),
        ("options/config.py", "import inference.run"),
        ("data/folders.py", "import albumentations as A"),
        ("train.py", "import wandb"),
        ("models/networks/initialise.py", "from models.losses.adversarial import OBJECTIVES"),
    ],
)
def test_an_import_that_points_up_or_avoids_the_door_is_found(path, line):
    assert faults(Path(path), line) != []
