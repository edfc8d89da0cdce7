"""DSRL: steer a frozen diffusion policy by its initial noise (arXiv 2506.15799). Pages: dsrl-na.md, dsrl-sac.md."""

import copy
import itertools
import math
from abc import abstractmethod
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from dpft.methods.fields import Count, Widths
from dpft.methods.interface import Decision, Method, Rollout, Spec
from dpft.methods.policy.denoiser import seeded
from dpft.methods.policy.models import DiffusionPolicy
from dpft.methods.replay import Replay
from dpft.methods.sampling import SamplingConfig


class DSRLConfig(SamplingConfig):
    """Settings of the released code (8d21b9c) for Hopper, except where dsrl-na.md says otherwise."""

    num_envs: Count = Field(4, ge=1)  # released: 4
    decisions_per_update: Count = Field(2, ge=1)  # released: train_freq
    sampler: Literal["ddim"] = "ddim"  # eta 0: the decoder is deterministic
    noise_bound: float = Field(1.5, gt=0)  # the noise policy's box is [-bound, bound] (released NA: 1 whatever is set)
    warmup: Count = Field(2000, ge=1)  # decisions per environment by the base policy before the first gradient step
    critic_steps: Count = Field(20, ge=1)  # gradient steps of critic, actor and temperature per update (released: utd)
    batch: Count = Field(256, ge=1)  # transitions per gradient step (released: 256)
    hidden: Widths = (128, 128, 128)  # actor and critics: Linear, LayerNorm, tanh
    learning_rate: float = Field(3e-4, gt=0)  # Adam, all networks and the temperature
    tau: float = Field(0.005, gt=0, le=1)  # Polyak rate of the target critic
    initial_temperature: float = Field(1.0, gt=0)  # weight of the entropy at first, then learned (released: 1)
    target_entropy: float = 0.0  # nats of the noise in units of its box (released: 0, not minus the dimension)
    replay_size: Count = Field(1_000_000, ge=1)  # decisions kept
    time_limit: Literal["bootstrap", "terminal"] = "bootstrap"  # released: terminal
    evaluate_noise: Literal["mean", "sampled"] = "mean"  # the noise policy while evaluating (released: sampled)

    @property
    def first_update(self) -> int:
        return math.ceil(self.warmup / self.decisions_per_update) * self.decisions_per_update

    def model_post_init(self, context: object) -> None:
        super().model_post_init(context)
        needed = max(self.warmup, self.decisions_per_update) * self.num_envs
        if self.replay_size < needed:
            raise ValueError(
                f"replay_size {self.replay_size} never holds the {needed} decisions that {self.num_envs} environments "
                "make before the first gradient step: give a larger one, or a smaller warmup"
            )


class DSRLNAConfig(DSRLConfig):
    """Noise aliasing: a critic of chunks, distilled into the critic of noise that the actor climbs."""

    distillation_steps: Count = Field(10, ge=1)  # gradient steps per update (released: noise_critic_grad_steps)
    distillation_noise: Literal["bounded", "gaussian"] = "bounded"  # N(0, I) clamped to the box, or not (released)


def normed_mlp(inputs: int, hidden: tuple[int, ...], outputs: int) -> nn.Sequential:
    """Layers of Linear, LayerNorm, tanh, then a Linear (as released)."""
    layers: list[nn.Module] = []
    for width, following in itertools.pairwise([inputs, *hidden]):
        layers += [nn.Linear(width, following), nn.LayerNorm(following), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(hidden[-1], outputs))


class Critics(nn.Module):
    """Two Q functions of an observation and a chunk or a noise: [B, O], [B, H, A] -> [2, B]."""

    def __init__(self, obs_dim: int, flat: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(normed_mlp(obs_dim + flat, hidden, 1) for _ in range(2))

    def forward(self, obs: Tensor, what: Tensor) -> Tensor:
        x = torch.cat([obs, what.flatten(1)], 1)
        return torch.stack([head(x).squeeze(-1) for head in self.heads])


class NoisePolicy(nn.Module):
    """pi(w | s): a Gaussian squashed by tanh, in units of the noise box."""

    def __init__(self, obs_dim: int, flat: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.body = normed_mlp(obs_dim, hidden, 2 * flat)

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """obs [B, O] -> mean and log standard deviation before tanh, each [B, H * A]."""
        mean, log_std = self.body(obs).chunk(2, -1)
        return mean, log_std.clamp(-20, 2)

    def sample(self, obs: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Noise in [-1, 1], [B, H * A], and its log-probability [B] (Haarnoja et al. 2018, appendix C)."""
        mean, log_std = self(obs)
        z = torch.randn(mean.shape, generator=rng, device=rng.device)
        u = mean + log_std.exp() * z
        log_prob = -0.5 * z**2 - log_std - 0.5 * math.log(2 * math.pi)
        log_squash = 2 * (math.log(2) - u - nn.functional.softplus(-2 * u))  # log(1 - tanh(u)^2), stable
        return u.tanh(), (log_prob - log_squash).sum(-1)


class DSRL(Method):
    """Soft actor-critic whose action is the initial noise of a frozen, deterministic decoder."""

    config: DSRLConfig
    policy: DiffusionPolicy
    from_scratch = False  # a random decoder has nothing to steer

    def __init__(self, policy: DiffusionPolicy, spec: Spec, config: DSRLConfig, rng: torch.Generator) -> None:
        super().__init__(policy.requires_grad_(False), spec, config, rng)
        sizes = spec.obs_dim, spec.chunk * spec.action_dim, config.hidden
        self.chain = policy.chain("ddim", config.sampler_steps, spacing=config.spacing, eta=0.0)
        self.actor = seeded(lambda: NoisePolicy(*sizes), rng)
        self.critic = seeded(lambda: Critics(*sizes), rng)
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(config.initial_temperature), device=rng.device))
        self.actor_optimiser = self.optimiser(self.actor.parameters())
        self.critic_optimiser = self.optimiser(self.critic.parameters())
        self.temperature_optimiser = self.optimiser([self.log_temperature])
        self.replay = Replay(config.replay_size, rng.device)
        self.gradient_steps = 0

    def optimiser(self, parameters) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, self.config.learning_rate, fused=True)

    # -- what noise aliasing changes ------------------------------------------------------------------------------

    @abstractmethod
    def judged(self, obs: Tensor, unit_noise: Tensor) -> Tensor:
        """What the critic judges where the policy gives this noise: the chunk or the noise."""

    @abstractmethod
    def noise_value(self, obs: Tensor, unit_noise: Tensor) -> Tensor:
        """Two Q values of a noise for the actor to climb, [2, B], differentiable in the noise."""

    # -- acting -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def run(self, obs: Tensor, noise: Tensor) -> list[Tensor]:
        """obs [B, O], initial noise in its own units [B, H * A] -> the decoder's points, the chunk [B, H, A] last."""
        return self.chain.run(self.policy.network, obs, noise.view(-1, 1, self.spec.chunk, self.spec.action_dim))

    def base_noise(self, n: int) -> Tensor:
        return self.chain.noise(n, self.spec.chunk, self.spec.action_dim, self.rng).flatten(1)

    @torch.no_grad()
    def act(self, obs: Tensor) -> Decision:
        if self.gradient_steps:
            noise = self.config.noise_bound * self.actor.sample(obs, self.rng)[0]
        else:
            noise = self.base_noise(len(obs))
        return Decision(self.run(obs, noise)[-1], {"noise": noise})

    def exploit(self, obs: Tensor) -> Tensor:
        return self.trace(obs)[:, -1]

    @torch.no_grad()
    def trace(self, obs: Tensor) -> Tensor:
        if not self.gradient_steps:
            return torch.stack(self.run(obs, self.base_noise(len(obs))), 1)
        sampled = self.config.evaluate_noise == "sampled"
        unit = self.actor.sample(obs, self.rng)[0] if sampled else self.actor(obs)[0].tanh()
        return torch.stack(self.run(obs, self.config.noise_bound * unit), 1)

    # -- learning ---------------------------------------------------------------------------------------------------

    def update(self, rollout: Rollout) -> dict[str, float]:
        self.remember(rollout)
        if len(self.replay) < self.config.warmup * self.config.num_envs:
            return {}
        history = [self.learn() for _ in range(self.config.critic_steps)]
        metrics = {name: torch.stack([step[name] for step in history]).mean().item() for name in history[0]}
        return metrics | {"policy/temperature": self.log_temperature.exp().item()}

    def remember(self, rollout: Rollout) -> None:
        ended = rollout.terminated
        if self.config.time_limit == "terminal":
            ended = ended | rollout.truncated
        columns = {
            "obs": rollout.obs,
            "next_obs": rollout.final_obs,
            "chunk": rollout.chunk,
            "unit_noise": (rollout.memo["noise"] / self.config.noise_bound).clamp(-1, 1),
            "reward": rollout.reward.float(),
            "continues": (~ended).float(),
        }
        self.replay.add(**{name: value.flatten(0, 1) for name, value in columns.items()})

    def learn(self) -> dict[str, Tensor]:
        """One gradient step of the temperature, the critic and the actor (Haarnoja et al. 2018, algorithm 1)."""
        batch = self.replay.sample((self.config.batch,), self.rng)
        obs = batch["obs"]
        temperature = self.log_temperature.exp().detach()
        unit_noise, log_prob = self.actor.sample(obs, self.rng)
        temperature_loss = -self.log_temperature * (log_prob.detach().mean() + self.config.target_entropy)
        critic_loss, value = self.critic_loss(batch, temperature)
        self.step(self.temperature_optimiser, temperature_loss)
        self.step(self.critic_optimiser, critic_loss)
        # after the critic's step, which changes the weights that this loss is differentiated through
        actor_loss = (temperature * log_prob - self.noise_value(obs, unit_noise).amin(0)).mean()
        self.step(self.actor_optimiser, actor_loss)
        with torch.no_grad():
            torch._foreach_lerp_(list(self.target_critic.parameters()), list(self.critic.parameters()), self.config.tau)
        self.gradient_steps += 1
        return {
            "loss/critic": critic_loss.detach(),
            "loss/policy": actor_loss.detach(),
            "policy/entropy": -log_prob.detach().mean(),
            "value/mean": value,
        }

    def critic_loss(self, batch: dict[str, Tensor], temperature: Tensor) -> tuple[Tensor, Tensor]:
        """0.5 * MSE of both critics to r + gamma (min Q' - temperature * log pi), and the mean target."""
        with torch.no_grad():
            unit_noise, log_prob = self.actor.sample(batch["next_obs"], self.rng)
            following = self.target_critic(batch["next_obs"], self.judged(batch["next_obs"], unit_noise)).amin(0)
            target = batch["reward"] + self.spec.gamma * batch["continues"] * (following - temperature * log_prob)
        value = self.critic(batch["obs"], self.taken(batch))
        return 0.5 * (value - target).square().mean(1).sum(), target.mean()

    @abstractmethod
    def taken(self, batch: dict[str, Tensor]) -> Tensor:
        """What the critic judges of the stored decision."""

    @staticmethod
    def step(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
        optimiser.zero_grad()
        loss.backward(inputs=optimiser.param_groups[0]["params"])
        optimiser.step()


class DSRLSAC(DSRL):
    """DSRL-SAC: steer a frozen diffusion policy by its initial noise; critics of observation and noise."""

    Config = DSRLConfig

    def judged(self, obs: Tensor, unit_noise: Tensor) -> Tensor:
        return unit_noise

    def noise_value(self, obs: Tensor, unit_noise: Tensor) -> Tensor:
        return self.critic(obs, unit_noise)

    def taken(self, batch: dict[str, Tensor]) -> Tensor:
        return batch["unit_noise"]


class DSRLNA(DSRL):
    """DSRL-NA: steer by the initial noise; a critic of decoded chunks, distilled into a critic of noise."""

    Config = DSRLNAConfig
    config: DSRLNAConfig

    def __init__(self, policy: DiffusionPolicy, spec: Spec, config: DSRLNAConfig, rng: torch.Generator) -> None:
        super().__init__(policy, spec, config, rng)
        self.noise_critic = seeded(lambda: Critics(spec.obs_dim, spec.chunk * spec.action_dim, config.hidden), rng)
        self.noise_critic_optimiser = self.optimiser(self.noise_critic.parameters())

    def judged(self, obs: Tensor, unit_noise: Tensor) -> Tensor:
        return self.run(obs, self.config.noise_bound * unit_noise)[-1]

    def noise_value(self, obs: Tensor, unit_noise: Tensor) -> Tensor:
        return self.noise_critic(obs, unit_noise)

    def taken(self, batch: dict[str, Tensor]) -> Tensor:
        return batch["chunk"]

    def update(self, rollout: Rollout) -> dict[str, float]:
        metrics = super().update(rollout)
        return metrics and metrics | {"loss/distillation": self.distil()}

    def distil(self) -> float:
        """Regress the noise critic's heads onto the chunk critic's at fresh noise; one decoding for all steps."""
        steps, batch = self.config.distillation_steps, self.config.batch
        obs = self.replay.sample((steps * batch,), self.rng)["obs"]
        noise = self.base_noise(len(obs))
        if self.config.distillation_noise == "bounded":
            noise = noise.clamp(-self.config.noise_bound, self.config.noise_bound)
        with torch.no_grad():
            target = self.critic(obs, self.run(obs, noise)[-1])
        total = 0.0
        for rows in torch.arange(len(obs), device=self.device).split(batch):
            value = self.noise_critic(obs[rows], noise[rows] / self.config.noise_bound)
            loss = 0.5 * (value - target[:, rows]).square().mean(1).sum()
            self.step(self.noise_critic_optimiser, loss)
            total += loss.detach() / steps
        return float(total)
