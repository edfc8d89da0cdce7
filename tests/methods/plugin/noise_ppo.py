"""On-policy noise steering: PPO whose action is the initial noise of a frozen diffusion policy."""

import torch
from pydantic import Field
from torch import Tensor, nn

from dpft.methods.interface import Decision
from dpft.methods.policy.denoiser import ResidualMLP, seeded
from dpft.methods.ppo import PPO, PPOConfig, gaussian_log_prob


class NoisePPOConfig(PPOConfig):
    sampler_steps: int = Field(3, ge=1)  # DDIM steps of the decoder
    hidden: tuple[int, ...] = (64, 64, 64)  # network of the noise's mean
    clip: float = Field(0.2, gt=0)  # on the joint ratio
    log_prob: str = "joint"  # over the noise's H * A elements


class NoisePPO(PPO):
    """PPO on the initial noise: w ~ N(mean(s), I), chunk = decode(s, w) by a frozen, deterministic chain."""

    Config = NoisePPOConfig
    from_scratch = False

    def __init__(self, policy, spec, config, rng):
        super().__init__(policy.requires_grad_(False), spec, config, rng)
        self.chain = policy.chain("ddim", config.sampler_steps, eta=0.0)
        self.mean = seeded(lambda: ResidualMLP(spec.obs_dim, config.hidden, spec.chunk * spec.action_dim, "tanh"), rng)
        nn.init.zeros_(self.mean.output.weight)  # zero updates: the base policy's own noise
        nn.init.zeros_(self.mean.output.bias)
        self.start_optimisers(self.mean.parameters())

    def noise_mean(self, obs: Tensor) -> Tensor:
        return self.mean(obs).view(-1, 1, self.spec.chunk, self.spec.action_dim)

    @torch.no_grad()
    def act(self, obs: Tensor) -> Decision:
        mean = self.noise_mean(obs)
        noise = mean + self.chain.noise(len(obs), self.spec.chunk, self.spec.action_dim, self.rng)
        log_prob = self.reduce(gaussian_log_prob(noise, mean, torch.ones(1, device=self.device)))
        return Decision(self.policy.denoise(obs, noise, self.chain), {"noise": noise, "log_prob": log_prob})

    def exploit(self, obs: Tensor) -> Tensor:
        return self.act(obs).chunk

    def new_log_prob(self, data: dict[str, Tensor], decision: Tensor, index: Tensor) -> Tensor:
        mean = self.noise_mean(data["obs"][decision])
        return self.reduce(gaussian_log_prob(data["noise"][decision], mean, torch.ones(1, device=self.device)))
