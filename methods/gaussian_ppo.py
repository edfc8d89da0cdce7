"""Gaussian PPO: the baseline without diffusion (Schulman et al. 2017). Page: gaussian-ppo.md."""

import torch
from pydantic import Field
from torch import Tensor

from dpft.methods.fields import Count
from dpft.methods.interface import Decision, Spec
from dpft.methods.policy.models import GaussianPolicy
from dpft.methods.ppo import PPO, PPOConfig, gaussian_log_prob


class GaussianPPOConfig(PPOConfig):
    """The chunk's Gaussian has the policy's own mean and deviation (policy.std_init, policy.std_bounds)."""

    epochs: Count = Field(10, ge=1)
    clip: float = Field(0.05, gt=0)
    max_grad_norm: float | None = Field(1.0, gt=0)
    noise_clip: float = Field(3.0, gt=0)  # bound on the sampled deviation, in standard deviations (released dppo: 3)


class GaussianPPO(PPO):
    """Gaussian PPO: PPO on a Gaussian over whole chunks, the baseline without diffusion."""

    Config = GaussianPPOConfig
    config: GaussianPPOConfig
    policy: GaussianPolicy
    fine_tunes = "gaussian"

    def __init__(self, policy: GaussianPolicy, spec: Spec, config: GaussianPPOConfig, rng: torch.Generator) -> None:
        super().__init__(policy, spec, config, rng)
        self.start_optimisers(policy.parameters())

    @torch.no_grad()
    def act(self, obs: Tensor) -> Decision:
        mean, std = self.policy(obs)
        z = torch.randn(mean.shape, generator=self.rng, device=self.device)
        chunk = mean + std * z.clamp(-self.config.noise_clip, self.config.noise_clip)
        return Decision(chunk, {"log_prob": self.reduce(gaussian_log_prob(chunk, mean, std))})

    @torch.no_grad()
    def exploit(self, obs: Tensor) -> Tensor:
        return self.policy(obs)[0]

    def new_log_prob(self, data: dict[str, Tensor], decision: Tensor, index: Tensor) -> Tensor:
        mean, std = self.policy(data["obs"][decision])
        return self.reduce(gaussian_log_prob(data["chunk"][decision], mean, std))

    def entropy(self) -> Tensor:
        return self.policy.std().log().mean()
