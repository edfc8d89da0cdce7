"""DPPO: every denoising step is an action of PPO (arXiv 2409.00588). Page: dppo.md."""

import copy
import math
from functools import partial
from typing import Self

import torch
from pydantic import Field
from torch import Tensor

from dpft.envs.task import DataError
from dpft.methods.fields import Count, Interval
from dpft.methods.interface import Decision, Spec
from dpft.methods.policy.models import DiffusionPolicy
from dpft.methods.ppo import PPO, PPOConfig, gaussian_log_prob
from dpft.methods.sampling import SamplingConfig


class DPPOConfig(SamplingConfig, PPOConfig):
    """Settings of the released code (cc7234a) for Gym; rollouts and clip chosen for about 1M steps."""

    finetuned_steps: Count | None = Field(None, ge=1)  # K': last steps fine-tuned; none: min(10, all), from scratch all
    gamma_denoising: float = Field(0.99, gt=0, le=1)  # discount of noisier steps' advantages (paper, section 4.3)
    clip: float = Field(0.05, gt=0)  # clip width at the last denoising step (released: 0.01)
    clip_base: float = Field(0.01, gt=0)  # clip width at the noisiest fine-tuned step
    clip_rate: float = Field(3.0, gt=0)  # exponent between the two
    sampling_std_floor: float = Field(0.1, gt=0)  # least noise of every step while exploring (paper: sigma_exp)
    log_prob_std_floor: float = Field(0.1, gt=0)  # least deviation in log-probabilities (paper: sigma_prob)
    log_prob_bounds: Interval | None = (-5.0, 2.0)  # clamp of each element, as released
    noise_clip: float = Field(3.0, gt=0)  # bound on each step's z (released: randn_clip_value)

    def model_post_init(self, context: object) -> None:
        super().model_post_init(context)
        if self.entropy_coef:
            raise ValueError("entropy_coef: the noise of DPPO's steps is not learned, so its entropy has no gradient")

    def resolved(self, denoising_steps: int, from_scratch: bool = False) -> Self:
        config = super().resolved(denoising_steps, from_scratch)
        steps = config.sampler_steps
        assert steps is not None, "SamplingConfig.resolved fills it in"
        config.check_last("finetuned_steps")
        finetuned = config.finetuned_steps or (steps if from_scratch else min(10, steps))
        if from_scratch and finetuned < steps:
            raise DataError(
                f"settings.finetuned_steps is {finetuned} of {steps} steps, but from scratch the others stay with "
                "a random network, which denoises nothing: leave it out, and all are fine-tuned"
            )
        return config.model_copy(update={"finetuned_steps": finetuned})


class DPPO(PPO):
    """DPPO: each of the last K' denoising steps is an action of PPO; the first steps stay with the frozen base."""

    Config = DPPOConfig
    config: DPPOConfig
    policy: DiffusionPolicy

    def __init__(self, policy: DiffusionPolicy, spec: Spec, config: DPPOConfig, rng: torch.Generator) -> None:
        super().__init__(policy, spec, config, rng)
        assert config.finetuned_steps is not None, "the config must be resolved"
        self.samples_per_decision = config.finetuned_steps
        self.frozen = copy.deepcopy(policy.network)  # never in a graph: the chain's first steps carry no gradient
        chain = partial(policy.chain, config.sampler, config.sampler_steps, spacing=config.spacing)
        self.chain = chain(std_floor=config.sampling_std_floor, noise_clip=config.noise_clip)
        if config.sampler == "ddpm":
            self.exploit_chain = chain(std_floor=1e-3, last_std=0.0, noise_clip=config.noise_clip)
        else:
            self.exploit_chain = chain(eta=0.0)
        own_std = chain().std
        self.log_prob_std = own_std.clamp(min=config.log_prob_std_floor)[-config.finetuned_steps :]
        self.start_optimisers(policy.network.parameters())

    def run(self, obs: Tensor, exploit: bool) -> tuple[list[Tensor], Tensor]:
        chain = self.exploit_chain if exploit else self.chain
        noise = chain.noise(len(obs), self.spec.chunk, self.spec.action_dim, self.rng)
        return chain.run(self.policy.network, obs, noise, last=self.samples_per_decision, frozen=self.frozen), noise

    @torch.no_grad()
    def act(self, obs: Tensor) -> Decision:
        points, noise = self.run(obs, exploit=False)
        count = self.samples_per_decision
        # x_{k-1} - mean is std * z by construction: the log-probability needs no second pass
        deviation = self.chain.std[-count:, None, None] * noise[:, -count:].clamp(
            -self.config.noise_clip, self.config.noise_clip
        )
        log_prob = self.element_log_prob(deviation, torch.zeros_like(deviation), self.log_prob_std[:, None, None])
        memo = {
            "points": torch.stack(points[-count - 1 :], 1),
            "log_prob": self.reduce(log_prob.flatten(0, 1)).view(-1, count),
        }
        return Decision(points[-1], memo)

    def exploit(self, obs: Tensor) -> Tensor:
        return self.trace(obs)[:, -1]

    @torch.no_grad()
    def trace(self, obs: Tensor) -> Tensor:
        return torch.stack(self.run(obs, exploit=True)[0], 1)

    def element_log_prob(self, x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        log_prob = gaussian_log_prob(x, mean, std)
        return log_prob if self.config.log_prob_bounds is None else log_prob.clamp(*self.config.log_prob_bounds)

    def new_log_prob(self, data: dict[str, Tensor], decision: Tensor, index: Tensor) -> Tensor:
        """log N(x_{k-1}; mu(x_k, k, s), sigma_k^2) of single denoising steps (paper, eq. 4.2)."""
        network, step = self.policy.network, index + len(self.chain) - self.samples_per_decision
        points, first = data["points"].flatten(0, 1), decision * (self.samples_per_decision + 1) + index
        before, after = points.index_select(0, first), points.index_select(0, first + 1)  # half of indexing's time
        mean = self.chain.step_mean(network, network.encode(data["obs"].index_select(0, decision)), before, step)
        return self.reduce(self.element_log_prob(after, mean, self.log_prob_std[index][:, None, None]))

    def clip_width(self, index: Tensor) -> Tensor:
        """clip_base at the noisiest fine-tuned step, growing exponentially to clip at the last (paper, appendix C)."""
        rate, count = self.config.clip_rate, self.samples_per_decision
        if count == 1:  # the released code divides 0 by 0
            return super().clip_width(index)
        growth = torch.expm1(rate * index / (count - 1)) / math.expm1(rate)
        return self.config.clip_base + (self.config.clip - self.config.clip_base) * growth

    def advantage_weight(self, index: Tensor) -> Tensor:
        """gamma_denoising ** (number of denoising steps still to come)."""
        return self.config.gamma_denoising ** (self.samples_per_decision - 1 - index)
