"""Measure the latency and throughput of a generator by image size and precision.

    python benchmarks/inference.py [--sizes 256,512,1024] [--batch 1] [--rounds 5] [--json]
                                   [--variants NAMES]

The generator has 64 channels, 9 blocks and random weights. The variants run in alternation, and the
median is reported. On CUDA, variants also run as a CUDA graph. On a CPU, the generator also runs in
onnxruntime if that is installed, in float32 and with the fastest 8-bit recipe of export.py (which
measures its quality with a trained network and real images).
"""

import argparse
import functools
import importlib.util
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor, nn

from benchmarks.timing import measure_seconds, select_variants
from common.run_main import run_command
from engine.hardware.cuda_graphs import CudaGraphStep
from engine.runtime import Runtime, RuntimeConfig
from models.networks.generators.generator_config import GeneratorConfig
from models.networks.generators.resnet_generator import ResnetGenerator
from models.translator import DeterministicTranslator

VARIANTS = {
    "fp32": RuntimeConfig(precision="fp32"),
    "fp32 compiled": RuntimeConfig(precision="fp32", compile="regions"),
    "bf16": RuntimeConfig(precision="bf16"),
    "bf16 compiled": RuntimeConfig(precision="bf16", compile="regions"),
}
GRAPH_VARIANTS = {
    "tf32 graph": RuntimeConfig(precision="tf32", cuda_graph=True),
    "bf16 graph": RuntimeConfig(precision="bf16", cuda_graph=True),
    "bf16 networks graph": RuntimeConfig(precision="bf16", compile="networks", cuda_graph=True),
}


def prepared(config: RuntimeConfig) -> tuple[nn.Module, Runtime]:
    """Return a full-size translator on its device, and its runtime."""
    torch.manual_seed(0)
    generator = ResnetGenerator(3, 3, GeneratorConfig())
    translator = (
        DeterministicTranslator(generator, "a", "b", 3, 3, 4, 8).eval().requires_grad_(False)
    )
    runtime = Runtime(config)
    runtime.prepare(translator, [generator])
    return translator, runtime


@torch.no_grad()
def translate(translator: nn.Module, runtime: Runtime, image: Tensor) -> Tensor:
    """Translate one batch as translate.py does."""
    runtime.set_tf32()  # a global setting, which the last variant has changed
    with runtime.autocast():
        return translator(runtime.to_device(image))


def recorded(translator: nn.Module, runtime: Runtime) -> Callable[[Tensor], Tensor]:
    """Return a function that translates with a CUDA graph, from the fourth image of a size on."""
    graph_step = CudaGraphStep(
        lambda batch: {"output": translate(translator, runtime, batch["image"])}, runtime.device
    )
    return lambda image: graph_step("translation", {"image": image})["output"]


def onnxruntime_variants(device: torch.device) -> dict[str, Callable[[Tensor], object]]:
    """Return the same network as functions of onnxruntime; empty if that is not installed."""
    if device.type != "cpu" or importlib.util.find_spec("onnxruntime") is None:
        return {}
    from deployment import graph_export, quantization
    from deployment.parity import PICTURES, as_arrays, noise, onnx_runner

    translator, _ = prepared(RuntimeConfig(device="cpu"))
    assert isinstance(translator, DeterministicTranslator)
    with tempfile.TemporaryDirectory() as name:
        plain, small = Path(name) / "model.onnx", Path(name) / "model_int8.onnx"
        plain.write_bytes(graph_export.array_graph(translator, PICTURES, PICTURES, {}))
        variants: dict[str, Callable[[Tensor], object]] = {"onnxruntime fp32": onnx_runner(plain)}
        if quantization.quantize(
            plain, small, [as_arrays(x, PICTURES) for x in noise(3, 4)], quantization.RECIPES[0]
        ):
            variants["onnxruntime int8"] = onnx_runner(small)
    return variants


def main(arguments: list[str]) -> None:
    """Parse the command line and run the benchmark."""
    parser = argparse.ArgumentParser(prog="inference.py", description=__doc__)
    parser.add_argument("--sizes", default="256,512,1024")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--variants", default="", help="names of variants to run, separated by commas"
    )
    args = parser.parse_args(arguments)
    device = Runtime(RuntimeConfig()).device
    actions: dict[str, Callable[[Tensor], object]] = {
        name: functools.partial(translate, *prepared(config)) for name, config in VARIANTS.items()
    }
    if device.type == "cuda":
        actions |= {name: recorded(*prepared(config)) for name, config in GRAPH_VARIANTS.items()}
    actions |= onnxruntime_variants(device)
    if args.variants:
        actions = select_variants("--variants", args.variants, actions)
    for size in map(int, args.sizes.split(",")):
        image = torch.rand(args.batch, 3, size, size) * 2 - 1
        times: dict[str, list[float]] = {name: [] for name in actions}
        # The first round compiles; a CUDA graph is captured after a few warm-up runs.
        untimed = CudaGraphStep.WARM_UP + 1 if device.type == "cuda" else 1
        for number in range(untimed + args.rounds):
            for name, action in actions.items():
                seconds = measure_seconds(functools.partial(action, image), device)
                if number >= untimed:
                    times[name].append(seconds)
        for name, values in times.items():
            median = statistics.median(values)
            row = {"precision": name, "size": size, "batch": args.batch,
                   "seconds": round(median, 4),
                   "images_per_second": round(args.batch / median, 2)}  # fmt: skip
            print(
                json.dumps(row) if args.json else f"{name:<18}{size:>6}{median:>9.3f} s",
                flush=True,
            )


if __name__ == "__main__":
    run_command(main)
