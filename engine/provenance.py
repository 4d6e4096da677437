"""Where a run's figures come from: the code and how it differs from its commit, the packages, the machine."""

import contextlib
import hashlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SOURCES = (
    "*.py",
    "common",
    "comparison",
    "data",
    "deployment",
    "engine",
    "evaluation",
    "inference",
    "metrics",
    "models",
    "options",
    "training",
)
KINDS = (".py", ".yaml", ".html")
MAX_DIFF_BYTES = 5 * 2**20  # bytes of code.diff; more is no change of code
PACKAGES = (
    "torch",
    "torchvision",
    "albumentations",
    "opencv-python-headless",
    "numpy",
    "pillow",
    "omegaconf",
    "wandb",
)


def provenance() -> dict[str, Any]:
    """Return the git commit (with "+changes" where files differ from it), versions and machine.

    `code` is a name for what the sources say: the same one is the same program, whatever git knows of it.
    """
    return {
        "git_commit": git_commit(ROOT),
        "code": code_hash(ROOT),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count() or 1,
    }


def git_commit(folder: Path) -> str:
    """Return the commit that is checked out in `folder`, or "unknown" where it is no checkout of its own."""
    try:
        if Path(_git(folder, "rev-parse", "--show-toplevel").decode().strip()) != folder:
            return "unknown"  # unpacked inside somebody else's repository
        commit = _git(folder, "rev-parse", "HEAD").decode().strip()
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
        return commit + ("+changes" if changed.strip() or _new_sources(folder) else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def code_changes(folder: Path = ROOT) -> bytes:
    """Return what `git apply` needs to make this code of its commit, new sources included; or nothing."""
    if not git_commit(folder).endswith("+changes"):
        return b""
    try:
        parts = [_git(folder, "diff", "HEAD", "--binary", "--no-ext-diff", "--no-textconv")]
        for name in _new_sources(folder):
            new = ("diff", "--no-index", "--binary", "--no-ext-diff", "--", os.devnull, name)
            parts.append(_git(folder, *new, ends=(0, 1)))
    except (OSError, subprocess.SubprocessError):
        return b""
    whole = b"".join(parts)
    return whole if len(whole) <= MAX_DIFF_BYTES else b""


def code_hash(folder: Path) -> str:
    """Return 16 hexadecimal digits that stand for the sources in `folder`, tests and texts aside."""
    digest = hashlib.sha256()
    for pattern in SOURCES:
        for found in sorted(folder.glob(pattern)):
            files = sorted(found.rglob("*")) if found.is_dir() else [found]
            for file in files:
                if file.suffix in KINDS and file.is_file():
                    name = os.fsencode(file.relative_to(folder).as_posix())
                    digest.update(name + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def processor() -> str:
    """Return what the processor calls itself."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _new_sources(folder: Path) -> list[str]:
    """Return the sources that git does not know yet: a new method, most often."""
    patterns = [f"{part}/**" for part in SOURCES if "*" not in part] + ["*.py"]
    words = ("ls-files", "-z", "--others", "--exclude-standard", "--")
    found = _git(folder, *words, *(f":(glob){pattern}" for pattern in patterns)).split(b"\0")
    return [os.fsdecode(name) for name in found if os.fsdecode(name).endswith(KINDS)]


def _git(folder: Path, *words: str, ends: tuple[int, ...] = (0,)) -> bytes:
    answer = subprocess.run(
        ["git", "-C", str(folder), *words], capture_output=True, timeout=10, check=False
    )
    if answer.returncode not in ends:
        raise subprocess.CalledProcessError(answer.returncode, words[0])
    return answer.stdout


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
