"""No source of the project runs code from a file, follows links, or trusts the size of an image."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(
    path.relative_to(ROOT)
    for path in ROOT.rglob("*.py")
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)
FORBIDDEN = {
    "pickle.load", "pickle.loads", "pickle.Unpickler", "dill.load", "joblib.load", "marshal.loads",
    "shelve.open",
    "yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system", "os.popen", "torch.export.load",
    "torch.jit.load", "eval", "exec",
}  # fmt: skip
# Call -> the keywords that make it safe.
REQUIRED = {
    "torch.load": {"weights_only": True},
    "load_state_dict_from_url": {"weights_only": True, "check_hash": True},
    "np.load": {"allow_pickle": False},
    "numpy.load": {"allow_pickle": False},
    "extractall": {"filter": "data"},
}
NEVER_TRUE = {"shell", "followlinks", "allow_pickle"}


def dotted(node: ast.expr) -> str:
    """Return a.b.c of an expression; a part that is not a name is a question mark."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def imported_names(tree: ast.AST) -> dict[str, str]:
    """Return imported name -> full name: x -> pickle.loads for `from pickle import loads as x`."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {
                alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names
            }
        elif isinstance(node, ast.Import):
            names |= {alias.asname: alias.name for alias in node.names if alias.asname}
    return names


def faults(source: str) -> list[str]:
    """Return the unsafe calls and settings of a source, each with its line number."""
    tree = ast.parse(source)
    names = imported_names(tree)
    problems = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            head, dot, rest = dotted(node.func).partition(".")
            called = names.get(head, head) + dot + rest
            problems += [f"{node.lineno}: {fault}" for fault in call_faults(called, node)]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for name in (dotted(target).rpartition(".")[2] for target in targets):
                value = node.value.value if isinstance(node.value, ast.Constant) else ...
                if name == "LOAD_TRUNCATED_IMAGES" or (
                    name == "MAX_IMAGE_PIXELS" and value is None
                ):
                    problems.append(f"{node.lineno}: sets {name}")
    return problems


def call_faults(called: str, node: ast.Call) -> list[str]:
    """Return the unsafe properties of one call."""
    keywords = {
        word.arg: word.value.value if isinstance(word.value, ast.Constant) else ...
        for word in node.keywords
    }
    problems = [f"calls {called}"] if called.removeprefix("builtins.") in FORBIDDEN else []
    for name, wanted in REQUIRED.items():
        if called == name or ("." not in name and called.endswith(f".{name}")):
            problems += [
                f"{called} without {key}" for key in wanted if keywords.get(key) != wanted[key]
            ]
    problems += [
        f"{called} with {key}" for key in NEVER_TRUE & keywords.keys() if keywords[key] is True
    ]
    if called.endswith("setattr") and any(
        isinstance(word, ast.Constant) and word.value == "LOAD_TRUNCATED_IMAGES"
        for word in node.args
    ):
        problems.append("sets LOAD_TRUNCATED_IMAGES")
    return problems


@pytest.mark.parametrize("path", [p for p in SOURCES if p.parts[0] != "tests"], ids=str)
def test_no_source_runs_a_files_code_or_trusts_its_size(path):
    assert faults((ROOT / path).read_text()) == []


def test_the_walk_sees_the_whole_project(record_property):
    walked = {path.as_posix() for path in SOURCES}
    assert {
        "train.py",
        "engine/checkpoint.py",
        "engine/cyclegan_repo_checkpoint.py",
        "reliability/fuzz.py",
    } <= walked
    record_property("figure", f"0 faults in {len(walked)} sources")


UNSAFE = [
    "import pickle\npickle.load(f)", "from pickle import loads as read\nread(b'')",
    "import pickle as p\np.Unpickler(f)",
    "torch.load(f)", "torch.load(f, weights_only=False)", "torch.load(f, weights_only=flag)",
    "from torch import load\nload(f)", "import yaml\nyaml.load(f)", "yaml.unsafe_load(f)", "eval('1')",
    "exec('x')",
    "import builtins\nbuiltins.eval('1')", "os.system('ls')", "from os import system\nsystem('ls')",
    "os.popen('ls')",
    "subprocess.run('ls', shell=True)", "archive.extractall(out)", "archive.extractall(out, filter='tar')",
    "ImageFile.LOAD_TRUNCATED_IMAGES = True", "setattr(ImageFile, 'LOAD_TRUNCATED_IMAGES', True)",
    "Image.MAX_IMAGE_PIXELS = None", "os.walk(folder, followlinks=True)", "np.load(f)",
    "np.load(f, allow_pickle=True)",
    "load_state_dict_from_url(url)", "torch.hub.load_state_dict_from_url(url, weights_only=True)",
    "hub.load_state_dict_from_url(url, check_hash=True)", "torch.export.load(f)", "torch.jit.load(f)",
]  # fmt: skip


@pytest.mark.parametrize("source", UNSAFE)
def test_an_unsafe_line_is_found(source):
    assert faults(source) != []


@pytest.mark.parametrize("source", [
    "torch.load(f, map_location='cpu', weights_only=True)", "archive.extractall(out, filter='data')",
    "model.eval()",
    "subprocess.run(['ls'])", "np.load(f, allow_pickle=False)", "Image.MAX_IMAGE_PIXELS = 10",
])  # fmt: skip
def test_a_safe_line_is_passed_over(source):
    assert faults(source) == []
