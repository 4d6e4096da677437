"""Failing writes at every point of the commands lose nothing, and the program would notice it."""

import pytest

from common import files
from reliability import write_faults


@pytest.mark.slow
def test_failing_writes_lose_nothing(capsys):
    assert write_faults.main(["--points", "12"]) == 0
    assert "12 points of four commands, 0 failed" in capsys.readouterr().out


@pytest.mark.slow
def test_a_writer_that_lets_an_error_through_is_noticed(monkeypatch, capsys):
    def write(path, content, needed=0):
        with open(path, "wb") as file:
            content(file)

    for module in ("inference.outputs", "common.files"):
        monkeypatch.setattr(f"{module}.write_atomically", write)
    assert files.write_atomically is write
    assert write_faults.main(["--points", "12"]) == 1
    assert "0 failed" not in capsys.readouterr().out
