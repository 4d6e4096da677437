"""Run one rank of test_distributed.py: train.py, with a fault where the environment names one.

FAULT=kind:rank:step is one of kill, hang, unread, nan, or a signal's name, in the first attempt only. Every
rank writes to the folder RECORD one line of sample digests per step, and the first step's
gradients, as they are and in float64.
"""

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import train
from common.run_main import run_command
from data.samples import UnpairedSamples
from data.tensors import normalize
from engine.runtime import Runtime
from engine.train_step import TrainStep

kind, at_rank, at_step = (*os.environ.get("FAULT", "").split(":"), "", "", "")[:3]
rank = os.environ.get("RANK", "0")
first_attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
faulty = bool(kind) and rank == at_rank and first_attempt
take_step, average_gradients = TrainStep.take_step, Runtime.average_gradients


def take_recorded_step(self, batch):
    if faulty and kind in ("kill", "hang", "unread") and self.step == int(at_step):
        run = next(word for word in sys.argv if word.startswith("run=")).removeprefix("run=")
        (Path(run) / kind).touch()  # its date is the time of the fault
        if kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "hang":
            time.sleep(1000)
        UnpairedSamples.__getitem__ = lambda *_: time.sleep(1000)  # pyright: ignore
    if faulty and kind.startswith("SIG") and self.step == int(at_step):
        os.kill(os.getpid(), getattr(signal, kind))
    Runtime.step = self.step
    if self.step == 0 and "RECORD" in os.environ:
        record_exact_gradients(Path(os.environ["RECORD"]), self, batch)
    losses = take_step(self, batch)
    if folder := os.environ.get("RECORD"):
        record(Path(folder), self, batch)
    return losses


def record(folder: Path, train_step: TrainStep, batch) -> None:
    folder.mkdir(exist_ok=True)
    digests = {
        domain: [hashlib.sha256(image.cpu().numpy().tobytes()).hexdigest()[:12] for image in images]
        for domain, images in batch.items()
    }
    with open(folder / f"samples_{rank}.jsonl", "a") as file:
        file.write(json.dumps({"step": train_step.step, **digests}) + "\n")
    if train_step.step == 1:
        gradients = {
            n: p.grad.cpu() for n, p in train_step.method.named_parameters() if p.grad is not None
        }
        torch.save(gradients, folder / f"gradients_{rank}.pt")


def record_exact_gradients(folder: Path, train_step: TrainStep, batch) -> None:
    """Save the gradients of the first step in float64, where rounding hides no difference."""
    folder.mkdir(exist_ok=True)
    method = type(train_step.method)(train_step.config.method, train_step.method.channels).double()
    method.load_state_dict(train_step.method.state_dict())
    method.to(train_step.runtime.device)
    images = {
        domain: normalize(x.to(train_step.runtime.device)).double() for domain, x in batch.items()
    }
    for update in method.updates(images, 0):
        parameters = [
            p for name in update.groups for p in method.optimizer_groups()[name].parameters()
        ]
        update.total().backward(inputs=parameters)
        train_step.runtime.average_gradients(parameters, update.losses)
    gradients = {n: p.grad.cpu() for n, p in method.named_parameters() if p.grad is not None}
    torch.save(gradients, folder / f"exact_gradients_{rank}.pt")


def average_with_fault(self, parameters, losses):
    if faulty and kind == "nan" and self.step == int(at_step):
        losses = {name: loss * float("nan") for name, loss in losses.items()}
    return average_gradients(self, parameters, losses)


TrainStep.take_step = take_recorded_step
Runtime.average_gradients = average_with_fault

if __name__ == "__main__":
    torch.set_num_threads(1)
    run_command(train.main)
