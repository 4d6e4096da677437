"""The benchmarks stay alive: each runs at a tiny size and prints what it promises."""

import json

from benchmarks import inference, known_truth, loading, step


def rows(capsys) -> list[dict]:
    return [
        json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")
    ]


def test_step_prints_seconds_and_the_share_of_the_peak(capsys, monkeypatch):
    monkeypatch.setattr(step, "peak", lambda *_: 1e12)
    words = "--size 32 --channels 4 --blocks 1 --rounds 1 --variants fp32,bf16 --json"
    step.main(words.split())
    found = rows(capsys)
    assert [row["precision"] for row in found] == ["fp32", "bf16"]
    for row in found:
        assert row["seconds"] > 0 and row["tflop"] >= 0 and row["ratio"] is None


def test_known_truth_prints_scores_of_both_directions(capsys):
    known_truth.main(["cyclegan", "--json", "--seed", "3", "duration=2 steps", "runtime.threads=1"])
    (row,) = rows(capsys)
    assert (row["method"], row["seed"], row["steps"]) == ("cyclegan", 3, 2)
    assert {"seconds", "psnr_a_to_b", "psnr_b_to_a", "ssim_a_to_b", "ssim_b_to_a"} <= row.keys()


def test_loading_compares_the_pipelines(capsys):
    loading.main(["--images", "2", "--rounds", "1", "--json"])
    assert {(row["source"], row["pipeline"]) for row in rows(capsys)} == {
        (source, pipeline)
        for source in ("256x256", "1024x768")
        for pipeline in ("reference", "decoding", "cached")
    }


def test_inference_times_every_variant_that_needs_no_compiler(capsys, monkeypatch):
    plain = {
        name: config for name, config in inference.VARIANTS.items() if config.compile == "none"
    }
    monkeypatch.setattr(inference, "VARIANTS", plain)
    small = inference.ResnetGenerator.Config(channels=4, blocks=1)
    monkeypatch.setattr(inference.ResnetGenerator, "Config", lambda: small)
    inference.main(["--sizes", "32", "--rounds", "1", "--json"])
    assert [row["precision"] for row in rows(capsys)][:2] == ["fp32", "bf16"]
