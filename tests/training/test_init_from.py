"""Initial weights: what is loaded, what is not, and the reason."""

import json

import pytest
import torch

import train
from common.errors import UserError
from engine.checkpoint import Checkpoints
from models.methods.cyclegan import CycleGAN
from models.networks.discriminators.patch_discriminator import PatchDiscriminator
from models.networks.generators.generator_config import GeneratorConfig
from tests.conftest import TINY, call, refusal, shrink
from tests.engine.test_cyclegan_repo_checkpoint import Restated, written
from training.init_from import load_initial_weights, load_table, new_and_loaded_groups


def new_method(channels: int = 4) -> CycleGAN:
    torch.manual_seed(7)
    config = shrink("cyclegan")
    assert isinstance(config, CycleGAN.Config)
    config = CycleGAN.Config(
        generator=GeneratorConfig(channels=channels, blocks=1),
        discriminator=PatchDiscriminator.Config(channels=4, layers=1),
    )
    return CycleGAN(config, {"x": 3, "y": 3})


class RepoDiscriminator(torch.nn.Module):
    """A discriminator of one layer of the CycleGAN repository, with its names of parameters."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        nn = torch.nn
        self.model = nn.Sequential(
            nn.Conv2d(3, channels, 4, 2, 1), nn.LeakyReLU(0.2),
            nn.Conv2d(channels, 2 * channels, 4, 1, 1), nn.InstanceNorm2d(2 * channels),
            nn.LeakyReLU(0.2), nn.Conv2d(2 * channels, 1, 4, 1, 1),
        )  # fmt: skip

    def forward(self, x):
        return self.model(x)


def test_the_ema_and_discriminators_of_a_run_initialize_another_pair_of_domains(trained):
    method = new_method()
    rows = load_initial_weights(method, trained, strict=True)
    assert [(row.network, row.loaded == row.tensors, row.reason) for row in rows] == [
        (name, True, "")
        for name in ("generator_ab", "generator_ba", "discriminator_a", "discriminator_b")
    ]
    state = Checkpoints(trained / "checkpoints").load_latest()
    ema, raw = state["ema"], state["method"]
    names = [name for name, _ in method.generator_ab.named_parameters()]
    for name, value in zip(names, method.generator_ab.parameters(), strict=True):
        assert torch.equal(value, ema[f"a_to_b.generator.{name}"])
    weight = method.discriminator_a.state_dict()["body.0.weight"]
    assert torch.equal(weight, raw["discriminator_a.body.0.weight"])
    assert new_and_loaded_groups(method, rows) == ([], ["generators", "discriminators"])


def test_files_of_the_cyclegan_repository_initialize_their_networks(tmp_path):
    torch.manual_seed(0)

    def network(name: str) -> torch.nn.Module:
        return Restated(4, 1) if name[0] == "G" else RepoDiscriminator(4)

    networks = {name: network(name) for name in ("G_A", "G_B", "D_A", "D_B")}
    for name, latest in networks.items():
        written(tmp_path, latest, name=f"latest_net_{name}.pth")
        written(tmp_path, network(name), name=f"5_net_{name}.pth")
    method = new_method().eval()
    rows = load_initial_weights(method, tmp_path, strict=True)
    assert all(row.loaded == row.tensors for row in rows)
    x = torch.rand(1, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        for ours, theirs in (
            (method.generator_ab, "G_A"), (method.generator_ba, "G_B"),
            (method.discriminator_b, "D_A"), (method.discriminator_a, "D_B"),
        ):  # fmt: skip
            assert (ours(x) - networks[theirs](x)).abs().max() < 1e-5, theirs


def test_weights_that_do_not_fit_are_refused_or_skipped_with_the_reason(trained):
    method = new_method(channels=6)
    with pytest.raises(
        UserError, match=r"generator_ab .*encoder\.1\.weight is 4x3x7x7, not 6x3x7x7"
    ) as answer:
        load_initial_weights(method, trained, strict=True)
    assert (answer.value.option, answer.value.path) == ("init_from", str(trained))
    rows = load_initial_weights(new_method(channels=6), trained, strict=False)
    assert [row.loaded == row.tensors for row in rows] == [False, False, True, True]
    shown = load_table(rows)
    assert "6x3x7x7" in shown and len(shown.splitlines()) == 5


def test_a_generator_alone_leaves_the_discriminators_as_initialized(tmp_path):
    written(tmp_path, Restated(4, 1), name="latest_net_G_A.pth")
    method = new_method()
    rows = load_initial_weights(method, tmp_path / "latest_net_G_A.pth", strict=True)
    assert [row.loaded > 0 for row in rows] == [True, False, False, False]
    assert {row.reason for row in rows[1:]} == {"not there: fresh"}
    assert new_and_loaded_groups(method, rows) == (["generators", "discriminators"], [])


def test_mistakes_are_one_line_and_leave_no_checkpoint(photos, trained, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "x_net_G_A.pth").write_bytes(b"broken")
    written(tmp_path / "odd", Restated(4, 1), name="generator.pth")
    for path in (
        tmp_path / "none", tmp_path / "empty", tmp_path / "x_net_G_A.pth",
        tmp_path / "odd/generator.pth", trained / "options.yaml",
    ):  # fmt: skip
        words = ["cyclegan", f"data.root={photos}", f"run={tmp_path / 'run'}", "duration=2 steps",
                 *TINY, f"init_from={path}"]  # fmt: skip
        code, error = call(train, *words)
        assert code == 2 and "\n" not in error, error
        assert refusal(train, *words).path == str(path), error
    assert not (tmp_path / "run/checkpoints").exists()


def test_loaded_generators_stay_frozen_while_new_discriminators_train_also_after_a_resume(
    photos, tmp_path, capsys
):
    for name in ("G_A", "G_B"):
        written(tmp_path, Restated(4, 1), name=f"latest_net_{name}.pth")
    words = ["cyclegan", f"data.root={photos}", *TINY, f"init_from={tmp_path}", "log.every=1",
             "init_freeze_steps=4", "checkpoint_every=2", "keep_checkpoints=9"]  # fmt: skip
    assert call(train, *words, f"run={tmp_path / 'run'}", "duration=8 steps") == (0, "")
    assert (
        "the generators stay frozen for 4 steps while the discriminators train"
        in capsys.readouterr().out
    )
    folder = Checkpoints(tmp_path / "run/checkpoints").folder
    states = [
        torch.load(folder / f"step_{n:08d}.pt", weights_only=True)["method"] for n in (2, 4, 6)
    ]
    generator, discriminator = "generator_ab.encoder.1.weight", "discriminator_a.body.0.weight"
    assert torch.equal(states[0][generator], states[1][generator])
    assert not torch.equal(states[1][generator], states[2][generator])
    assert not torch.equal(states[0][discriminator], states[1][discriminator])
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert "gradients/generators" not in rows[3] and "gradients/generators" in rows[4]

    part = tmp_path / "part"
    real, count = Checkpoints.save, []

    def stopping(self, *words):
        path = real(self, *words)
        count.append(path)
        if len(count) == 1:
            raise KeyboardInterrupt
        return path

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save", stopping)
        with pytest.raises(KeyboardInterrupt):
            call(train, *words, f"run={part}", "duration=8 steps")
    assert call(train, *words, f"run={part}", "duration=8 steps") == (0, "")
    for one, two in zip(*(Checkpoints(r / "checkpoints").load_latest()["method"].values()
                          for r in (tmp_path / "run", part)), strict=True):  # fmt: skip
        assert not torch.is_tensor(one) or torch.equal(one, two)
