"""Metrics of several seeds are averaged only if the runs were trained and evaluated alike."""

import json

import pytest

import test
import train
from comparison import seeds
from options.load import to_yaml, train_options
from tests.conftest import TINY, call, refusal

PROTOCOL = {
    "step": 5, "weights": "raw", "seed": 0, "size": 64, "fit": "stretch", "device": "cpu",
    "features": "none",
}  # fmt: skip


def run(folder, seed, swd, protocol=None, options=()):
    path = folder / f"seed{seed}"
    (path / "test").mkdir(parents=True)
    metrics = {"a_to_b": {"images": 4, "swd": swd, "truth_psnr": 20 + swd, "fid": None}}
    content = {"protocol": PROTOCOL | {"seed": seed} | (protocol or {}), "directions": metrics}
    stamp = {"images": {"a": 4, "b": 3}, "fingerprint": "0123456789abcdef"}
    for name in stamp.keys() & content["protocol"].keys():
        stamp[name] = content["protocol"].pop(name)
    content["protocols"] = {"a_to_b": stamp}
    (path / "test/metrics.json").write_text(json.dumps(content))
    made = train_options(["demo", f"seed={seed}", f"run={path}", *options])
    assert made is not None
    (path / "options.yaml").write_text(to_yaml(made))
    return str(path)


def test_mean_and_deviation_are_those_of_a_sample(tmp_path, capsys):
    seeds.main([run(tmp_path, seed, swd) for seed, swd in ((0, 1.0), (1, 2.0), (2, 6.0))])
    out = capsys.readouterr().out
    # By hand: the mean of 1, 2, 6 is 3; the squares 4 + 1 + 9 = 14 over n - 1 = 2; root 2.6458.
    (line,) = [line for line in out.splitlines() if "SWD" in line]
    assert line.split() == ["a_to_b", "SWD", "3.0", "±", "2.6", "1.0", "6.0", "3"]
    assert "23.00 ± 2.65 dB" in out and "FID" not in out
    assert "runs: 3; held-out images: 4 a, 3 b (0123456789abcdef); size: 64" in out


def test_a_table_for_markdown(tmp_path, capsys):
    seeds.main([run(tmp_path, 0, 1.0), run(tmp_path, 1, 2.0), "markdown=true"])
    head, rule, row, *_ = capsys.readouterr().out.splitlines()
    assert head == "|   | mean ± sd | from | to | runs |"
    assert rule == "|---|---:|---:|---:|---:|"
    assert row == "| a_to_b PSNR to truth | 21.50 ± 0.71 dB | 21.00 dB | 22.00 dB | 2 |"


def test_one_run_has_no_deviation(tmp_path, capsys):
    seeds.main([run(tmp_path, 0, 1.0)])
    out = capsys.readouterr().out
    assert "±" not in out and "one run" in out


@pytest.mark.parametrize(
    ("change", "difference"),
    [({"size": 128}, "size is 64 and 128"), ({"step": 6}, "step is 5 and 6"),
     ({"weights": "ema"}, "weights is raw and ema"),
     ({"fingerprint": "f" * 16}, "fingerprint is 0123456789abcdef and ffff")],
)  # fmt: skip
def test_runs_that_were_evaluated_differently_are_not_averaged(tmp_path, change, difference):
    runs = [run(tmp_path, 0, 1.0), run(tmp_path, 1, 1.0, change)]
    error = refusal(seeds, *runs)
    assert error.path == runs[1] and difference in str(error) and "\n" not in str(error)


def test_runs_of_other_options_are_not_averaged(tmp_path):
    runs = [run(tmp_path, 0, 1.0), run(tmp_path, 1, 1.0, options=["method.cycle_weight=5"])]
    error = refusal(seeds, *runs)
    assert (error.option, error.path) == ("method.cycle_weight", runs[1])
    assert "method.cycle_weight 10.0 -> 5.0" in str(error)


def test_the_same_seed_does_not_count_twice(tmp_path):
    one, other = run(tmp_path / "x", 0, 1.0), run(tmp_path / "y", 0, 1.0)
    assert refusal(seeds, one, other).option == "seed"


def test_mistakes_name_the_option_or_the_path(tmp_path):
    assert "usage" in str(refusal(seeds))
    assert refusal(seeds, "markdown=yes", "x").option == "markdown"
    assert refusal(seeds, tmp_path).path == str(tmp_path)


def test_trained_and_evaluated_seeds_are_averaged(photos, tmp_path, capsys):
    run = tmp_path / "x"
    assert call(train, "cyclegan", f"data.root={photos}", f"run={run}", "duration=2 steps",
                "seeds=[0,1]", *TINY) == (0, "")  # fmt: skip
    folders = [f"{run}-seed{seed}" for seed in (0, 1)]
    for folder in folders:
        assert call(test, folder, "checks=false", "runtime.device=cpu") == (0, "")
    capsys.readouterr()
    seeds.main(folders)
    out = capsys.readouterr().out
    assert "a_to_b cycle L1" in out and "±" in out and "runs: 2" in out
