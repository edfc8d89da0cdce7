"""Base policies as files: round trips, DPPO's .pt, and what is said of a file that does not fit."""

import numpy as np
import pytest
import torch

from dpft.envs import DataError
from dpft.methods.interface import Spec
from dpft.methods.policy.checkpoint import load_policy, save_policy
from dpft.methods.policy.config import PolicyConfig, PretrainConfig
from dpft.methods.policy.models import make_policy
from dpft.methods.policy.pretrain import pretrain

SPEC = Spec(obs_dim=11, action_dim=3, chunk=4, gamma=0.99)
CONFIG = PolicyConfig(hidden=(32, 32, 32))
REFERENCE = "tests/methods/reference/dppo_small.pt"


@pytest.fixture
def saved(tmp_path):
    policy = make_policy("diffusion", CONFIG, SPEC, 10, seed=3)
    path = tmp_path / "base.safetensors"
    save_policy(path, policy, {"obs_min": np.arange(11, dtype=np.float32)}, {"note": "x"})
    return path, policy


def test_round_trip(saved):
    path, policy = saved
    again, arrays = load_policy(path, "diffusion", CONFIG, SPEC, 10)
    for name, value in policy.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert arrays["obs_min"].tolist() == list(range(11))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"denoising_steps": 20}, "denoising_steps is 10, the run asks for 20"),
        ({"denoising_steps": 3}, "prediction is epsilon, the run asks for x0"),
        (
            {"config": PolicyConfig(hidden=(64, 64, 64))},
            r"network.trunk.input.weight is \[32, 39\], expected \[64, 39\]",
        ),
        ({"config": PolicyConfig(hidden=(32,) * 5)}, "network.trunk.blocks.1.first.weight is missing"),
        ({"spec": Spec(17, 6, 4, 0.99)}, r"is \[32, 39\], expected \[32, 57\]"),
        ({"kind": "gaussian"}, "kind is diffusion, the run asks for gaussian"),
    ],
    ids=str,
)
def test_a_base_that_does_not_fit_is_named_layer_by_layer(saved, change, words):
    asked = {"kind": "diffusion", "config": CONFIG, "spec": SPEC, "denoising_steps": 10} | change
    with pytest.raises(DataError, match=words) as caught:
        load_policy(saved[0], **asked)
    assert "\n" not in str(caught.value)


def dppo_checkpoint(tmp_path, **changes):
    """A pre-training checkpoint as DPPO writes it, with the reference's own weights."""
    weights = torch.load(REFERENCE, weights_only=True)["dppo"]["actor_base"]
    ema = {f"network.{name}": value for name, value in weights.items()} | changes
    path = tmp_path / "state_3000.pt"
    torch.save({"epoch": 3000, "model": {}, "ema": ema}, path)
    return path


def test_dppo_checkpoint(tmp_path):
    policy, arrays = load_policy(dppo_checkpoint(tmp_path), "diffusion", CONFIG, SPEC, 20)
    assert arrays == {}
    probe = torch.load(REFERENCE, weights_only=True)["dppo"]["probe"]
    obs = torch.load(REFERENCE, weights_only=True)["dppo"]["obs"][:, 0]
    torch.testing.assert_close(policy.network(probe["x"], probe["t"], policy.network.encode(obs)), probe["eps_base"])


def test_dppo_checkpoint_with_a_layer_too_many(tmp_path):
    path = dppo_checkpoint(tmp_path, **{"network.cond_mlp.0.weight": torch.zeros(2, 2)})
    with pytest.raises(DataError, match=r"network.cond_mlp.0.weight is not part of this policy"):
        load_policy(path, "diffusion", CONFIG, SPEC, 20)


def test_damaged_files(tmp_path, saved):
    truncated = tmp_path / "short.safetensors"
    truncated.write_bytes(saved[0].read_bytes()[:200])
    foreign = tmp_path / "foreign.pt"
    torch.save({"weights": torch.zeros(3)}, foreign)
    garbage = tmp_path / "garbage.pt"
    garbage.write_bytes(b"not a checkpoint")
    for path, words in [
        (truncated, "not a complete safetensors file"),
        (foreign, 'no entry "ema"'),
        (garbage, "cannot read base policy"),
        (tmp_path / "nowhere.pt", "no base policy at"),
    ]:
        with pytest.raises(DataError, match=words) as caught:
            load_policy(path, "diffusion", CONFIG, SPEC, 10)
        assert "\n" not in str(caught.value)


def test_a_pickle_with_code_is_not_executed(tmp_path):
    class Evil:
        def __reduce__(self):
            return (tmp_path.joinpath("owned").write_text, ("x",))

    path = tmp_path / "evil.pt"
    torch.save({"ema": Evil()}, path)
    with pytest.raises(DataError):
        load_policy(path, "diffusion", CONFIG, SPEC, 10)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("kind", ["diffusion", "gaussian"])
def test_cloning_learns_and_is_reproducible(kind):
    """A clone of chunks that are a function of the observation comes close to it, with the same bits each time."""
    rng = np.random.default_rng(0)
    obs = rng.uniform(-1, 1, (2000, 11)).astype(np.float32)
    chunks = np.repeat(np.tanh(obs[:, None, :3]), 4, 1)
    settings = PretrainConfig(steps=600, batch=128)
    weights = []
    for _ in range(2):
        policy = make_policy(kind, PolicyConfig(hidden=(64, 64, 64), prediction="x0"), SPEC, 10, seed=0)
        pretrain(policy, obs, chunks, settings, seed=0)
        weights.append(policy.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    inputs = torch.from_numpy(obs[:200])
    with torch.no_grad():
        if kind == "diffusion":
            out = policy.denoise(inputs, policy.chain().noise(200, 4, 3, torch.Generator().manual_seed(0)))
        else:
            out, std = policy(inputs)
            assert ((std >= 0.01) & (std <= 0.2)).all()
    untrained = torch.from_numpy(chunks[:200]).square().mean()
    assert (out - torch.from_numpy(chunks[:200])).square().mean() < 0.1 * untrained


@pytest.mark.parametrize(("steps", "decay"), [(100, 0.995), (4000, 0.995), (4000, 0.5)])
def test_the_average_forgets_the_start(monkeypatch, steps, decay):
    """Weights of the average by the step they come from, read off a policy whose only parameter is its step."""

    class Clock(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.late = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))

        def draw_cloning_loss(self, obs, chunk, rng):
            return 0 * self.late

    class Tick(torch.optim.SGD):
        """Counts what comes after the first tenth of the steps."""

        def __init__(self, parameters, lr, **_):
            super().__init__(parameters, lr)
            self.count = 0

        def step(self):
            self.count += 1
            self.param_groups[0]["params"][0].data.fill_(float(self.count > steps // 10))

    monkeypatch.setattr(torch.optim, "AdamW", Tick)
    clock = Clock()
    pretrain(clock, np.zeros((9, 1)), np.zeros((9, 1, 1)), PretrainConfig(steps=steps, batch=4, ema_decay=decay), 0)
    assert clock.late > 0.99  # before: 0.84 of 4,000 steps


def test_nothing_to_clone():
    policy = make_policy("gaussian", CONFIG, SPEC, 1, seed=0)
    with pytest.raises(ValueError, match="nothing to clone"):
        pretrain(policy, np.zeros((0, 11), np.float32), np.zeros((0, 4, 3), np.float32), PretrainConfig(), 0)
