"""NCDPO: PPO on the final chunk, differentiated through the denoising steps (arXiv 2505.10482). Page: ncdpo.md."""

from typing import Self

import torch
from pydantic import Field
from torch import Tensor, nn

from dpft.methods.fields import Count, PositiveInterval, check_inside
from dpft.methods.interface import Decision, Rollout, Spec
from dpft.methods.policy.models import DiffusionPolicy, bounded_std
from dpft.methods.ppo import PPO, PPOConfig, gaussian_log_prob
from dpft.methods.sampling import SamplingConfig


class NCDPOConfig(SamplingConfig, PPOConfig):
    """Open choices of the paper are named fields; defaults were chosen by experiment (ncdpo.md)."""

    decisions_per_update: Count = Field(50, ge=1)
    epochs: Count = Field(10, ge=1)
    clip: float = Field(0.05, gt=0)  # on the ratio of mean log-probabilities
    max_grad_norm: float | None = Field(1.0, gt=0)
    eta: float = Field(1.0, ge=0)  # DDIM noise scale while exploring and evaluating; 0: x_K is the only noise
    chain_std_floor: float = Field(0.0, ge=0)  # least chain noise of every step, the last included (0: DDPM's own)
    std_init: float = Field(0.1, gt=0)  # first deviation of the final Gaussian, normalised action units
    std_bounds: PositiveInterval = (0.05, 0.5)  # its range
    learn_std: bool = True  # train it with the denoiser
    critic_sees_noise: bool = True  # V(s, z): the chain's luck is in the baseline, not in the advantage
    gradient_steps: Count | None = Field(None, ge=1)  # last denoising steps that carry gradient; none: all
    checkpointing: bool = False  # recompute activations in the backward pass: memory of one step instead of all

    def model_post_init(self, context: object) -> None:
        super().model_post_init(context)
        check_inside("std_init", self.std_init, "std_bounds", self.std_bounds)
        if self.sampler == "ddpm" and self.eta != 1:
            raise ValueError("eta scales DDIM's noise alone: give sampler ddim, or leave eta out")
        if self.entropy_coef and not self.learn_std:
            raise ValueError("entropy_coef: with learn_std false the entropy has no gradient")

    def resolved(self, denoising_steps: int, from_scratch: bool = False) -> Self:
        config = super().resolved(denoising_steps, from_scratch)
        config.check_last("gradient_steps")
        return config


class NCDPO(PPO):
    """NCDPO: PPO on the final chunk, given the stored chain noise; gradients run through all denoising steps."""

    Config = NCDPOConfig
    config: NCDPOConfig
    policy: DiffusionPolicy

    def __init__(self, policy: DiffusionPolicy, spec: Spec, config: NCDPOConfig, rng: torch.Generator) -> None:
        super().__init__(policy, spec, config, rng)
        self.chain = policy.chain(
            config.sampler,
            config.sampler_steps,
            spacing=config.spacing,
            eta=config.eta,
            std_floor=config.chain_std_floor,
        )
        initial = torch.full((spec.action_dim,), config.std_init, device=rng.device).log()
        self.log_std = nn.Parameter(initial, requires_grad=config.learn_std)
        self.start_optimisers([*policy.network.parameters(), self.log_std])

    @property
    def state_dim(self) -> int:
        mean = self.spec.chunk * self.spec.action_dim if self.config.critic_sees_noise else 0
        return super().state_dim + mean

    def states(self, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """The noise-augmented state [s | denoise(s, z)]: the return depends on z through the denoised chunk alone."""
        obs, next_obs = super().states(rollout)
        if not self.config.critic_sees_noise:
            return obs, next_obs
        mean = rollout.memo["mean"]
        next_mean = mean.roll(-1, 0)
        undecided = rollout.terminated | rollout.truncated
        undecided[-1] = True
        last = next_obs[undecided]
        next_mean[undecided] = self.policy.denoise(last, self.draw_noise(len(last)), self.chain)
        return torch.cat([obs, mean.flatten(2)], 2), torch.cat([next_obs, next_mean.flatten(2)], 2)

    def std(self) -> Tensor:
        """Standard deviation of the final Gaussian, [A]."""
        return bounded_std(self.log_std, self.config.std_bounds)

    def draw_noise(self, n: int) -> Tensor:
        return self.chain.noise(n, self.spec.chunk, self.spec.action_dim, self.rng)

    @torch.no_grad()
    def act(self, obs: Tensor) -> Decision:
        noise = self.draw_noise(len(obs))
        mean, std = self.policy.denoise(obs, noise, self.chain), self.std()
        chunk = mean + std * torch.randn(mean.shape, generator=self.rng, device=self.device)
        log_prob = self.reduce(gaussian_log_prob(chunk, mean, std))
        return Decision(chunk, {"noise": noise, "mean": mean, "log_prob": log_prob})

    def exploit(self, obs: Tensor) -> Tensor:
        return self.trace(obs)[:, -1]

    @torch.no_grad()
    def trace(self, obs: Tensor) -> Tensor:
        return torch.stack(self.chain.run(self.policy.network, obs, self.draw_noise(len(obs))), 1)

    def new_log_prob(self, data: dict[str, Tensor], decision: Tensor, index: Tensor) -> Tensor:
        """log N(chunk; denoise(obs, stored noise), std^2), with gradients through the chain (paper's BPDT)."""
        mean = self.chain.run(
            self.policy.network,
            data["obs"][decision],
            data["noise"][decision],
            last=self.config.gradient_steps,
            checkpointing=self.config.checkpointing,
        )[-1]
        return self.reduce(gaussian_log_prob(data["chunk"][decision], mean, self.std()))

    def entropy(self) -> Tensor:
        return self.std().log().mean()
