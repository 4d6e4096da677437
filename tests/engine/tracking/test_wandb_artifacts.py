"""An artifact of a run is opened like the run itself, and its content is not trusted."""

import json
from pathlib import Path

import pytest

import translate
from engine.checkpoint import Checkpoints
from engine.tracking.wandb_artifacts import bundle_artifact, dataset_artifact, model_name
from inference.open_run import open_run
from options.load import saved_options
from tests.conftest import call, refusal

NAME = "wandb:me/project/thing:best"


def files_of(run, alias):
    """Return name -> content of the files that are uploaded under an alias."""
    manifest = Checkpoints(run / "checkpoints").latest_and_best()[alias]
    step = manifest["latest"]
    return {
        "options.yaml": (run / "options.yaml").read_bytes(),
        "checkpoints/manifest.json": json.dumps(manifest).encode(),
        f"checkpoints/{step}": (run / "checkpoints" / step).read_bytes(),
    }


def alias_of(run):
    return next(iter(Checkpoints(run / "checkpoints").latest_and_best()))


def test_an_artifact_translates_as_its_run_does(trained, photos, tmp_path, server, monkeypatch):
    monkeypatch.chdir(tmp_path)
    server.files = files_of(trained, alias_of(trained))
    words = ("direction=a_to_b", "runtime.device=cpu", "checkpoint=best")
    for run, out in ((NAME, "from_artifact"), (trained, "from_run"), (NAME, "again")):
        assert call(translate, run, photos / "testA", tmp_path / out, *words) == (0, "")
    found = {
        name: [p.read_bytes() for p in sorted((tmp_path / name).rglob("*.png"))]
        for name in ("from_artifact", "from_run", "again")
    }
    assert found["from_artifact"] == found["from_run"] == found["again"] != []
    assert server.asked.count("file") == 3 and server.unknown == []  # downloaded once


@pytest.mark.parametrize(
    "name",
    ["../evil", "/etc/evil", "a/../../evil", "..\\evil", "C:\\evil", "a//b", "./a", "a\nb",
     "\x1b[2J", "checkpoints/.."],
)  # fmt: skip
def test_a_file_whose_name_leads_out_is_refused_before_anything_is_downloaded(
    server, tmp_path, monkeypatch, name
):
    monkeypatch.chdir(tmp_path)
    server.files = {"options.yaml": b"x", name: b"evil"}
    error = refusal(translate, NAME, "in", "out")
    assert error.path == NAME and "is not opened" in str(error)
    assert str(error).isprintable()
    assert "file" not in server.asked and not [*tmp_path.rglob("evil")]


def test_a_reference_is_not_followed(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    server.references = {"options.yaml": "file:///etc/passwd"}
    error = refusal(translate, NAME, "in", "out")
    assert error.path == NAME and "is a reference" in str(error)
    assert not (tmp_path / "runs").exists()


def test_a_checkpoint_that_was_changed_is_refused_by_the_loader(
    trained, server, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    server.files = files_of(trained, alias_of(trained))
    (name,) = [name for name in server.files if name.endswith(".pt")]
    content = bytearray(server.files[name])
    content[len(content) // 2] ^= 1
    server.files[name] = bytes(content)
    error = refusal(translate, NAME, "in", "out", "direction=a_to_b")
    assert error.path.endswith("checkpoints") and "\n" not in str(error)


def test_a_missing_artifact_and_one_without_a_run_are_refused_in_one_line(
    server, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    server.files = {"readme.txt": b"no run"}
    error = refusal(translate, NAME, "in", "out")
    assert "\n" not in str(error)
    assert (tmp_path / error.path / "readme.txt").is_file()  # downloaded, and not a run
    for name, fragment in (
        ("wandb:me/project/none:best", "W&B"),
        ("wandb:thing:best", "wandb:ENTITY/PROJECT/ARTIFACT:ALIAS"),
    ):
        error = refusal(translate, name, "in", "out")
        assert error.path == name and fragment in str(error) and "\n" not in str(error)


def test_the_best_and_the_last_are_one_artifact_where_they_are_one_checkpoint(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for step, score in ((1, 0.5), (2, 0.2), (3, 0.9), (4, None)):
        checkpoints.save({}, step, score)
    found = checkpoints.latest_and_best()
    assert {alias: entry["latest"] for alias, entry in found.items()} == {
        "best": "step_00000002.pt", "latest": "step_00000004.pt"}  # fmt: skip
    checkpoints.save({}, 5, 0.1)
    assert [*checkpoints.latest_and_best()] == ["best_latest"]


def test_the_record_of_the_data_holds_no_image(trained):
    data = saved_options(trained / "options.yaml").data
    name, kind, files, metadata = dataset_artifact(trained, data)
    assert name.startswith("data-") and kind == "dataset" and [*files] == ["data.json"]
    assert metadata["fingerprint"] == json.loads((trained / "data.json").read_text())["fingerprint"]
    assert model_name(trained).startswith("tiny-")


def test_a_bundle_is_uploaded_whole(trained, tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("manifest.json", "deep/model.onnx"):
        (tmp_path / name).write_text("x")
    name, kind, files, _ = bundle_artifact(trained, tmp_path, "a_to_b", {})
    assert name.endswith("-a_to_b") and kind == "bundle"
    assert sorted(files) == ["deep/model.onnx", "manifest.json"]


def test_a_path_is_still_a_path(trained):
    assert open_run(Path(trained)).step == 8
