"""Suggest the known words that are nearest to a misspelled one."""

import difflib
import re
from collections.abc import Iterable


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the hint for an unknown option: similar options, or how to write a list; else ""."""
    if re.search(r"\[\d+\]|\.\d+$", name):
        option = re.split(r"[\[.]\d+", name)[0]
        return f"; give the whole list: {option}=[...]"
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
    close = difflib.get_close_matches(word, names, 1, 0.75) or [
        leaves[near] for near in difflib.get_close_matches(leaf, leaves, 2, 0.7)
    ]
    return f"; did you mean {' or '.join(close)}?" if close else ""
