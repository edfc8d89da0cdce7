"""The denoising chain: differentiable, the same for every sampler, bounded in memory."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpft.methods.interface import Spec
from dpft.methods.policy.config import PolicyConfig
from dpft.methods.policy.models import DiffusionPolicy, make_policy
from dpft.methods.policy.schedule import cosine_schedule

SPEC = Spec(obs_dim=5, action_dim=2, chunk=3, gamma=0.99)


def policy_of(steps: int, dtype=torch.float32, **config) -> DiffusionPolicy:
    policy = make_policy("diffusion", PolicyConfig(hidden=(16, 16, 16), activation="mish", **config), SPEC, steps, 0)
    assert isinstance(policy, DiffusionPolicy)
    return policy.to(dtype)


def inputs(chain, n: int = 4, dtype=torch.float32):
    rng = torch.Generator().manual_seed(1)
    return torch.randn(n, 5, generator=rng).to(dtype), chain.noise(n, 3, 2, rng).to(dtype)


@given(st.integers(1, 100))
@settings(max_examples=25, deadline=None)
def test_schedule_is_valid_for_every_number_of_steps(count):
    schedule = cosine_schedule(count)
    assert ((schedule.betas > 0) & (schedule.betas <= 0.999)).all()
    assert (schedule.alpha_bar.diff() < 0).all()
    assert schedule.std[0] == 0
    for value in vars(schedule).values():
        assert value.shape == (count,)
        assert torch.isfinite(value).all()


@given(st.integers(1, 100).flatmap(lambda count: st.tuples(st.just(count), st.integers(1, count))))
@settings(max_examples=100, deadline=None)
def test_ddim_starts_at_pure_noise(counts):
    """Whatever S and K: the first timestep is K - 1, the others are spread evenly over all of K, each once."""
    count, steps = counts
    t = policy_of(count).chain("ddim", steps).t
    assert t[0] == count - 1
    gaps = -torch.cat([t, torch.tensor([-1])]).diff()
    assert gaps.min() >= 1
    assert (gaps - count / steps).abs().max() < 1


def test_released_spacing_is_a_switch():
    chains = [policy_of(9).chain("ddim", 5, spacing=spacing) for spacing in ("trailing", "leading")]
    assert [chain.t.tolist() for chain in chains] == [[8, 6, 4, 3, 1], [4, 3, 2, 1, 0]]
    assert policy_of(9).chain("ddpm", 9, spacing="trailing").t.tolist() == list(range(8, -1, -1))


@pytest.mark.parametrize("steps", [1, 2, 5, 20, 100])
@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_denoise_is_deterministic_given_the_noise(steps, sampler):
    policy = policy_of(steps)
    chain = policy.chain(sampler, steps if sampler == "ddpm" else min(5, steps))
    obs, noise = inputs(chain)
    first, second = policy.denoise(obs, noise, chain), policy.denoise(obs, noise, chain)
    assert first.shape == (4, 3, 2)
    assert torch.isfinite(first).all()
    assert torch.equal(first, second)
    changed = noise.clone()
    changed[:, 0] += 0.5
    assert not torch.equal(first, policy.denoise(obs, changed, chain)) or steps == 1


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
@pytest.mark.parametrize("prediction", ["epsilon", "x0"])
def test_gradient_through_the_chain_agrees_with_finite_differences(sampler, prediction):
    """In float64, with a wide x0 clip so that no kink lies inside the difference."""
    policy = policy_of(6, torch.float64, prediction=prediction, x0_clip=50.0)
    chain = policy.chain(sampler, 6 if sampler == "ddpm" else 3).double()
    obs, noise = inputs(chain, dtype=torch.float64)
    parameter = policy.network.trunk.output.weight

    def value() -> torch.Tensor:
        return chain.run(policy.network, obs, noise)[-1].square().sum()

    value().backward()
    for at in [(0, 0), (3, 7), (5, 15)]:
        with torch.no_grad():
            original, step = parameter[at].item(), 1e-6
            parameter[at] = original + step
            up = value()
            parameter[at] = original - step
            down = value()
            parameter[at] = original
        assert parameter.grad[at].item() == pytest.approx(((up - down) / (2 * step)).item(), rel=1e-5, abs=1e-7)


def test_every_stored_noise_matters():
    policy = policy_of(6)
    chain = policy.chain(std_floor=0.1)
    obs, noise = inputs(chain)
    chunk = policy.denoise(obs, noise, chain)
    for k in range(noise.shape[1]):
        other = noise.clone()
        other[:, k] = noise[:, k].flip(0)
        assert not torch.equal(chunk, policy.denoise(obs, other, chain)), f"noise {k} is not used"


def gradients(policy, chain, obs, noise, **options) -> list[torch.Tensor]:
    policy.zero_grad()
    chain.run(policy.network, obs, noise, **options)[-1].square().sum().backward()
    return [p.grad.clone() for p in policy.network.parameters()]


def test_checkpointing_changes_no_gradient():
    policy = policy_of(8)
    chain = policy.chain()
    obs, noise = inputs(chain)
    for plain, recomputed in zip(
        gradients(policy, chain, obs, noise), gradients(policy, chain, obs, noise, checkpointing=True), strict=True
    ):
        torch.testing.assert_close(plain, recomputed, rtol=1e-6, atol=1e-7)


def test_gradient_through_the_last_steps_only():
    policy = policy_of(8)
    chain = policy.chain()
    obs, noise = inputs(chain)
    full = chain.run(policy.network, obs, noise)
    partial = chain.run(policy.network, obs, noise, last=2)
    assert torch.equal(full[-1], partial[-1])
    assert not partial[6].requires_grad
    assert partial[7].requires_grad
    all_steps, last_two = gradients(policy, chain, obs, noise), gradients(policy, chain, obs, noise, last=2)
    assert any(not torch.allclose(a, b) for a, b in zip(all_steps, last_two, strict=True))


def test_frozen_network_runs_the_early_steps():
    policy, other = policy_of(8), make_policy("diffusion", PolicyConfig(hidden=(16, 16, 16)), SPEC, 8, 1)
    chain = policy.chain()
    obs, noise = inputs(chain)
    mixed = chain.run(policy.network, obs, noise, last=3, frozen=other.network)
    assert torch.equal(mixed[5], chain.run(other.network, obs, noise)[5])
    assert not torch.equal(mixed[6], chain.run(other.network, obs, noise)[6])


def test_straight_through_clip_keeps_the_gradient():
    outputs = {}
    for mode in ("hard", "straight-through"):
        policy = policy_of(1, prediction="x0", clip_gradient=mode)
        with torch.no_grad():
            policy.network.trunk.output.bias.fill_(3.0)  # far beyond the clip
        chain = policy.chain()
        obs, noise = inputs(chain)
        outputs[mode] = chain.run(policy.network, obs, noise)[-1], gradients(policy, chain, obs, noise)
    assert torch.equal(outputs["hard"][0], outputs["straight-through"][0])
    assert all((g == 0).all() for g in outputs["hard"][1])
    assert any((g != 0).any() for g in outputs["straight-through"][1])


@pytest.mark.parametrize("rows", [False, True])
def test_inward_clip_passes_what_leads_back_into_the_box_at_the_last_step(rows):
    chain = policy_of(4, prediction="x0", clip_gradient="inward").chain()
    values = torch.tensor([-2.0, -2.0, -0.5, 0.5, 2.0, 2.0])
    uphill = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    for i, expected in ((3, [False, True, True, True, True, False]), (2, [False, False, True, True, False, False])):
        x = values.view(-1, 1, 1).clone().requires_grad_()
        clipped = chain.x0(torch.zeros_like(x), x, torch.full((6,), i) if rows else i)
        assert torch.equal(clipped, x.clamp(-1, 1)), "what is executed is the same"
        (gradient,) = torch.autograd.grad(clipped, x, uphill.view(-1, 1, 1))
        assert (gradient.flatten() != 0).tolist() == expected
        assert torch.equal(gradient[gradient != 0], uphill[gradient.flatten() != 0])


def test_ddim_without_eta_needs_the_first_noise_alone():
    policy = policy_of(20)
    chain = policy.chain("ddim", 5, eta=0.0)
    obs, noise = inputs(chain)
    assert noise.shape == (4, 1, 3, 2)
    assert chain.t.tolist() == [19, 15, 11, 7, 3]
    assert torch.isfinite(policy.denoise(obs, noise, chain)).all()
