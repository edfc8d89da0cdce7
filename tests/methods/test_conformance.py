"""Every built-in method keeps the interface's promises; a method that breaks one is told so in plain words."""

import pytest
import torch

from dpft.methods import METHODS, conformance, get_method
from dpft.methods.gaussian_ppo import GaussianPPO
from dpft.methods.interface import Decision, Rollout


@pytest.mark.parametrize("check", conformance.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", METHODS)
def test_built_in_methods(name, check):
    check(get_method(name))


@pytest.mark.parametrize(
    ("name", "settings"),
    [("ncdpo", {}), ("dppo", {"critic_warmup": 2}), ("dsrl-sac", {"warmup": 21}), ("dsrl-na", {"warmup": 24})],
)
def test_the_first_update_comes_when_the_settings_say(name, settings):
    method = conformance.build(get_method(name), settings)
    base, decisions = conformance.exploit(method, conformance.observations()), 0
    while torch.equal(conformance.exploit(method, conformance.observations()), base):
        method.update(conformance.roll_out(method, decisions))
        decisions += method.decisions_per_update
    assert decisions == method.config.first_update


class ForgetsItsScaler(GaussianPPO):
    """Keeps something that matters out of the saved state."""

    def state_dict(self):
        return {key: value for key, value in super().state_dict().items() if key != "critic"}

    def load_state_dict(self, state):
        super().load_state_dict(state | {"critic": self.critic.state_dict()})


class DrawsFromTheGlobalStream(GaussianPPO):
    def act(self, obs):
        decision = super().act(obs)
        return Decision(decision.chunk + 0 * torch.randn(()), decision.memo)


class WrongLogProbability(GaussianPPO):
    def new_log_prob(self, data, decision, index):
        return super().new_log_prob(data, decision, index) + 0.01


class NeverLearns(GaussianPPO):
    def update(self, rollout: Rollout):
        return {"loss/policy": 0.0}


class FlatChunks(GaussianPPO):
    def exploit(self, obs):
        return super().exploit(obs).flatten(1)


class SeesTheOthers(GaussianPPO):
    def exploit(self, obs):
        return super().exploit(obs - obs.mean(0))


@pytest.mark.parametrize(
    ("cls", "check", "words"),
    [
        (ForgetsItsScaler, conformance.save_and_restore, "restored method"),
        (DrawsFromTheGlobalStream, conformance.global_random_state, "global random state"),
        (WrongLogProbability, conformance.ratio_is_one, "log-ratio of fresh samples is 0.01"),
        (NeverLearns, conformance.finite_metrics, "nothing is learned"),
        (SeesTheOthers, conformance.rows_of_their_own, "changes with the observations of the others"),
        (FlatChunks, conformance.shapes, r"exploit\(\) gave a chunk of shape \(4, 6\)"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_broken_method_is_caught(cls, check, words):
    with pytest.raises(conformance.Broken, match=words):
        check(cls)


def test_check_method_prints_what_fails(capsys):
    assert conformance.main([f"{__name__}:NeverLearns"]) == 1
    printed = capsys.readouterr().out
    assert "FAIL" in printed
    assert "nothing is learned" in printed
    assert conformance.main(["gaussian-ppo"]) == 0


def test_unsavable_attribute_is_named():
    method = conformance.build(GaussianPPO)
    method.history = object()
    with pytest.raises(TypeError, match=r"GaussianPPO\.history is a object, which cannot be saved"):
        method.state_dict()
