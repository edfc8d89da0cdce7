"""FIND: PPO on the distribution of a frozen chain's initial noise (arXiv 2407.19453). Page: find.md."""

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from dpft.methods.fields import Count, ResidualWidths
from dpft.methods.interface import Decision, Rollout, Spec
from dpft.methods.policy.denoiser import ResidualMLP, seeded
from dpft.methods.policy.models import DiffusionPolicy
from dpft.methods.ppo import PPO, PPOConfig, gaussian_log_prob
from dpft.methods.replay import Replay
from dpft.methods.sampling import SamplingConfig


class FINDConfig(SamplingConfig, PPOConfig):
    """What the release (0939c3f) has is named; its objects are images, so its numbers are not binding here."""

    sampler: Literal["ddim"] = "ddim"
    eta: float = Field(0.0, ge=0)  # DDIM noise scale, exploring and evaluating; 0: x_K alone decides (released: 1)
    hidden: ResidualWidths = (256, 256, 256)  # network of the noise, residual Mish (released: free tensors, no state)
    std_bound: float = Field(10.0, gt=1)  # sigma lies between 1 / bound and bound, by tanh (released: above 1e-4)
    learning_rate: float = Field(3e-4, gt=0)  # AdamW (released: 1e-3)
    clip: float = Field(0.05, gt=0)  # on the ratio of mean log-probabilities (released: 0.2)
    surrogate: Literal["min", "clamp"] = "min"  # PPO's minimum, or the clamped ratio alone (released: clamp)
    reuse: Count = Field(4, ge=1)  # newest rollouts an update learns from (released: 20)
    pull: Literal["kl", "quadratic"] = "kl"  # towards N(0, I), nats or squares per element (released: quadratic)
    pull_coef: float = Field(0.001, ge=0)  # its weight (released: 0.01, beside a surrogate weighted by 10)
    evaluate_noise: Literal["sampled", "mean"] = "sampled"  # x_K while evaluating (released: sampled)

    def model_post_init(self, context: object) -> None:
        super().model_post_init(context)
        if self.entropy_coef:
            raise ValueError("entropy_coef: the noise's deviation hangs on the state; pull_coef is what keeps it up")


class FIND(PPO):
    """FIND: PPO on a Gaussian over the initial noise of a frozen chain; on-policy steering."""

    Config = FINDConfig
    config: FINDConfig
    policy: DiffusionPolicy
    from_scratch = False  # a random decoder has nothing to steer

    def __init__(self, policy: DiffusionPolicy, spec: Spec, config: FINDConfig, rng: torch.Generator) -> None:
        super().__init__(policy.requires_grad_(False), spec, config, rng)
        self.chain = policy.chain("ddim", config.sampler_steps, spacing=config.spacing, eta=config.eta)
        outputs = 2 * spec.chunk * spec.action_dim
        self.heads = seeded(lambda: ResidualMLP(spec.obs_dim, config.hidden, outputs, "mish"), rng)
        nn.init.zeros_(self.heads.output.weight)  # N(0, I) to the bit: zero updates are the base policy
        nn.init.zeros_(self.heads.output.bias)
        self.recent = Replay(config.reuse * config.decisions_per_update * config.num_envs, rng.device)
        self.start_optimisers(self.heads.parameters())

    def initial(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of x_K's Gaussian; obs [n, O] -> [n, H, A] each."""
        mean, log_std = self.heads(obs).float().view(len(obs), 2, self.spec.chunk, self.spec.action_dim).unbind(1)
        bound = math.log(self.config.std_bound)  # of the ratio of old samples, too
        return mean, (bound * (log_std / bound).tanh()).exp()

    @torch.no_grad()
    def act(self, obs: Tensor) -> Decision:
        noise = self.chain.noise(len(obs), self.spec.chunk, self.spec.action_dim, self.rng)
        mean, std = self.initial(obs)
        start = noise[:, 0] = mean + std * noise[:, 0]
        log_prob = self.reduce(gaussian_log_prob(start, mean, std))
        return Decision(self.policy.denoise(obs, noise, self.chain), {"noise": start, "log_prob": log_prob})

    def exploit(self, obs: Tensor) -> Tensor:
        return self.trace(obs)[:, -1]

    @torch.no_grad()
    def trace(self, obs: Tensor) -> Tensor:
        noise = self.chain.noise(len(obs), self.spec.chunk, self.spec.action_dim, self.rng)
        mean, std = self.initial(obs)
        noise[:, 0] = mean + std * noise[:, 0] if self.config.evaluate_noise == "sampled" else mean
        return torch.stack(self.chain.run(self.policy.network, obs, noise), 1)

    def new_log_prob(self, data: dict[str, Tensor], decision: Tensor, index: Tensor) -> Tensor:
        """log N(x_K; mu(s), sigma(s)^2) of the noise that was acted with."""
        return self.reduce(gaussian_log_prob(data["noise"][decision], *self.initial(data["obs"][decision])))

    def learned_from(self, rollout: Rollout) -> dict[str, Tensor]:
        """The newest rollouts' decisions, each with the log-probability and advantage of when it was made."""
        self.recent.add(**super().learned_from(rollout))
        return self.recent.rows()

    def surrogate(self, log_ratio: Tensor, advantage: Tensor, clip: Tensor) -> Tensor:
        if self.config.surrogate == "min":
            return super().surrogate(log_ratio, advantage, clip)
        return clamped_surrogate(log_ratio, advantage, clip)

    def policy_loss(
        self, data: dict[str, Tensor], decision: Tensor, index: Tensor, advantage: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        loss, info = super().policy_loss(data, decision, index, advantage)
        mean, std = self.initial(data["obs"][decision])
        pull = (kl_pull if self.config.pull == "kl" else quadratic_pull)(mean, std).mean()
        info |= {"policy/pull": pull.detach(), "policy/noise_std": std.detach().mean()}
        return loss + self.config.pull_coef * pull, info


def clamped_surrogate(log_ratio: Tensor, advantage: Tensor, clip: Tensor) -> Tensor:
    """The ratio clamped whatever the advantage's sign, as released: no gradient outside, back inside neither."""
    return -advantage * log_ratio.exp().clamp(1 - clip, 1 + clip)


def kl_pull(mean: Tensor, std: Tensor) -> Tensor:
    """KL(N(mean, std^2) || N(0, 1)) of each element, nats."""
    return 0.5 * (mean.square() + std.square() - 1) - std.log()


def quadratic_pull(mean: Tensor, std: Tensor) -> Tensor:
    """The released pull: mean^2 + (std - 1)^2 of each element."""
    return mean.square() + (std - 1).square()
