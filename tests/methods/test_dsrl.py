"""What is particular to DSRL: the noise box, warm-up, time limits, replay, distillation."""

import copy

import pytest
import torch

from dpft.methods.conformance import SPEC, build, observations, roll_out
from dpft.methods.dsrl import DSRLNA, DSRLSAC, NoisePolicy
from dpft.methods.replay import Replay


@pytest.mark.parametrize("cls", [DSRLNA, DSRLSAC])
def test_noise_bound_is_real(cls):
    method = build(cls, {"noise_bound": 0.3})
    assert method.act(observations()).memo["noise"].abs().max() > 0.3  # the base policy's own noise until it learns
    for number in range(2):
        method.update(roll_out(method, number))
    assert method.gradient_steps > 0
    assert method.act(observations()).memo["noise"].abs().max() <= 0.3
    assert method.trace(observations())[:, 0].abs().max() <= 0.3


def test_warm_up_is_the_base_policy():
    method = build(DSRLNA, {"warmup": 20})
    for number in range(2):
        assert method.update(roll_out(method, number)) == {}
    assert method.gradient_steps == 0
    assert method.update(roll_out(method, 2)) != {}
    assert method.gradient_steps == method.config.critic_steps


@pytest.mark.parametrize("settings", [{"warmup": 200, "replay_size": 799}, {"warmup": 1, "replay_size": 7}])
def test_a_replay_that_never_starts_learning_is_refused(settings):
    with pytest.raises(ValueError, match=r"replay_size .* never holds the"):
        DSRLNA.Config(**settings)
    DSRLNA.Config(**settings | {"replay_size": settings["replay_size"] + 1})


def test_time_limit_switch():
    for mode, expected in (("bootstrap", "terminated"), ("terminal", "either")):
        method = build(DSRLSAC, {"time_limit": mode})
        rollout = roll_out(method)
        method.remember(rollout)
        ended = rollout.terminated if expected == "terminated" else rollout.terminated | rollout.truncated
        assert rollout.truncated.any()
        assert torch.equal(method.replay.columns["continues"][: ended.numel()] == 0, ended.flatten())


def test_squashed_log_probability():
    """Against torch's own transformed distribution."""
    policy = NoisePolicy(5, 6, (16, 16, 16))
    obs = observations()
    unit, log_prob = policy.sample(obs, torch.Generator().manual_seed(0))
    mean, log_std = policy(obs)
    base = torch.distributions.Normal(mean, log_std.exp())
    squashed = torch.distributions.TransformedDistribution(base, [torch.distributions.TanhTransform()])
    torch.testing.assert_close(log_prob, squashed.log_prob(unit).sum(-1), rtol=1e-3, atol=1e-3)


def test_distillation_teaches_the_noise_critic():
    """Repeated distillation brings the noise critic to the chunk critic at decoded noise."""
    method = build(DSRLNA, {"distillation_steps": 100, "batch": 64, "learning_rate": 3e-3})
    for number in range(2):
        method.remember(roll_out(method, number))
    first = method.distil()
    for _ in range(5):
        last = method.distil()
    assert last < first / 3


def test_actor_climbs_the_noise_critic_alone():
    """No gradient of the actor's loss reaches the decoder or the critics."""
    method = build(DSRLNA)
    for number in range(2):
        method.update(roll_out(method, number))
    assert all(p.grad is None for p in method.policy.parameters())
    assert all(not p.requires_grad for p in method.policy.parameters())


def test_target_critic_follows_slowly():
    method = build(DSRLSAC, {"tau": 0.5, "critic_steps": 1})
    method.remember(roll_out(method))
    old = [p.clone() for p in method.target_critic.parameters()]
    method.learn()
    for before, target, critic in zip(old, method.target_critic.parameters(), method.critic.parameters(), strict=True):
        torch.testing.assert_close(target, (before + critic) / 2)


class TestReplay:
    def test_ring_overwrites_the_oldest(self):
        replay = Replay(5, torch.device("cpu"))
        for start in range(0, 8, 2):
            replay.add(x=torch.arange(start, start + 2))
        assert len(replay) == 5
        assert sorted(replay.columns["x"].tolist()) == [3, 4, 5, 6, 7]

    def test_sampling_is_uniform_over_filled_rows(self):
        replay = Replay(100, torch.device("cpu"))
        replay.add(x=torch.arange(10))
        drawn = replay.sample((20_000,), torch.Generator().manual_seed(0))["x"]
        counts = torch.bincount(drawn, minlength=10)
        assert counts.min() > 1800
        assert counts.max() < 2200

    def test_state_continues_a_full_ring(self):
        first = Replay(5, torch.device("cpu"))
        first.add(x=torch.arange(4))
        first.add(x=torch.arange(4, 8))
        second = Replay(5, torch.device("cpu"))
        second.load_state_dict(first.state_dict())
        for replay in (first, second):
            replay.add(x=torch.arange(100, 102))
        assert torch.equal(first.columns["x"], second.columns["x"])


def test_decoder_is_deterministic():
    method = build(DSRLNA)
    noise = torch.randn(6, SPEC.chunk * SPEC.action_dim)
    assert torch.equal(method.run(observations(), noise)[-1], method.run(observations(), noise)[-1])


@pytest.mark.parametrize("cls", [DSRLNA, DSRLSAC])
def test_the_actors_gradient_is_that_of_its_loss(cls):
    """At the critic that has just been stepped (Haarnoja et al. 2018, algorithm 1), under the same draws."""
    method = build(cls, {"learning_rate": 0.01})
    method.remember(roll_out(method))
    weights, state, temperature = copy.deepcopy(method.actor.state_dict()), method.rng.get_state(), 1.0
    method.learn()
    taken = [p.grad.clone() for p in method.actor.parameters()]
    method.actor.load_state_dict(weights)
    method.rng.set_state(state)
    obs = method.replay.sample((method.config.batch,), method.rng)["obs"]
    unit_noise, log_prob = method.actor.sample(obs, method.rng)
    loss = (temperature * log_prob - method.noise_value(obs, unit_noise).amin(0)).mean()
    for ours, exact in zip(taken, torch.autograd.grad(loss, list(method.actor.parameters())), strict=True):
        torch.testing.assert_close(ours, exact, rtol=1e-5, atol=1e-7)
