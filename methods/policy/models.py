"""The two policies that can be fine-tuned."""

import math

import torch
from torch import Tensor, nn

from dpft.methods.interface import Spec
from dpft.methods.policy.chain import Chain, Sampler
from dpft.methods.policy.config import PolicyConfig
from dpft.methods.policy.denoiser import Denoiser, ResidualMLP
from dpft.methods.policy.schedule import cosine_schedule


class DiffusionPolicy(nn.Module):
    """chunk = denoise(obs, noise): a deterministic, differentiable function of the observation and the noise."""

    def __init__(self, config: PolicyConfig, spec: Spec, denoising_steps: int) -> None:
        super().__init__()
        self.config, self.spec, self.denoising_steps = config.resolved(denoising_steps), spec, denoising_steps
        self.schedule = cosine_schedule(denoising_steps)
        self.network = Denoiser(
            spec.obs_dim,
            spec.chunk,
            spec.action_dim,
            denoising_steps,
            config.hidden,
            config.activation,
            config.time_dim,
        )

    def chain(self, sampler: Sampler = "ddpm", steps: int | None = None, **options: float | str | None) -> Chain:
        """A chain over this policy's schedule; options are Chain's spacing, eta, std_floor, last_std and noise_clip."""
        return Chain(
            self.schedule,
            sampler,
            steps or self.denoising_steps,
            prediction=self.config.prediction,
            clip=self.config.x0_clip,
            clip_gradient=self.config.clip_gradient,
            device=self.network.sinusoids.device,
            **options,  # type: ignore[arg-type]
        )

    def denoise(self, obs: Tensor, noise: Tensor, chain: Chain | None = None) -> Tensor:
        """obs [n, O], noise [n, S + 1, H, A] -> chunk [n, H, A], normalised units; by default DDPM, all K steps."""
        return (chain or self.chain()).run(self.network, obs, noise)[-1]

    def cloning_loss(self, obs: Tensor, chunk: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Mean squared error of the prediction at timesteps t [n] (DDPM, eq. 14)."""
        alpha_bar = self.schedule.alpha_bar.to(t.device)[t][:, None, None]
        noisy = alpha_bar.sqrt() * chunk + (1 - alpha_bar).sqrt() * noise
        target = chunk if self.config.prediction == "x0" else noise
        return nn.functional.mse_loss(self.network(noisy, t, self.network.encode(obs)), target)

    def draw_cloning_loss(self, obs: Tensor, chunk: Tensor, rng: torch.Generator) -> Tensor:
        t = torch.randint(self.denoising_steps, (len(obs),), generator=rng, device=rng.device)
        return self.cloning_loss(obs, chunk, t, torch.randn(chunk.shape, generator=rng, device=rng.device))


class GaussianPolicy(nn.Module):
    """A Gaussian over chunks: tanh mean, one learned bounded standard deviation per action dimension."""

    def __init__(self, config: PolicyConfig, spec: Spec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.trunk = ResidualMLP(spec.obs_dim, config.hidden, spec.chunk * spec.action_dim, config.activation)
        self.log_std = nn.Parameter(torch.full((spec.action_dim,), config.std_init).log())

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """obs [n, O] -> mean [n, H, A], standard deviation [A]."""
        mean = self.trunk(obs).float().tanh().view(-1, self.spec.chunk, self.spec.action_dim)
        return mean, self.std()

    def std(self) -> Tensor:
        """Standard deviation of every action dimension, inside its bounds, [A]."""
        return bounded_std(self.log_std, self.config.std_bounds)

    def draw_cloning_loss(self, obs: Tensor, chunk: Tensor, rng: torch.Generator) -> Tensor:
        """Negative log-likelihood; the bounds keep the deviation from following a deterministic demonstrator to 0."""
        mean, std = self(obs)
        return -torch.distributions.Normal(mean, std, validate_args=False).log_prob(chunk).mean()


def bounded_std(log_std: nn.Parameter, bounds: tuple[float, float]) -> Tensor:
    """exp(log_std) inside the bounds. The parameter itself is kept inside: one that drifts outside has no way back."""
    with torch.no_grad():
        log_std.clamp_(math.log(bounds[0]), math.log(bounds[1]))
    return log_std.exp()


def make_policy(
    kind: str, config: PolicyConfig, spec: Spec, denoising_steps: int, seed: int
) -> DiffusionPolicy | GaussianPolicy:
    """A randomly initialised policy (torch's default initialisation) of kind "diffusion" or "gaussian", on the CPU."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DiffusionPolicy(config, spec, denoising_steps) if kind == "diffusion" else GaussianPolicy(config, spec)
