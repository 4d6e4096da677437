"""Open a trained run, a checkpoint, a bundle or an artifact: its options and its translators."""

from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from common.errors import UserError, as_user_error
from data.config import DataConfig
from engine.checkpoint import Checkpoints, load_checkpoint, state_dict_mismatch
from engine.checkpoint_content import check_content, check_sizes
from engine.cyclegan_repo_checkpoint import direction_of_file, read_reference
from engine.runtime import Runtime, RuntimeConfig
from engine.tracking.wandb_download import PREFIX, download_artifact
from inference.exported_bundle import (
    Weights,
    build_translator,
    is_bundle,
    options_of_bundle,
    read_bundle,
)
from models import methods
from models.methods.cyclegan import CycleGAN
from models.networks.generators.resnet_generator import ResnetGenerator
from models.translator import DeterministicTranslator, Translator
from options.config import CheckpointChoice, TrainOptions
from options.load import from_yaml, saved_options


@dataclass(frozen=True)
class Run:
    """A trained run: its translators by direction, in evaluation mode, on the device."""

    path: Path
    options: TrainOptions
    translators: dict[str, Translator]
    runtime: Runtime
    step: int
    weights: Weights  # of the translators: the EMA, or the weights themselves (raw)


def open_run(
    path: str | Path, runtime: RuntimeConfig | None = None, checkpoint: CheckpointChoice = "latest",
    use_ema: bool = True,
) -> Run:  # fmt: skip
    """Open a run folder, checkpoint, bundle, artifact, or *_net_G*.pth of the CycleGAN repository.

    Architecture, directions and normalization come from the checkpoint. UserError names the path if
    it is not a run, or if its checkpoint cannot be read.
    """
    path = resolve_artifact(path)
    if path.suffix == ".pth":
        return _open_repo_generator(path, Runtime(runtime or RuntimeConfig()))
    if path.is_dir() and is_bundle(path):
        return _open_bundle(path, Runtime(runtime or RuntimeConfig()))
    if path.is_file():
        state, path = load_checkpoint(path), path.resolve().parent.parent
    elif (path / "checkpoints").is_dir():
        checkpoints = Checkpoints(path / "checkpoints")
        if not checkpoints.exist():
            raise UserError(f"{path} has no checkpoint yet; train it first", path=path)
        state = checkpoints.load_latest() if checkpoint == "latest" else checkpoints.load_best()
    elif path.exists():
        raise UserError(
            f"{path} is not a run: it has no checkpoints folder; train.py makes one", path=path
        )
    else:
        raise UserError(f"no such run: {path}", path=path)
    check_content(state, path)
    options = from_yaml(state["options"], str(path))
    check_sizes(options.method, state["method"], path)
    check_sizes(options.data, state["method"], path, "data")
    machine = Runtime(runtime or RuntimeConfig())
    try:
        method = methods.build(options.method, options.data.channels_of())
    except ValueError as error:  # pretrained weights that the method needs are not on this machine
        raise as_user_error(error, path) from None
    translators: nn.ModuleDict = method.translators()
    ema = state["ema"] if use_ema else None
    module, weights = (method, state["method"]) if ema is None else (translators, ema)
    if mismatch := state_dict_mismatch(module.state_dict(), weights):
        raise UserError(f"{path}: its weights do not fit its options: {mismatch}", path=path)
    module.load_state_dict(weights)
    translators.eval().requires_grad_(False)
    machine.prepare(translators, networks=list(translators.children()))
    by_direction = {name: t for name, t in translators.items() if isinstance(t, Translator)}
    return Run(path, options, by_direction, machine, state["step"], "raw" if ema is None else "ema")


def resolve_artifact(path: str | Path) -> Path:
    """Return a path; wandb:ENTITY/PROJECT/NAME:ALIAS is downloaded into runs/artifacts first."""
    word = str(path)
    return (
        download_artifact(word, Path("runs/artifacts")) if word.startswith(PREFIX) else Path(path)
    )


def _open_repo_generator(path: Path, machine: Runtime) -> Run:
    """Open a generator of pytorch-CycleGAN-and-pix2pix; its options follow from its weights."""
    generator = read_reference(path)
    source, target = direction_of_file(path)
    channels = {source: generator.in_channels, target: generator.out_channels}
    translator = DeterministicTranslator(
        generator, source, target, channels[source], channels[target],
        ResnetGenerator.multiple, ResnetGenerator.minimum,
    )  # fmt: skip
    machine.prepare(translator.eval(), networks=[generator])
    config = CycleGAN.Config(generator=generator.config)
    if channels[source] != channels[target]:  # then an identity loss is impossible
        config = replace(config, identity_weight=0.0)
    domains = sorted(channels)
    data = DataConfig(domains=domains, channels=[channels[domain] for domain in domains])
    options = TrainOptions(method=config, data=data)
    return Run(path, options, {f"{source}_to_{target}": translator}, machine, 0, "raw")


def _open_bundle(path: Path, machine: Runtime) -> Run:
    bundle = read_bundle(path)
    translator = build_translator(bundle)
    machine.prepare(translator, networks=[translator])
    return Run(
        path, bundle.options, {bundle.direction: translator}, machine, bundle.step, bundle.weights
    )


def options_of(path: str | Path) -> TrainOptions:
    """Return the options of a run folder, a checkpoint in it, or a bundle, without its weights."""
    if Path(path).is_dir() and is_bundle(path):
        return options_of_bundle(path)
    if Path(path).suffix == ".pth":
        raise UserError(
            f"{path}: a .pth file has no data options; use it with translate.py or export.py",
            path=path,
        )
    folder = Path(path).resolve().parent.parent if Path(path).is_file() else Path(path)
    if not folder.exists():
        raise UserError(f"no such run: {path}", path=path)
    saved = folder / "options.yaml"
    if not saved.is_file():
        raise UserError(
            f"{path} is not a run: it has no options.yaml; train.py makes one", path=path
        )
    return saved_options(saved)


def direction_of(run: Run, wanted: str = "") -> str:
    """Return the `wanted` direction, or the only one; UserError if it is unknown or needed."""
    names = list(run.translators)
    if wanted in names:
        return wanted
    if wanted:
        raise UserError(
            f"direction={wanted}: this run has {' and '.join(names)}", option="direction"
        )
    if len(names) > 1:
        raise UserError(
            f"choose a direction: direction={' or direction='.join(names)}", option="direction"
        )
    return names[0]
