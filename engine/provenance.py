"""Where a run's figures come from: the code's commit, the packages, the machine."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

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
    """Return the git commit (with "+changes" where files differ from it), versions and machine."""
    return {
        "git_commit": _git_commit(Path(__file__).resolve().parents[1]),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
    }


def _git_commit(folder: Path) -> str:
    def git(*words: str) -> str:
        answer = subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        return answer.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
