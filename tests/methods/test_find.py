"""What is particular to FIND: N(0, I) at first, the pull to it, the clamp, the rollouts that are learned from again."""

import copy
from dataclasses import replace

import pytest
import torch

from dpft.methods.conformance import SPEC, build, exploit, observations, roll_out
from dpft.methods.find import FIND, clamped_surrogate, kl_pull, quadratic_pull
from dpft.methods.ppo import clipped_surrogate, gaussian_log_prob


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_zero_updates_are_the_base_policy_under_its_own_sampler(eta):
    """Exploring and evaluating, bit for bit; the chain's own noise is drawn with x_K."""
    method, obs = build(FIND, {"eta": eta}), observations()
    state = method.rng.get_state()
    explored = method.act(obs).chunk
    method.rng.set_state(state)
    noise = method.chain.noise(len(obs), SPEC.chunk, SPEC.action_dim, method.rng)
    assert noise.shape[1] == (1 if eta == 0 else len(method.chain) + 1)
    with torch.no_grad():
        base = method.policy.denoise(obs, noise, method.policy.chain("ddim", eta=eta))
    assert torch.equal(explored, base)
    method.rng.set_state(state)
    assert torch.equal(method.exploit(obs), base)


def test_the_decoder_stays_as_it_was():
    method = build(FIND)
    before = copy.deepcopy(method.policy.state_dict())
    method.update(roll_out(method))
    assert all(torch.equal(value, before[name]) for name, value in method.policy.state_dict().items())


def test_the_mean_alone_may_be_evaluated():
    method = build(FIND, {"evaluate_noise": "mean", "learning_rate": 1e-3})
    method.update(roll_out(method))
    obs = observations()
    assert torch.equal(method.trace(obs)[:, 0], method.initial(obs)[0])
    assert not torch.equal(method.act(obs).memo["noise"], method.initial(obs)[0])


def test_the_kl_pull_is_the_divergence_from_the_standard_normal():
    mean, std = torch.randn(50, generator=torch.Generator().manual_seed(0)), torch.linspace(0.1, 3, 50)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, std), torch.distributions.Normal(0.0, 1.0)
    )
    torch.testing.assert_close(kl_pull(mean, std), expected)
    square = mean**2 + (std - 1) ** 2
    torch.testing.assert_close(quadratic_pull(mean, std), square)


@pytest.mark.parametrize("pull", ["kl", "quadratic"])
def test_a_strong_pull_keeps_the_noise_standard(pull):
    distances = []
    for coefficient in (0.0, 10.0):
        method = build(
            FIND, {"hidden": (32,), "pull": pull, "pull_coef": coefficient, "learning_rate": 3e-3, "target_kl": None}
        )
        for number in range(4):
            method.update(roll_out(method, number))
        distances.append(kl_pull(*method.initial(observations())).mean().item())
    assert 0 <= distances[1] < 0.2 * distances[0]


def test_the_plain_clamp_is_dead_outside_and_the_minimum_leads_back():
    advantage, clip = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0]), torch.full((6,), 0.2)
    moves = {}
    for name, surrogate in (("min", clipped_surrogate), ("clamp", clamped_surrogate)):
        log_ratio = torch.tensor([0.5, 0.5, -0.5, -0.5, 0.1, 0.1], requires_grad=True)
        surrogate(log_ratio, advantage, clip).sum().backward()
        moves[name] = (log_ratio.grad != 0).tolist()
    assert moves["min"] == [False, True, True, False, True, True]
    assert moves["clamp"] == [False, False, False, False, True, True]


@pytest.mark.parametrize(("surrogate", "dead"), [("clamp", True), ("min", False)])
def test_the_switch_reaches_the_loss(surrogate, dead):
    """All ratios far above the box, all advantages negative: only the minimum has a gradient."""
    method = build(FIND, {"surrogate": surrogate, "pull_coef": 0.0})
    data = method.learned_from(roll_out(method))
    data = data | {"log_prob": data["log_prob"] - 1}
    decision = torch.arange(len(data["obs"]))
    loss, _ = method.policy_loss(data, decision, torch.zeros_like(decision), -torch.ones(len(decision)))
    (gradient,) = torch.autograd.grad(loss, method.heads.output.bias)
    assert bool((gradient == 0).all()) == dead


def test_old_rollouts_keep_their_own_log_probabilities():
    """The newest `reuse` rollouts, each beside the density it was drawn from; as released it is N(0, I) for ever."""
    method = build(FIND, {"reuse": 2, "learning_rate": 1e-3, "target_kl": None})
    drawn = []
    for number in range(3):
        rollout = roll_out(method, number)
        obs, noise = rollout.obs.flatten(0, 1), rollout.memo["noise"].flatten(0, 1)
        drawn.append((noise, gaussian_log_prob(noise, *method.initial(obs)).mean((1, 2)).detach()))
        method.update(rollout)
    rows = method.recent.rows()
    for noise, log_prob in drawn[1:]:
        (at,) = torch.where((rows["noise"][:, None] == noise[None]).all((2, 3)).any(1))
        torch.testing.assert_close(rows["noise"][at], noise)
        torch.testing.assert_close(rows["log_prob"][at], log_prob)
    assert len(rows["noise"]) == 2 * len(noise)  # the first rollout is gone
    assert (method.log_prob(rows, torch.arange(len(rows["noise"]))) - rows["log_prob"]).abs().max() > 1e-3


def test_reused_rollouts_survive_save_and_restore():
    """Without them the restored method would learn something else."""
    settings = {"reuse": 3, "learning_rate": 1e-3}
    method = build(FIND, settings)
    for number in range(2):
        method.update(roll_out(method, number))
    restored, forgetful = build(FIND, settings, seed=7), build(FIND, settings, seed=7)
    state = copy.deepcopy(method.state_dict())
    restored.load_state_dict(state)
    forgetful.load_state_dict(state | {"recent": {"added": 0, "columns": {}}})
    newest = roll_out(method, 2)
    method.rng.set_state(state["rng"])
    metrics = [each.update(newest) for each in (method, restored, forgetful)]
    assert metrics[0] == metrics[1] != metrics[2]
    chunks = [exploit(each, observations()) for each in (method, restored, forgetful)]
    assert torch.equal(chunks[0], chunks[1])
    assert not torch.equal(chunks[0], chunks[2])


def test_bfloat16_keeps_old_log_probabilities_too():
    method = build(FIND, {"reuse": 2, "precision": "bfloat16", "learning_rate": 1e-3, "target_kl": None})
    method.update(roll_out(method))
    before = method.recent.rows()["log_prob"].clone()
    method.update(roll_out(method, 1))
    assert torch.equal(method.recent.rows()["log_prob"][: len(before)], before)


@pytest.mark.parametrize("settings", [{}, {"surrogate": "clamp", "pull": "quadratic", "reuse": 1}])
def test_it_learns_to_steer(settings):
    """Reward is a linear function of the chunk: its mean rises by the base's own deviation within a few updates."""
    small = {"num_envs": 40, "critic_hidden": (32,), "hidden": (32,), "learning_rate": 0.01, "clip": 0.2}
    method = build(FIND, small | {"gae_lambda": 0.0} | settings)
    weight = torch.linspace(-1, 1, SPEC.chunk * SPEC.action_dim).view(SPEC.chunk, SPEC.action_dim)
    rewards = []
    for number in range(8):
        rollout = roll_out(method, number)
        rollout = replace(rollout, reward=(rollout.chunk * weight).sum((2, 3)))
        rewards.append(rollout.reward)
        method.update(rollout)
    assert rewards[-1].mean() > rewards[0].mean() + rewards[0].std()


def test_the_deviation_stays_inside_its_bound_and_the_ratio_finite():
    method = build(FIND, {"std_bound": 2.0, "learning_rate": 0.03, "target_kl": None})
    for number in range(3):
        metrics = method.update(roll_out(method, number))
        assert all(torch.tensor(list(metrics.values())).isfinite())
    std = method.initial(observations())[1]
    assert ((std > 0.499) & (std < 2.001)).all()
    assert (std - 1).abs().max() > 0.4  # it was driven there


def test_an_entropy_bonus_is_refused():
    with pytest.raises(ValueError, match="pull_coef is what keeps it up"):
        FIND.Config(entropy_coef=0.01)
