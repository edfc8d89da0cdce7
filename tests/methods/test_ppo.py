"""Advantages at the ends of episodes, reward scaling, minibatches."""

import pytest
import torch

from dpft.methods.conformance import build, roll_out
from dpft.methods.dppo import DPPO
from dpft.methods.gaussian_ppo import GaussianPPO
from dpft.methods.ncdpo import NCDPO
from dpft.methods.ppo import RewardScaler, clipped_surrogate, gae, shuffled


def flags(*rows: int, length: int = 4) -> torch.Tensor:
    done = torch.zeros(length, 1, dtype=torch.bool)
    for row in rows:
        done[row] = True
    return done


def test_a_time_out_bootstraps_and_a_termination_does_not():
    reward, value, following = torch.ones(4, 1), torch.zeros(4, 1), torch.full((4, 1), 10.0)
    none = flags()
    ended, _ = gae(reward, value, following, flags(1), none, 0.9, 0.95)
    timed_out, _ = gae(reward, value, following, none, flags(1), 0.9, 0.95)
    assert ended[1].item() == pytest.approx(1.0)  # reward alone
    assert timed_out[1].item() == pytest.approx(1.0 + 0.9 * 10)  # reward and the value of the final observation
    # the trace stops at both: what comes before sees nothing of the next episode
    changed = reward.clone()
    changed[2:] = 100.0
    for advantage, marks in ((ended, (flags(1), none)), (timed_out, (none, flags(1)))):
        again, _ = gae(changed, value, following, *marks, 0.9, 0.95)
        torch.testing.assert_close(advantage[:2], again[:2])


def test_gae_with_lambda_one_is_the_discounted_return():
    rng = torch.Generator().manual_seed(0)
    reward, value = torch.randn(6, 2, generator=rng), torch.randn(7, 2, generator=rng)
    none = torch.zeros(6, 2, dtype=torch.bool)
    _, returns = gae(reward, value[:-1], value[1:], none, none, 0.9, 1.0)
    expected = value[-1]
    for t in reversed(range(6)):
        expected = reward[t] + 0.9 * expected
    torch.testing.assert_close(returns[0], expected)


def test_time_limit_switch():
    """The released behaviour: a time-out is a terminal state."""
    results = {}
    for mode in ("bootstrap", "terminal"):
        method = build(GaussianPPO, {"time_limit": mode, "reward_scaling": False})
        rollout = roll_out(method)
        assert rollout.truncated.any()
        results[mode] = method.estimate_advantages(rollout)["advantage"].view_as(rollout.reward), rollout
    differs = results["bootstrap"][0] != results["terminal"][0]
    assert differs[results["bootstrap"][1].truncated].all()


def test_reward_scaling_starts_anew_with_each_episode():
    scaler = RewardScaler(1, 0.5, torch.device("cpu"))
    scaler(torch.ones(4, 1), flags(1))
    assert scaler.running.item() == pytest.approx(1 + 0.5)


@pytest.mark.parametrize(("count", "batches"), [(10, 3), (4, 4), (3, 5), (1, 1)])
def test_minibatches_are_disjoint(count, batches):
    parts = list(shuffled(count, batches, torch.Generator().manual_seed(0)))
    everything = torch.cat(parts)
    assert len(everything.unique()) == len(everything) == (count // batches or 1) * min(batches, count)
    assert len(parts) == min(batches, count)


def test_clipping_stops_the_gradient_in_one_direction_only():
    log_ratio = torch.tensor([0.5, -0.5, 0.5, -0.5], requires_grad=True)
    advantage = torch.tensor([1.0, 1.0, -1.0, -1.0])
    clipped_surrogate(log_ratio, advantage, torch.full((4,), 0.2)).sum().backward()
    assert (log_ratio.grad != 0).tolist() == [False, True, True, False]


def test_critic_loss_weighs_states_by_their_samples():
    """One evaluation per state gives what one per sample gives."""
    method = build(DPPO)
    rollout = roll_out(method)
    data = method.flatten(rollout) | method.estimate_advantages(rollout)
    decision = torch.tensor([0, 0, 0, 5, 7, 7])
    expected = 0.5 * (method.critic(data["obs"][decision]) - data["return"][decision]).square().mean()
    (loss,) = method.critic_losses(data, decision)
    torch.testing.assert_close(loss, expected)


def test_slices_of_a_minibatch_add_up_to_its_gradient(monkeypatch):
    gradients, metrics = [], []
    for size in (10_000, 7):
        monkeypatch.setattr("dpft.methods.ppo.SLICE", size)
        method = build(DPPO, {"epochs": 1, "minibatches": 1, "max_grad_norm": None})
        metrics.append(method.update(roll_out(method)))
        gradients.append(
            torch.cat([p.grad.flatten() for net in (method.policy, method.critic) for p in net.parameters()])
        )
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-7)
    assert metrics[1] == pytest.approx(metrics[0], rel=1e-4, abs=1e-6)


def joint_region(cls, chunk: int, **settings) -> list[float]:
    """The joint ratios at which the mean ratio's gradient stops, for a chunk of SPEC's two action dimensions."""
    method = build(cls, {"log_prob": "mean", "clip": 0.05} | settings)
    joint = torch.linspace(-3, 3, 60_001, dtype=torch.float64)
    log_ratio = method.reduce((joint / (2 * chunk)).view(-1, 1, 1).expand(-1, chunk, 2)).requires_grad_()
    moves = torch.zeros(len(joint), dtype=torch.bool)
    for advantage in (-1.0, 1.0):
        loss = clipped_surrogate(log_ratio, torch.full_like(joint, advantage), torch.tensor(0.05)).sum()
        moves |= torch.autograd.grad(loss, log_ratio)[0] == 0
    inside = joint[~moves].exp()
    return [inside.min().item(), inside.max().item()]


@pytest.mark.parametrize("cls", [DPPO, NCDPO, GaussianPPO])
def test_the_mean_ratios_region_of_a_fixed_root_is_the_same_for_every_chunk(cls):
    assert joint_region(cls, 6) == pytest.approx([0.95**12, 1.05**12], rel=1e-3)  # as released: looser
    assert joint_region(cls, 12) == pytest.approx([0.95**24, 1.05**24], rel=1e-3)  # the longer the chunk
    for chunk in (1, 6, 12):
        region = joint_region(cls, chunk, ratio_elements=12)
        assert region == pytest.approx([0.95**12, 1.05**12], rel=1e-3)
    with pytest.raises(ValueError, match="the joint ratio has no root"):
        cls.Config(log_prob="joint", ratio_elements=12)


def test_minibatches_of_one_decision_are_refused():
    with pytest.raises(ValueError, match="5 minibatches of 8 decisions leave one for each"):
        DPPO.Config(num_envs=4, decisions_per_update=2)
    DPPO.Config(num_envs=5, decisions_per_update=2)


def test_kl_stop_ends_an_update_early():
    free = build(GaussianPPO, {"target_kl": None, "learning_rate": 0.01})
    stopped = build(GaussianPPO, {"target_kl": 0.01, "learning_rate": 0.01})
    assert free.update(roll_out(free))["policy/gradient_steps"] == 50
    assert stopped.update(roll_out(stopped))["policy/gradient_steps"] < 50


def test_critic_warm_up_leaves_the_actor_alone():
    method = build(GaussianPPO, {"critic_warmup": 1, "target_kl": None})
    before = [p.clone() for p in method.policy.parameters()]
    assert method.update(roll_out(method))["policy/gradient_steps"] == 0
    assert all(torch.equal(a, b) for a, b in zip(before, method.policy.parameters(), strict=True))
    method.update(roll_out(method))
    assert any(not torch.equal(a, b) for a, b in zip(before, method.policy.parameters(), strict=True))


@pytest.mark.parametrize("cls", [NCDPO, GaussianPPO])
def test_the_deviation_that_is_reported_is_inside_its_bounds(cls):
    """A step may leave the parameter outside: the next use brings it back, and that is what was reported."""
    method = build(cls, {"learning_rate": 1.0, "target_kl": None})
    config = method.config if cls is NCDPO else method.policy.config
    for number in range(3):
        std = method.update(roll_out(method, number))["policy/std"]
        assert config.std_bounds[0] * 0.999 <= std <= config.std_bounds[1] * 1.001


@pytest.mark.parametrize("cls", [DPPO, NCDPO, GaussianPPO])
def test_bfloat16_leaves_the_ratio_of_fresh_samples_alone(cls):
    """Old log-probabilities come from the same graph and shapes: within a twentieth of the clip, before and after."""
    method = build(cls, {"precision": "bfloat16"})
    for number in range(2):
        rollout = roll_out(method, number)
        assert method.log_ratio(rollout).abs().max() < method.config.clip / 20
        method.update(rollout)
    data = method.flatten(rollout)
    method.config = method.config.model_copy(update={"precision": "float32"})
    rounding = (method.log_prob(data, torch.arange(data["log_prob"].numel())) - data["log_prob"]).abs().max()
    assert 1e-4 < rounding < 1, "the products were rounded, and no more than that"
    assert all(parameter.dtype == torch.float32 for parameter in method.policy.parameters())
    assert rollout.chunk.dtype == torch.float32
