"""Losses are reported by the domains' names; a continued run keeps its names; comparisons match."""

import json

import pytest

import train
from comparison.reproducibility import first_differences
from comparison.training_log import read_training_log
from engine.loss_names import role_name, shown_name, uses_role_names
from tests.conftest import TINY, call

TERMS = ["adversarial", "cycle", "identity", "discriminator"]


@pytest.mark.parametrize(
    ("domains", "role", "shown"),
    [
        (["photo", "monet"], "cycle_a", "cycle_photo"),
        (["photo", "monet"], "cycle_kl_b", "cycle_kl_monet"),
        (["photo", "photo_b"], "nce_b", "nce_photo_b"),
        (["photo", "old_photo"], "cycle_b", "cycle_old_photo"),
        (["a", "old_a"], "cycle_b", "cycle_old_a"),
        (["a", "monet"], "cycle_a", "cycle_a"),
        (["photo", "monet"], "identity_turned", "identity_turned"),  # gcgan's rotated domain
        (["photo", "monet"], "gradients/generators", "gradients/generators"),
        (["b", "a"], "cycle_a", "cycle_a"),  # cycle_b would be a name of either
        (["one", "two", "three"], "cycle_a", "cycle_a"),
    ],
)
def test_a_role_is_replaced_by_its_domain_and_back(domains, role, shown):
    assert shown_name(role, domains) == shown
    assert role_name(shown, domains) == role
    assert uses_role_names([role], domains) == (role != shown)


def words(photos, run, *more):
    return ["cyclegan", f"run={run}", f"data.train.photo={photos / 'trainA'}",
            f"data.train.monet={photos / 'trainB'}", "data.domains=photo,monet", "log.every=1",
            "duration=4 steps", "checkpoint_every=2", "log.previews_every=0", *TINY,
            *more]  # fmt: skip


def rows_of(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_reports_its_domains_and_an_older_one_keeps_its_names(photos, tmp_path, capsys):
    new, old = tmp_path / "new", tmp_path / "old"
    assert call(train, *words(photos, new))[0] == 0
    out = capsys.readouterr().out
    by_domain = {f"{term}_{domain}" for term in TERMS for domain in ("photo", "monet")}
    assert all(by_domain <= row.keys() for row in rows_of(new)) and "cycle_photo " in out
    assert not any(name.endswith(("_a", "_b")) for row in rows_of(new) for name in row)

    assert call(train, *words(photos, old, "duration=2 steps", "decay_after=100%"))[0] == 0
    renamed = [
        {role_name(name, ["photo", "monet"]): x for name, x in row.items()} for row in rows_of(old)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in renamed)
    (old / "metrics.jsonl").write_text(lines)  # as an earlier version wrote it
    assert call(train, *words(photos, old, "decay_after=100%", "duration=4 steps"))[0] == 0
    by_role = {f"{term}_{role}" for term in TERMS for role in "ab"}
    assert len(rows_of(old)) == 4 and all(by_role <= row.keys() for row in rows_of(old))
    assert not any(name.endswith("_photo") for row in rows_of(old) for name in row)


def test_runs_with_other_names_are_compared_by_role(photos, tmp_path):
    named, plain = tmp_path / "named", tmp_path / "plain"
    assert call(train, *words(photos, named))[0] == 0
    default = ["cyclegan", f"run={plain}", f"data.root={photos}", "log.every=1",
               "duration=4 steps", "checkpoint_every=2", "log.previews_every=0", *TINY]  # fmt: skip
    assert call(train, *default)[0] == 0
    found = first_differences(read_training_log(named), read_training_log(plain))
    assert {"cycle_a", "cycle_b", "discriminator_a"} <= {value.name for value in found}
