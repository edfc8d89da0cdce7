"""Evaluation is exact where the truth is known: episodes of different lengths and returns, in their order."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from dpft.envs import TaskSpec
from dpft.methods import METHODS, get_method
from dpft.methods.conformance import SMALL
from dpft.methods.dppo import DPPO, DPPOConfig
from dpft.methods.gaussian_ppo import GaussianPPO, GaussianPPOConfig
from dpft.methods.interface import Spec
from dpft.methods.policy.models import make_policy
from dpft.sweeps.collect import Collector, Diverged
from dpft.sweeps.evaluate import SLOTS, Evaluator


class Identity:
    def obs(self, obs):
        return obs.astype(np.float32)

    def action(self, chunk):
        return chunk


SPEC = Spec(obs_dim=11, action_dim=3, chunk=4, gamma=0.99)
TASK = TaskSpec("hopper", "Hopper-v5", 11, 3, 30, "", None, simulator="locomotion")  # a time limit of 30 steps


def method_of(**settings) -> GaussianPPO:
    policy = make_policy("gaussian", SMALL, SPEC, 1, seed=0)
    config = GaussianPPOConfig(num_envs=5, decisions_per_update=10, **settings)
    return GaussianPPO(policy, SPEC, config, torch.Generator().manual_seed(0))


def by_hand(method, seed: int, row: int) -> tuple[float, int, str]:
    """One episode in Gymnasium itself, one environment, one step at a time."""
    env = gym.make("Hopper-v5", max_episode_steps=30)
    obs, _ = env.reset(seed=seed)
    total, length = 0.0, 0
    while True:
        # the same row of the same batch shape as in the evaluation: rounding may depend on both
        rows = torch.from_numpy(np.repeat(obs[None], SLOTS, 0).astype(np.float32))
        for action in np.clip(method.exploit(rows)[row].numpy(), -1, 1):
            obs, reward, terminated, truncated, _ = env.step(action)
            total, length = total + reward, length + 1
            if terminated or truncated:
                return total, length, "terminated" if terminated else "truncated"


def test_every_episode_is_what_gymnasium_gives():
    method = method_of()
    played = Evaluator(TASK, 4, 1, Identity())(method, 3, seed=20, noise_seed=0)
    assert [e.seed for e in played] == [20, 21, 22]
    for row, episode in enumerate(played):
        total, length, ended = by_hand(method, episode.seed, row)
        assert (episode.length, episode.ended) == (length, ended)
        assert episode.total == pytest.approx(total, rel=1e-9)


@pytest.mark.parametrize("name", METHODS)
def test_more_episodes_extend_fewer(name):
    """Bit for bit: episode j depends on the seeds and on j, not on how many are played; each is played to its end."""
    cls = get_method(name)
    policy = make_policy(cls.fine_tunes, SMALL, SPEC, 3, seed=0)
    method = cls(policy, SPEC, cls.Config().resolved(3), torch.Generator().manual_seed(0))
    evaluator = Evaluator(TASK, 4, 1, Identity())
    few, more, many = (evaluator(method, count, 7, noise_seed=5) for count in (3, SLOTS, 2 * SLOTS + 5))
    assert many[:SLOTS] == more
    assert more[:3] == few
    assert [e.seed for e in many] == list(range(7, 7 + len(many)))
    assert all(e.length == 30 or e.ended == "terminated" for e in many)
    assert name == "gaussian-ppo" or evaluator(method, 3, 7, noise_seed=6) != few  # its mean draws nothing


def test_every_block_of_episodes_has_noise_of_its_own():
    policy = make_policy("diffusion", SMALL, SPEC, 3, seed=0)
    method = DPPO(policy, SPEC, DPPOConfig().resolved(3), torch.Generator().manual_seed(0))
    evaluator = Evaluator(TASK, 4, 1, Identity())
    obs = np.zeros((1, 11))
    decisions = []
    for block in range(2):
        with evaluator.drawing(method, 5, block):
            decisions.append(evaluator.decide(method, obs, gym.make("Hopper-v5").action_space))
    assert not np.array_equal(*decisions)


def test_not_finite_is_said():
    method = method_of()
    with torch.no_grad():
        method.policy.trunk.output.bias.fill_(float("nan"))
    with pytest.raises(Diverged, match="not finite"):
        Evaluator(TASK, 4, 1, Identity())(method, 2, 0, 0)


def test_only_simulated_steps_are_counted():
    """A time limit of 30 is no multiple of 4: the last chunk of an episode is cut."""
    from dpft.envs import make_vec

    method = method_of()
    collector = Collector(make_vec(TASK, 5, 4), method, Identity(), list(range(5)))
    rollout = collector.collect()
    assert collector.env_steps == rollout.executed.sum()
    done = rollout.terminated | rollout.truncated
    assert done.any()
    assert (rollout.executed[~done] == 4).all()
    assert (rollout.executed[done] < 4).any()
    # each finished episode's executed steps add up to at most the limit, exactly so where it timed out
    for slot in range(5):
        length = 0
        for t in range(10):
            length += int(rollout.executed[t, slot])
            if rollout.truncated[t, slot] and not rollout.terminated[t, slot]:
                assert length == 30
            if done[t, slot]:
                length = 0


def test_rollout_holds_what_happened():
    """final_obs is the successor of each decision: the next obs unless the episode ended."""
    from dpft.envs import make_vec

    method = method_of()
    collector = Collector(make_vec(TASK, 5, 4), method, Identity(), list(range(5)))
    rollout = collector.collect()
    goes_on = ~(rollout.terminated | rollout.truncated)[:-1]
    assert torch.equal(rollout.final_obs[:-1][goes_on], rollout.obs[1:][goes_on])
    assert not torch.equal(rollout.final_obs[:-1][~goes_on], rollout.obs[1:][~goes_on])


def test_rollouts_are_explored_in_the_configured_precision():
    """The same draws, rounded: bfloat16 keeps 8 bits of each product."""
    from dpft.envs import make_vec

    chunks = {}
    for precision in ("float32", "bfloat16"):
        method = method_of(precision=precision)
        chunks[precision] = Collector(make_vec(TASK, 5, 4), method, Identity(), list(range(5))).collect().chunk[0]
    assert chunks["bfloat16"].dtype == torch.float32
    assert 1e-5 < (chunks["bfloat16"] - chunks["float32"]).abs().max() < 0.05
