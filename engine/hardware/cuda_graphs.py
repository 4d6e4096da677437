"""What only a CUDA device needs: steps recorded as graphs, and copies beside the computation."""

import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping

import torch
from torch import Tensor

Batch = dict[str, Tensor]


class CudaGraphStep:
    """Play a step a few times as it is, then record its kernels and launch them all at once.

    A step of small images consists of thousands of kernels, and starting them one by one takes the
    host longer than the device needs to run them (CUDA graphs: NVIDIA's CUDA C++ Programming Guide,
    "CUDA Graphs"). What is recorded reads and writes the same memory each time, so everything that
    changes from step to step (images, learning rate, decisions of a history) must be copied into
    tensors that stay; `play` may not read a value back from the device.
    """

    WARM_UP = 3  # cuDNN chooses its kernels, optimizers make their state

    def __init__(self, play: Callable[[Batch], dict[str, Tensor]], device: torch.device) -> None:
        self.play = play
        self.device = device
        self.stream = torch.cuda.Stream(device)
        self.warm_up_counts: Counter[Hashable] = Counter()
        self.recorded: dict[Hashable, tuple[torch.cuda.CUDAGraph, Batch, dict[str, Tensor]]] = {}

    def __call__(self, variant: Hashable, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Play one step on a batch; every (variant, sizes) is recorded once.

        The losses of a replay lie in the same memory each time: read them before the next step.
        """
        batch = {domain: x.to(self.device, non_blocking=True) for domain, x in batch.items()}
        key = (variant, *((domain, x.shape) for domain, x in batch.items()))
        if key not in self.recorded:
            if self.warm_up_counts[key] < self.WARM_UP:
                self.warm_up_counts[key] += 1
                return self._run_on_side_stream(batch)
            self.recorded[key] = self._capture(batch)
        graph, inputs, losses = self.recorded[key]
        for domain, images in batch.items():
            inputs[domain].copy_(images, non_blocking=True)
        graph.replay()
        return losses

    def _run_on_side_stream(self, batch: Batch) -> dict[str, Tensor]:
        """Play on the stream of the recording, as a graph needs of what comes before it."""
        now = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(now)
        with torch.cuda.stream(self.stream), warnings.catch_warnings():
            # Optimizers made for a recording warn where they step outside of one.
            warnings.filterwarnings("ignore", message=".*capturable.*")
            losses = self.play(batch)
        now.wait_stream(self.stream)
        return losses

    def _capture(self, batch: Batch) -> tuple[torch.cuda.CUDAGraph, Batch, dict[str, Tensor]]:
        torch.cuda.synchronize(self.device)
        torch.cuda.empty_cache()  # what trying out kernels has taken
        inputs = {domain: x.clone() for domain, x in batch.items()}
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            losses = self.play(inputs)  # nothing runs: it is written down
        return graph, inputs, losses


def prefetch_to_device(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield batches of pinned memory on the device, copied on a stream of their own.

    The host is ahead of the device, so the copy runs beside the step before it.
    """
    stream = torch.cuda.Stream(device)
    for batch in batches:
        with torch.cuda.stream(stream):
            moved = {domain: x.to(device, non_blocking=True) for domain, x in batch.items()}
        now = torch.cuda.current_stream(device)
        now.wait_stream(stream)
        for images in moved.values():
            images.record_stream(now)  # its memory is not given away while a step reads it
        yield moved
