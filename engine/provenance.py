"""Describe what results come from: the code and its uncommitted changes, packages, machine."""

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
SUFFIXES = (".py", ".yaml", ".html")
MAX_DIFF_BYTES = 5 * 2**20  # of code.diff; a larger difference is left out
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

    `code` is a hash of the sources: equal hashes mean the same program, committed or not.
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
    """Return the commit checked out in `folder`, or "unknown" where that is not a git checkout."""
    try:
        if Path(_git(folder, "rev-parse", "--show-toplevel").decode().strip()) != folder:
            return "unknown"  # unpacked inside another repository
        commit = _git(folder, "rev-parse", "HEAD").decode().strip()
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
        return commit + ("+changes" if changed.strip() or _new_sources(folder) else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def code_changes(folder: Path = ROOT) -> bytes:
    """Return the difference of the code to its commit, new sources included, for `git apply`."""
    if not git_commit(folder).endswith("+changes"):
        return b""
    try:
        parts = [_git(folder, "diff", "HEAD", "--binary", "--no-ext-diff", "--no-textconv")]
        for name in _new_sources(folder):
            new = ("diff", "--no-index", "--binary", "--no-ext-diff", "--", os.devnull, name)
            parts.append(_git(folder, *new, exit_codes=(0, 1)))
    except (OSError, subprocess.SubprocessError):
        return b""
    difference = b"".join(parts)
    return difference if len(difference) <= MAX_DIFF_BYTES else b""


def code_hash(folder: Path) -> str:
    """Return a hash of the sources in `folder` without tests and texts, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for pattern in SOURCES:
        for path in sorted(folder.glob(pattern)):
            files = sorted(path.rglob("*")) if path.is_dir() else [path]
            for file in files:
                if file.suffix in SUFFIXES and file.is_file():
                    name = os.fsencode(file.relative_to(folder).as_posix())
                    digest.update(name + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def processor() -> str:
    """Return the model name of the processor."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _new_sources(folder: Path) -> list[str]:
    """Return the sources that git does not track yet, such as a new method."""
    patterns = [f"{part}/**" for part in SOURCES if "*" not in part] + ["*.py"]
    command = ("ls-files", "-z", "--others", "--exclude-standard", "--")
    names = _git(folder, *command, *(f":(glob){pattern}" for pattern in patterns)).split(b"\0")
    return [os.fsdecode(name) for name in names if os.fsdecode(name).endswith(SUFFIXES)]


def _git(folder: Path, *command: str, exit_codes: tuple[int, ...] = (0,)) -> bytes:
    done = subprocess.run(
        ["git", "-C", str(folder), *command], capture_output=True, timeout=10, check=False
    )
    if done.returncode not in exit_codes:
        raise subprocess.CalledProcessError(done.returncode, command[0])
    return done.stdout


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
