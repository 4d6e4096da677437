"""However W&B online fails, the run is logged offline; invalid projects are refused at the start."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from engine.tracking import wandb_run
from engine.tracking.wandb_config import LogConfig
from engine.tracking.wandb_run import WandbRun
from tests.conftest import raises_user_error, written


@contextmanager
def refusing() -> Iterator[str]:
    """The discard port, which nothing listens on and no test is given."""
    yield "http://127.0.0.1:9"


@contextmanager
def stalling() -> Iterator[str]:
    """A server that accepts connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(16)
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def denying() -> Iterator[str]:
    """A server that answers 401 to every request."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_error(401)

        do_GET = do_POST

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    "server", [refusing, stalling, denying], ids=lambda server: server.__name__
)
def test_a_run_whose_server_fails_is_logged_offline(server, tmp_path, monkeypatch):
    monkeypatch.setattr(wandb_run, "INIT_TIMEOUT", 2)
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    for name in ("WANDB_MODE", "WANDB_PROJECT", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    with server() as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        logger = WandbRun(LogConfig(wandb="online"), tmp_path, "abc", {"seed": 1})
        assert "online failed" in logger.message and "offline run abc" in logger.message
        logger.log({"loss": 1.0, "images": 1}, 1)
        logger.finish()
        written()
    (folder,) = (tmp_path / "wandb").glob("offline-run-*-abc")
    assert (folder / "run-abc.wandb").stat().st_size > 100
    assert str(folder) in logger.message


@pytest.mark.parametrize("project", ["a/b", "what?", "x" * 129, "100%"])
def test_an_invalid_project_is_refused(project, monkeypatch):
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    with raises_user_error(option="log.project"):
        LogConfig(project=project)
    monkeypatch.setenv("WANDB_PROJECT", project)
    with raises_user_error(option="log.project"):
        LogConfig()


def test_several_offline_parts_are_uploaded_by_one_command(tmp_path):
    parts = [tmp_path / f"wandb/offline-run-2026112{day}_120000-abc" for day in (8, 9)]
    for part in parts:
        (part / "files").mkdir(parents=True)
    newest = SimpleNamespace(dir=str(parts[1] / "files"))
    assert wandb_run._offline_folders(newest.dir).endswith("/wandb/offline-run-*")
    parts[0].joinpath("files").rmdir()
    parts[0].rmdir()
    assert wandb_run._offline_folders(newest.dir) == str(parts[1])
