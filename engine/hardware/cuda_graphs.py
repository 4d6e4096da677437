"""Replay steps as CUDA graphs, and copy batches to a CUDA device during the computation."""

import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping

import torch
from torch import Tensor

Batch = dict[str, Tensor]


class CudaGraphStep:
    """Run a step a few times as it is, then capture it as a CUDA graph and replay that.

    A step of small images consists of thousands of kernels, and starting them one by one takes the
    host longer than the device needs to run them (CUDA graphs: NVIDIA's CUDA C++ Programming Guide,
    "CUDA Graphs"). A captured step reads and writes the same memory each time, so everything that
    changes from step to step (images, learning rate, random decisions of an image pool) must be
    copied into tensors that stay; `run_step` must not read a value back from the device.
    """

    WARM_UP = 3  # steps in which cuDNN chooses its kernels and optimizers make their state

    def __init__(
        self, run_step: Callable[[Batch], dict[str, Tensor]], device: torch.device
    ) -> None:
        self.run_step = run_step
        self.device = device
        self.stream = torch.cuda.Stream(device)
        self.warm_up_counts: Counter[Hashable] = Counter()
        self.captured: dict[Hashable, tuple[torch.cuda.CUDAGraph, Batch, dict[str, Tensor]]] = {}

    def __call__(self, graph_key: Hashable, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run one step on a batch; each pair of `graph_key` and batch shapes is captured once.

        The losses of a replay are in the same memory each time: read them before the next step.
        """
        batch = {domain: x.to(self.device, non_blocking=True) for domain, x in batch.items()}
        key = (graph_key, *((domain, x.shape) for domain, x in batch.items()))
        if key not in self.captured:
            if self.warm_up_counts[key] < self.WARM_UP:
                self.warm_up_counts[key] += 1
                return self._run_on_side_stream(batch)
            self.captured[key] = self._capture(batch)
        graph, inputs, losses = self.captured[key]
        for domain, images in batch.items():
            inputs[domain].copy_(images, non_blocking=True)
        graph.replay()
        return losses

    def _run_on_side_stream(self, batch: Batch) -> dict[str, Tensor]:
        """Run a step on the stream of the capture, as CUDA requires of the steps before it."""
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream), warnings.catch_warnings():
            # Capturable optimizers warn where they step outside of a capture.
            warnings.filterwarnings("ignore", message=".*capturable.*")
            losses = self.run_step(batch)
        current.wait_stream(self.stream)
        return losses

    def _capture(self, batch: Batch) -> tuple[torch.cuda.CUDAGraph, Batch, dict[str, Tensor]]:
        torch.cuda.synchronize(self.device)
        torch.cuda.empty_cache()  # the memory that cuDNN took to choose its kernels
        inputs = {domain: x.clone() for domain, x in batch.items()}
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            losses = self.run_step(inputs)  # captured, not run
        return graph, inputs, losses


def prefetch_to_device(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Copy batches in pinned memory to the device on a separate stream, and yield them.

    The host is ahead of the device, so a copy runs during the step before it.
    """
    stream = torch.cuda.Stream(device)
    for batch in batches:
        with torch.cuda.stream(stream):
            moved = {domain: x.to(device, non_blocking=True) for domain, x in batch.items()}
        current = torch.cuda.current_stream(device)
        current.wait_stream(stream)
        for images in moved.values():
            images.record_stream(current)  # its memory is not reused while a step reads it
        yield moved
