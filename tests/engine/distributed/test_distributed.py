"""Several processes train one run: they compute the same as one process, and end together."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from common.errors import RunError
from engine.checkpoint import Checkpoints
from engine.distributed.context import DistributedContext
from engine.distributed.gradient_averaging import average_gradients, make_buckets
from engine.distributed.rank_state import check_ranks_agree, reshard, state_checksum
from engine.distributed.store_prefix import agree_on_store_prefix
from engine.hardware.device import RuntimeConfig
from engine.runtime import Runtime
from engine.schedule import make_schedule
from engine.train_config import TrainingConfig
from engine.train_step import TrainStep
from models import methods
from tests.conftest import TINY, assert_same, raises_user_error, shrink
from training.signals import StopSignals

RANK = Path(__file__).with_name("rank.py")
STEPS = 12


def words(photos, run, *more):
    """Return a run of 12 steps of 4 images whose image pools never swap: nothing is random."""
    return ["cyclegan", f"data.root={photos}", f"run={run}", f"duration={STEPS} steps",
            "checkpoint_every=5", "log.every=1", "log.previews_every=0", "method.pool_size=50",
            "batch_size=4", "ema_half_life=8", "data.color_jitter=0.2", *TINY, *more]  # fmt: skip


def launch(count, arguments, torchrun=(), **environment) -> subprocess.Popen:
    """Start torchrun with `count` processes, or one process without it."""
    many = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}",
            "--shutdown-timeout=20", *torchrun]  # fmt: skip
    inherited = {n: v for n, v in os.environ.items() if n not in ("RANK", "WORLD_SIZE")}
    return subprocess.Popen(
        [sys.executable, *(many if count > 1 else []), str(RANK), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**inherited, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", **environment},
    )  # fmt: skip


def finish(process) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=200)
    return process.returncode, out, err


def trained(count, arguments, torchrun=(), **environment) -> tuple[int, str, str]:
    return finish(launch(count, arguments, torchrun, **environment))


def error_lines(err: str) -> list[str]:
    """Return the error lines of train.py among torchrun's own."""
    return [line for line in err.splitlines() if line.startswith("error: ")]


def final(run):
    return Checkpoints(run / "checkpoints").load_latest()


def losses(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def samples(folder: Path, count: int, domain: str) -> list[str]:
    """Return the digests of all samples that a recorded run has seen, in the order of positions."""
    ranks = [
        [json.loads(line) for line in (folder / f"samples_{r}.jsonl").read_text().splitlines()]
        for r in range(count)
    ]
    return [digest for rows in zip(*ranks, strict=True) for row in rows for digest in row[domain]]


def difference(one: Path, other: Path, kind: str) -> float:
    """Return the distance of the gradients of two recorded first steps, relative to their norm."""
    a, b = (torch.load(f / f"{kind}gradients_0.pt", weights_only=True) for f in (one, other))
    assert a.keys() == b.keys() and len(a) > 10
    distance = sum((a[name] - b[name]).double().square().sum() for name in a)
    return float((distance / sum(x.double().square().sum() for x in a.values())).sqrt())


def measured(record_property, text: str) -> None:
    """Record a measurement for docs/distributed.md: in the report, and for -rP."""
    record_property("figure", text)
    print(f"measured: {text}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("distributed")


@pytest.fixture(scope="module")
def single_process_run(photos, folder):
    code, _, err = trained(1, words(photos, folder / "one"), RECORD=str(folder / "record_1"))
    assert (code, err) == (0, "")
    return folder / "one"


@pytest.fixture(scope="module")
def two_process_run(photos, folder):
    code, out, err = trained(2, words(photos, folder / "two"), RECORD=str(folder / "record_2"))
    assert code == 0 and error_lines(err) == []
    assert (
        out.count("on 2 x cpu") == 1 and out.count("finished: 12 steps") == 1
    )  # only rank 0 prints
    return folder / "two"


def compare(folder, count, record_property):
    for domain in "ab":
        seen = samples(folder / f"record_{count}", count, domain)
        assert seen == samples(folder / "record_1", 1, domain) and len(seen) == 4 * STEPS
    exact, rounded = (
        difference(folder / "record_1", folder / f"record_{count}", kind) for kind in ("exact_", "")
    )
    measured(
        record_property,
        f"gradients of {count} processes and of one: {exact:.1e} apart in float64, "
        f"{rounded:.1e} in float32; {8 * STEPS} of {8 * STEPS} samples equal",
    )
    assert exact < 1e-6 and rounded < 1e-5


def test_two_processes_see_the_samples_and_have_the_gradients_of_one(
    single_process_run, two_process_run, folder, record_property
):
    compare(folder, 2, record_property)
    ours, theirs = (
        torch.load(folder / f"record_2/gradients_{r}.pt", weights_only=True) for r in (0, 1)
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    one, two = ([{n: v for n, v in row.items() if "/" not in n} for row in losses(run)]
                for run in (single_process_run, two_process_run))  # fmt: skip
    assert two[0] == pytest.approx(one[0], rel=1e-5)
    # Adam's first steps make a whole step of a rounded zero: later losses are similar, not equal.
    assert all(x == pytest.approx(y, rel=2e-2) for x, y in zip(two, one, strict=True))


@pytest.mark.slow
def test_four_processes_see_the_samples_and_have_the_gradients_of_one(
    single_process_run, photos, folder, record_property
):
    more = {"RECORD": str(folder / "record_4")}
    assert trained(4, words(photos, folder / "four"), **more)[0] == 0
    compare(folder, 4, record_property)


def test_after_a_killed_process_torchrun_continues_from_the_checkpoint_bit_by_bit(
    two_process_run, photos, folder, record_property
):
    run = folder / "killed"
    process = launch(2, words(photos, run), ["--max-restarts=1"], FAULT="kill:1:7")
    assert process.stderr is not None
    err, noticed = [], 0.0
    for line in process.stderr:
        err.append(line.strip())
        noticed = time.time() if error_lines(line) else noticed
    code, out, _ = finish(process)
    assert code == 0 and f"{run} continues at step 5" in out
    assert error_lines("\n".join(err)) == [
        "error: another process of this run has ended; "
        "checkpoints are intact, the same command continues"
    ]
    assert not any("Traceback" in line for line in err)
    seconds = noticed - (run / "kill").stat().st_mtime
    measured(
        record_property, f"killed: the other process reported it and left {seconds:.1f} s later"
    )
    assert seconds < 10
    assert losses(run) == losses(two_process_run)
    assert_same(final(run), final(two_process_run))


def test_a_signal_to_one_process_saves_once_and_one_process_continues(
    single_process_run, photos, folder, record_property
):
    run, record = folder / "signalled", folder / "record_signal"
    code, out, err = trained(2, words(photos, run), FAULT="SIGTERM:1:7", RECORD=str(record))
    assert code == 1 and out.count("the same command continues") == 1 and error_lines(err) == []
    assert set(re.findall(r"exitcode\s*: (-?\d+)", err)) == {"143"}  # torchrun's own report
    state = final(run)
    assert state["step"] == 8 and len(state["rank_states"]) == 2
    for rank_state in state["rank_states"]:
        assert rank_state["image_pool_a._extra_state"]["images"].shape == (16, 3, 16, 16)
    seen = samples(record, 2, "a")
    code, out, err = trained(1, words(photos, run), RECORD=str(folder / "record_then"))
    assert (code, err) == (0, "") and f"{run} continues at step 8" in out
    assert seen + samples(folder / "record_then", 1, "a") == samples(folder / "record_1", 1, "a")
    # 8 steps of 4 fakes came from two image pools, 4 steps of 4 were added.
    assert len(final(run)["method"]["image_pool_a._extra_state"]["images"]) == 48


def test_a_signal_to_torchrun_saves_and_a_nan_loss_in_one_process_is_nan_in_all(photos, folder):
    run = folder / "stopped"
    more = (
        "duration=100000 steps",
        "checkpoint_every=1000000",
        "data.workers=1",
        "on_nonfinite=skip",
    )
    process = launch(2, words(photos, run, *more), FAULT="nan:1:2")
    for _ in range(1000):
        if (run / "metrics.jsonl").exists() and len(losses(run)) > 4:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, out, err = finish(process)
    assert out.count("stopped and saved in") == 1 and error_lines(err) == []
    assert "became nan at step 3; the step is left out" in out
    rows = losses(run)
    assert "cycle_a" not in rows[2] and all("cycle_a" in row for row in rows[3:])
    assert final(run)["step"] == rows[-1]["step"]  # saving has also compared the weights of both


@pytest.mark.slow
def test_all_processes_end_after_the_timeout_where_one_hangs(photos, folder, record_property):
    run = folder / "hung"
    code, _, err = trained(2, words(photos, run, "runtime.timeout=6"), FAULT="hang:1:7")
    seconds = time.time() - (run / "hang").stat().st_mtime
    measured(record_property, f"hung: all had ended {seconds:.0f} s later, runtime.timeout=6")
    assert code == 1 and seconds < 30
    (line,) = error_lines(err)
    assert "6 s (runtime.timeout)" in line and "Traceback" not in line
    assert final(run)["step"] == 5


@pytest.mark.slow
def test_a_signal_ends_all_processes_where_one_gets_no_images(photos, folder, record_property):
    run = folder / "unread"
    process = launch(2, words(photos, run), FAULT="unread:1:7")
    for _ in range(600):
        if (run / "unread").exists():
            break
        time.sleep(0.1)
    time.sleep(1)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, _, err = finish(process)
    seconds = time.monotonic() - began
    measured(record_property, f"one of two processes without images: {seconds:.1f} s")
    (line,) = error_lines(err)
    assert "they did not arrive; checkpoints are intact" in line and seconds < 10
    assert final(run)["step"] == 5


@pytest.mark.slow
def test_two_processes_continue_a_run_of_one(single_process_run, photos, folder):
    run, record = folder / "begun_alone", folder / "record_grown"
    first = trained(1, words(photos, run), FAULT="SIGTERM:0:5", RECORD=str(record))
    assert first[0] == 143
    before = samples(record, 1, "b")
    after = folder / "record_after"
    assert trained(2, words(photos, run), RECORD=str(after))[0] == 0
    assert before + samples(after, 2, "b") == samples(folder / "record_1", 1, "b")
    # Both went on with the 24 fakes of the one, and added 6 steps of 2.
    for rank_state in final(run)["rank_states"]:
        assert len(rank_state["image_pool_b._extra_state"]["images"]) == 36


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (2, 2, [[0, 2, 4], [1, 3, 5]]),  # each its own
        (2, 1, [[0, 1, 2, 3, 4, 5]]),  # all; the module drops what it has no room for
        (1, 2, [[0, 1, 2], [0, 1, 2]]),  # every second one, then filled up from the others
        (2, 4, [[0, 1, 4], [0, 1, 5], [0, 1, 2], [0, 1, 3]]),
        (4, 2, [[0, 2, 4, 6, 8, 10], [1, 3, 5, 7, 9, 11]]),
    ],
)  # fmt: skip
def test_rank_states_are_redistributed_to_another_number_of_processes(old, new, expected):
    # Rank r of `old` has entries r, r + old, r + 2 old.
    rank_states = [
        {"x": {"images": torch.tensor([[float(r + old * i)] for i in range(3)])}}
        for r in range(old)
    ]
    resharded = [reshard(rank_states, rank, new)["x"]["images"] for rank in range(new)]
    assert [rows.flatten().int().tolist() for rows in resharded] == expected


def test_rank_states_without_tensors_stay_as_they_are():
    rank_states = [{"x": {"images": None}, "y": {"count": n}} for n in range(3)]
    assert reshard(rank_states, 1, 2) == {"x": {"images": None}, "y": {"count": 1}}


def test_gradients_and_losses_become_their_means_and_each_is_sent_once():
    sent = []

    def all_reduce(flat):  # as if the other process had three times ours
        sent.append(flat.numel())
        flat.mul_(4)

    gradients = [torch.full((3, 2), 1.0), torch.full((4,), 2.0)]
    found = average_gradients(
        gradients, {"x": torch.tensor(5.0)}, 2, None, all_reduce, lambda _: None
    )
    # (1 + 3) / 2 of ours
    assert [g.unique().tolist() for g in gradients] == [[2.0], [4.0]]
    assert found["x"].item() == 10 and sent == [1, 10]


def test_buckets_hold_everything_in_order_within_their_size(monkeypatch):
    four_numbers = 16  # bytes
    monkeypatch.setattr("engine.distributed.gradient_averaging.BUCKET_BYTES", four_numbers)
    sizes = [1, 3, 1, 5, 2, 2]
    assert [[len(x) for x in group] for group in make_buckets([torch.zeros(n) for n in sizes])] == [
        [1, 3], [1], [5], [2, 2],
    ]  # fmt: skip


def test_different_weights_are_detected_and_different_extra_state_is_not():
    one = {"w": torch.ones(3), "h._extra_state": {"images": torch.ones(2)}}
    other = {"w": torch.ones(3), "h._extra_state": {"images": torch.zeros(1)}}
    changed = {"w": torch.tensor([1, 1, 1 + 2e-7])}
    check_ranks_agree([state_checksum(one), state_checksum(other)])
    with pytest.raises(RunError, match="process 1 has other weights"):
        check_ranks_agree([state_checksum(one), state_checksum(changed)])


def test_every_start_connects_its_own_processes_in_a_store_with_keys_of_earlier_starts():
    store = torch.distributed.HashStore()
    names = []
    for _ in range(3):
        with ThreadPoolExecutor(3) as pool:
            starting = [
                pool.submit(agree_on_store_prefix, store, rank, 3, 20.0) for rank in range(3)
            ]
            (name,) = {future.result() for future in starting}
        names.append(name)
    assert len(set(names)) == 3
    with pytest.raises(
        RunError, match=r"within 0\.2 s"
    ):  # processes of earlier starts are not waited for
        agree_on_store_prefix(store, 0, 3, 0.2)


def test_a_batch_that_cannot_be_divided_among_the_processes_is_refused():
    for config, option in (
        (TrainingConfig(batch_size=3), "batch_size"),
        (TrainingConfig(batch_size=4, microbatches=4), "microbatches"),
    ):
        method = methods.find("cyclegan")(shrink("cyclegan"), {"a": 3, "b": 3})
        runtime = Runtime(RuntimeConfig(device="cpu"), DistributedContext(0, 2))
        with raises_user_error(option=option):
            TrainStep(
                method, config, make_schedule("5 steps", "50%", config.batch_size, 9), runtime
            )
    with raises_user_error(option="runtime.timeout"):
        RuntimeConfig(timeout=0)


def test_an_echo_of_a_signal_is_not_a_second_signal():
    with StopSignals(echo=60) as stop:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
    assert stop.requested == signal.SIGTERM


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_see_the_samples_and_have_the_gradients_of_one(photos, folder, record_property):
    cuda = "runtime.device=cuda"
    for count in (1, 2):
        record = str(folder / f"cuda_{count}")
        run = folder / f"cuda_run_{count}"
        assert trained(count, words(photos, run, cuda), RECORD=record)[0] == 0
    for domain in "ab":
        assert samples(folder / "cuda_2", 2, domain) == samples(folder / "cuda_1", 1, domain)
    assert difference(folder / "cuda_1", folder / "cuda_2", "exact_") < 1e-6
