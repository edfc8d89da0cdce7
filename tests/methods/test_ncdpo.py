"""What is particular to NCDPO."""

import pytest
import torch

from dpft.envs import DataError
from dpft.methods.conformance import SPEC, build, observations, roll_out
from dpft.methods.ncdpo import NCDPO, NCDPOConfig
from dpft.methods.policy.config import PolicyConfig
from dpft.methods.policy.models import make_policy


def test_stored_noise_reproduces_the_mean():
    method = build(NCDPO)
    rollout = roll_out(method)
    flat = method.flatten(rollout)
    mean = method.policy.denoise(flat["obs"], flat["noise"], method.chain)
    deviation = (flat["chunk"] - mean) / method.std()
    assert deviation.abs().max() < 5
    assert deviation.std().item() == pytest.approx(1.0, abs=0.1)


def test_swapping_stored_noise_changes_the_gradient():
    def gradient(swap: bool) -> torch.Tensor:
        method = build(NCDPO)
        data = method.flatten(roll_out(method))
        if swap:
            data["noise"] = data["noise"].flip(0)
        rows = torch.arange(len(data["obs"]))
        method.new_log_prob(data, rows, rows * 0).sum().backward()
        return method.policy.network.trunk.output.weight.grad

    assert not torch.allclose(gradient(False), gradient(True))


def test_the_critic_sees_what_was_decided_next_or_fresh_noise_where_nothing_was():
    method = build(NCDPO)
    rollout = roll_out(method)
    rollout.terminated[:] = rollout.truncated[:] = False
    rollout.truncated[1, 0] = True
    mean = rollout.memo["mean"].flatten(2)
    with torch.no_grad():
        state, following = method.states(rollout)
    size = rollout.obs.shape[-1]
    assert torch.equal(state, torch.cat([rollout.obs, mean], 2))
    assert torch.equal(following[..., :size], rollout.final_obs)
    known = torch.ones(len(mean) - 1, mean.shape[1], dtype=torch.bool)
    known[1, 0] = False
    assert torch.equal(following[:-1][known][:, size:], mean[1:][known])
    fresh = torch.cat([following[1, :1, size:], following[-1, :, size:]])
    old = torch.cat([mean[2, :1], mean[0]])  # the next episode's, and what a plain roll leaves
    assert ((fresh - old).abs().amax(1) > 1e-3).all()


def test_luck_of_the_chain_is_no_advantage():
    """Reward is the denoised chunk's first action: with the noise in its state, the critic explains it."""

    def spread(sees: bool) -> float:
        method = build(NCDPO, {"critic_sees_noise": sees, "std_init": 0.05, "critic_learning_rate": 1e-2})
        for number in range(30):
            rollout = roll_out(method, number)
            flat = method.flatten(rollout)
            mean = method.policy.denoise(flat["obs"], flat["noise"], method.chain).detach()
            rollout.reward[:] = mean[:, 0, 0].view_as(rollout.reward)
            rollout.terminated[:] = True
            estimate = method.estimate_advantages(rollout)
            data = method.flatten(rollout) | estimate
            for _ in range(20):
                method._step_critic(data, torch.arange(len(data["obs"])))
        return (estimate["advantage"].std() / estimate["return"].std()).item()

    assert spread(True) < 0.5 * spread(False)


def test_losses_do_not_depend_on_the_order_of_samples():
    method = build(NCDPO)
    rollout = roll_out(method)
    data = method.flatten(rollout) | method.estimate_advantages(rollout)
    rows = torch.arange(len(data["obs"]))
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    plain, shuffled = (
        method.policy_loss(data, x, x * 0, method.minibatch_advantage(data, x))[0] for x in (rows, order)
    )
    torch.testing.assert_close(plain, shuffled)


def test_one_step_without_chain_noise_is_gaussian_ppo():
    """K = 1: the log-probability is that of one Gaussian around a deterministic function of obs and x_K."""
    policy = make_policy("diffusion", PolicyConfig(hidden=(16, 16, 16)), SPEC, 1, 0)
    method = NCDPO(
        policy, SPEC, NCDPOConfig(num_envs=4, log_prob="joint").resolved(1), torch.Generator().manual_seed(0)
    )
    decision = method.act(observations(4))
    mean = policy.denoise(observations(4), decision.memo["noise"], method.chain)
    expected = torch.distributions.Normal(mean, method.config.std_init).log_prob(decision.chunk).flatten(1).sum(1)
    torch.testing.assert_close(decision.memo["log_prob"], expected, rtol=1e-5, atol=1e-5)


def test_deviation_stays_inside_its_bounds():
    method = build(NCDPO, {"std_bounds": (0.09, 0.11), "learning_rate": 0.1})
    for number in range(3):
        method.update(roll_out(method, number))
        assert ((method.std() >= 0.0899) & (method.std() <= 0.1101)).all()


def test_fixed_deviation():
    method = build(NCDPO, {"learn_std": False, "std_init": 0.2})
    method.update(roll_out(method))
    assert torch.allclose(method.std(), torch.tensor(0.2))


def test_ddpm_refuses_fewer_steps_than_the_base_has():
    with pytest.raises(DataError, match="ddpm runs all of them"):
        NCDPOConfig(sampler_steps=3).resolved(10)
    assert NCDPOConfig(sampler="ddim").resolved(10).sampler_steps == 5
