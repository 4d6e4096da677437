"""An experiment is repeated from its options: of a run folder, a W&B run or an offline run."""

import json
import os
import zlib
from pathlib import Path

import pytest

import train
from engine.tracking.offline_run_reader import records
from options.load import saved_options, to_dict, train_options
from tests.conftest import TINY, call, refusal, written


def losses(run: Path) -> list[dict]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_the_options_of_a_run_folder_repeat_it_bit_for_bit(trained, tmp_path):
    for source in (trained, trained / "options.yaml"):
        run = tmp_path / f"from_{source.name}"
        assert call(train, source, f"run={run}") == (0, "")
        assert losses(run) == losses(trained) and len(losses(run)) == 5
        assert call(train, source, f"run={run}") == (0, "")  # the same command again


def test_an_offline_run_is_repeated_from_its_folder_alone(photos, tmp_path, server):
    run = tmp_path / "run"
    words = [word for word in TINY if "wandb" not in word]
    assert call(train, "cyclegan", f"data.root={photos}", f"run={run}", "duration=2 steps", "seed=3",
                "method.cycle_weight=7", *words, "log.wandb=offline") == (0, "")  # fmt: skip
    written()
    (folder,) = (run / "wandb").glob("offline-run-*")
    again = tmp_path / "again"
    assert call(train, folder, f"run={again}", "log.wandb=disabled") == (0, "")
    assert losses(again) == losses(run)
    assert to_dict(saved_options(again / "options.yaml"))["method"]["cycle_weight"] == 7


def test_only_the_options_of_a_run_on_the_server_are_used(trained, tmp_path, server):
    options = to_dict(saved_options(trained / "options.yaml"))
    options["log"] |= {"project": "theirs", "artifacts": True, "tags": ["theirs"]}
    options["data"]["cache"] = str(tmp_path / "cache")
    facts = {"git_commit": "0" * 40, "steps": 8, "base": "demo", "command": ["rm", "-rf"]}
    server.configs["abcd"] = json.loads(json.dumps(options | facts))
    again = tmp_path / "again"
    assert call(train, "wandb:me/project/abcd", f"run={again}", "log.wandb=disabled") == (0, "")
    assert losses(again) == losses(trained)
    found = train_options(["wandb:me/project/abcd"])
    assert found is not None and found.run == "runs/abcd"  # not the folder it had elsewhere
    assert found.log.project != "theirs" and not found.log.artifacts and found.log.tags is None
    assert found.data.disk_cache == "" and not (tmp_path / "cache").exists()
    assert server.unknown == []


@pytest.mark.parametrize(
    ("change", "option"),
    [
        ({"seed": "${oc.env:HOME}"}, "seed"),
        ({"seed": "many"}, "seed"),
        ({"seed": {"deep": 1}}, "seed.deep"),
        ({"method": 3}, "method"),
        ({"method": {"name": "../../evil"}}, "method.name"),
        ({"data": {"train": {"a": ["x"]}}}, "data.train"),
        ({"data": {"domains": ["../x", "b"]}}, "data.domains"),
        ({"log": {"hook": "os.system"}}, "log.hook"),
        ({"learning_rate": 1e999}, "learning_rate"),
        ({"batch_size": None}, "batch_size"),
        ({"data": {"root": "a\0b"}}, "data.root"),
    ],
)
def test_hostile_values_are_refused_like_those_of_any_option_file(trained, server, change, option):
    content = to_dict(saved_options(trained / "options.yaml"))
    for name, value in change.items():
        content[name] = content[name] | value if isinstance(content[name], dict) and (
            isinstance(value, dict)) else value  # fmt: skip
    server.configs["evil"] = content
    code, error = call(train, "wandb:me/project/evil", "run=never")
    assert code == 2 and "\n" not in error
    assert refusal(train, "wandb:me/project/evil", "run=never").option == option
    assert not Path("never").exists()


@pytest.mark.parametrize(
    "word",
    ["wandb:me/project/none", "wandb:me/project", "wandb:me/../x", "wandb:", "x.wandb"],
)
def test_a_missing_run_is_refused_in_one_line_that_names_it(server, word):
    code, error = call(train, word, "run=never")
    assert code == 2 and "\n" not in error
    assert refusal(train, word, "run=never").path == word


def test_a_configuration_of_other_software_is_refused(server):
    server.configs["other"] = {"lr": 0.1, "batch_size": 3}
    assert refusal(train, "wandb:me/p/other", "run=never").path == "wandb:me/p/other"


def test_without_a_key_no_request_is_sent(server, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY")
    assert "wandb login" in call(train, "wandb:me/project/abcd", "run=never")[1]
    assert server.asked == []


@pytest.mark.parametrize("damage", ["cut", "noise", "header"])
def test_a_damaged_offline_file_is_refused_in_one_line_that_names_it(trained, tmp_path, damage):
    file = tmp_path / "run-x.wandb"
    content = b":W&B" + b"\x21\xbe\x00"
    record = os.urandom(200)
    part = len(record).to_bytes(2, "little") + b"\x01"
    whole = content + zlib.crc32(b"\x01" + record).to_bytes(4, "little") + part + record
    file.write_bytes({"cut": whole[:50], "noise": whole, "header": b"x" * 99}[damage])
    code, error = call(train, tmp_path, "run=never")
    assert code == 2 and str(tmp_path) in error and "\n" not in error


def test_an_offline_file_is_read_up_to_the_first_wrong_byte(photos, tmp_path):
    run = tmp_path / "run"
    words = [word for word in TINY if "wandb" not in word]
    assert call(train, "cyclegan", f"data.root={photos}", f"run={run}", "duration=3 steps",
                *words, "log.every=1", "log.wandb=offline") == (0, "")  # fmt: skip
    written()
    (file,) = (run / "wandb").glob("offline-run-*/run-*.wandb")
    intact, content = [*records(file)], bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert intact[: len(read := [*records(file)])] == read and 0 < len(read) < len(intact)
