"""What is particular to NCDPO."""

import pytest
import torch

from envs import DataError
from methods.conformance import SPEC, build, observations, roll_out
from methods.ncdpo import NCDPO, NCDPOConfig
from methods.policy.config import PolicyConfig
from methods.policy.models import make_policy


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
    method = NCDPO(policy, SPEC, NCDPOConfig(num_envs=4).resolved(1), torch.Generator().manual_seed(0))
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
