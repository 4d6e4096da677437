"""Suggest the known words that are nearest to a misspelled one."""

import difflib
import re
from collections.abc import Iterable

# Options of pytorch-CycleGAN-and-pix2pix and of other trainers -> what to write here.
ELSEWHERE = {
    "epochs": "duration='200 epochs'", "n_epochs": "duration='200 epochs'",
    "num_epochs": "duration='200 epochs'", "iterations": "duration='100000 steps'",
    "n_epochs_decay": "decay_after=50%", "lr": "learning_rate", "beta1": "adam_betas=[0.5,0.999]",
    "dataroot": "data.root", "name": "run=FOLDER",
    "lambda_A": "method.cycle_weight", "lambda_B": "method.cycle_weight",
    "lambda_identity": "method.identity_weight", "netG": "method.generator.kind",
    "ngf": "method.generator.channels", "ndf": "method.discriminator.channels",
    "preprocess": "data.fit", "no_flip": "data.flip=false", "num_threads": "data.workers",
    "num_workers": "data.workers", "gpu_ids": "runtime.device", "device": "runtime.device",
}  # fmt: skip


def suggestion(name: str, known: Iterable[str], value: str = "") -> str:
    """Return the hint for an unknown option: similar options, or how to write a list; else "".

    `value` is what the user gave it, which the hint repeats.
    """
    if re.search(r"\[\d+\]|\.\d+$", name):
        option = re.split(r"[\[.]\d+", name)[0]
        return f"; give the whole list: {option}=[...]"
    if name in ELSEWHERE:
        written = ELSEWHERE[name]
        if value.isdecimal():  # of epochs=5
            written = re.sub(r"\d+(?= (epochs|steps))", value, written)
        return f"; write {written}"
    leaf = name.rpartition(".")[2]
    same_leaf = [option for option in known if option.rpartition(".")[2] == leaf]
    return (
        f"; did you mean {' or '.join(same_leaf[:3])}?" if same_leaf else did_you_mean(name, known)
    )


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean X?" if a known word is similar, else ""."""
    names = list(known)
    leaves = {name.rpartition(".")[2]: name for name in names}
    leaf = word.rpartition(".")[2]
    close = [name for name in names if name.lower() == word.lower()]
    close = (
        close
        or difflib.get_close_matches(word, names, 1, 0.75)
        or [leaves[near] for near in difflib.get_close_matches(leaf, leaves, 2, 0.7)]
    )
    return f"; did you mean {' or '.join(close)}?" if close else ""
