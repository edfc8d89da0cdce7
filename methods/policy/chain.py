"""The denoising chain: one function that every sampler and every method runs."""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dpft.methods.policy.denoiser import Denoiser, Encoded
from dpft.methods.policy.schedule import NoiseSchedule

Index = int | Tensor  # one step for all rows, or one per row [n]
Sampler = Literal["ddpm", "ddim"]
Spacing = Literal["trailing", "leading"]


def ddim_timesteps(denoising_steps: int, steps: int, spacing: Spacing) -> Tensor:
    """The S of K timesteps that DDIM visits, descending [S] (Lin et al. 2023, table 2).

    "trailing" divides all of K and starts at K - 1, where there is no signal; "leading" visits every (K // S)-th from
    0 on, so that it starts lower: at K / 2 and a bit where S does not divide K.
    """
    if spacing == "trailing":
        return torch.round(denoising_steps * torch.arange(steps, 0, -1) / steps).long() - 1
    return torch.arange(steps).flip(0) * (denoising_steps // steps)


class InwardClamp(torch.autograd.Function):
    """clamp(x, -bound, bound). Where `last` (a bool, or one per row [n, 1, 1]), a gradient passes outside too if
    descending it leads back inside, as a projected gradient does."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: float, last: bool | Tensor) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bound, ctx.last = bound, last
        return x.clamp(-bound, bound)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return gradient * ((x.abs() <= ctx.bound) | ((gradient * x > 0) & ctx.last)), None, None


class Chain(nn.Module):
    """S denoising steps in order of execution: i = 0 is the noisiest, i = S - 1 gives the chunk.

    One step is x <- mean(x, network(x, t, obs), i) + std[i] * z. `std` holds the schedule's standard deviations
    (DDPM: posterior; DDIM: eta) after the method's floors.
    """

    t: Tensor  # [S] timesteps, descending
    std: Tensor  # [S]

    def __init__(
        self,
        schedule: NoiseSchedule,
        sampler: Sampler,
        steps: int,
        *,
        spacing: Spacing = "trailing",
        eta: float = 1.0,
        std_floor: float = 0.0,
        last_std: float | None = None,
        prediction: str = "epsilon",
        clip: float = 1.0,
        clip_gradient: str = "hard",
        noise_clip: float = 3.0,
        device: torch.device | str = "cpu",
    ) -> None:
        """eta scales DDIM's noise; std_floor bounds every step's std from below; last_std replaces the last one.

        DDIM visits ddim_timesteps(K, steps, spacing), DDPM the last steps of all.
        """
        super().__init__()
        count = len(schedule.betas)
        t = ddim_timesteps(count, steps, spacing) if sampler == "ddim" else torch.arange(steps).flip(0)
        alpha_bar = schedule.alpha_bar[t]
        before = torch.cat([alpha_bar[1:], torch.ones(1)])
        if sampler == "ddim":
            std = eta * torch.sqrt((1 - before) / (1 - alpha_bar) * (1 - alpha_bar / before))
        else:
            std = schedule.std[t]
        direction = torch.sqrt((1 - before - std**2).clamp(min=0))  # of the std before the floor, as released
        std = std.clamp(min=std_floor)
        if last_std is not None:
            std[-1] = last_std
        self.sampler, self.prediction, self.clip, self.clip_gradient = sampler, prediction, clip, clip_gradient
        self.noise_clip = noise_clip
        self.register_buffer("t", t, persistent=False)
        self.register_buffer("std", std, persistent=False)
        coefficients = {
            "x_of_x0": torch.sqrt(1 / alpha_bar),
            "eps_of_x0": torch.sqrt(1 / alpha_bar - 1),
            "x0_weight": schedule.x0_weight[t],
            "x_weight": schedule.x_weight[t],
            "signal": torch.sqrt(alpha_bar),
            "noise_scale": torch.sqrt(1 - alpha_bar),
            "signal_before": torch.sqrt(before),
            "direction": direction,
        }
        for name, value in coefficients.items():
            self.register_buffer(name, value, persistent=False)
        self._numbers = {name: value.tolist() for name, value in coefficients.items()}
        self._t, self._std = t.tolist(), std.tolist()
        self.to(device)

    def __len__(self) -> int:
        return len(self._t)

    def _at(self, name: str, i: Index) -> float | Tensor:
        return self._numbers[name][i] if isinstance(i, int) else getattr(self, name)[i][:, None, None]

    def x0(self, x: Tensor, output: Tensor, i: Index) -> Tensor:
        """The clean chunk that the network's output stands for, clipped to [-clip, clip]."""
        x0 = output if self.prediction == "x0" else self._at("x_of_x0", i) * x - self._at("eps_of_x0", i) * output
        if self.clip_gradient == "inward":
            last = i == len(self) - 1
            return InwardClamp.apply(x0, self.clip, last[:, None, None] if isinstance(last, Tensor) else last)
        clipped = x0.clamp(-self.clip, self.clip)
        return clipped if self.clip_gradient == "hard" else x0 + (clipped - x0).detach()

    def mean(self, x: Tensor, output: Tensor, i: Index) -> Tensor:
        """Mean of step i's Gaussian (DDPM eq. 7; DDIM eq. 12 with epsilon taken from the clipped x0)."""
        x0 = self.x0(x, output, i)
        if self.sampler == "ddpm":
            return self._at("x0_weight", i) * x0 + self._at("x_weight", i) * x
        epsilon = (x - self._at("signal", i) * x0) / self._at("noise_scale", i)
        return self._at("signal_before", i) * x0 + self._at("direction", i) * epsilon

    def step_mean(self, network: Denoiser, encoded: Encoded, x: Tensor, i: Index) -> Tensor:
        return self.mean(x, network(x, self._t[i] if isinstance(i, int) else self.t[i], encoded), i)

    def noise(self, n: int, chunk: int, action_dim: int, rng: torch.Generator) -> Tensor:
        """Everything random about a chunk, standard normal: [n, S + 1, H, A]; index 0 is x_K, i + 1 is step i's z.

        A chain without step noise (DDIM, eta 0) needs x_K alone: [n, 1, H, A].
        """
        count = len(self) + 1 if any(self._std) else 1
        return torch.randn(n, count, chunk, action_dim, generator=rng, device=rng.device)

    def run(
        self,
        network: Denoiser,
        obs: Tensor,
        noise: Tensor,
        *,
        last: int | None = None,
        frozen: Denoiser | None = None,
        checkpointing: bool = False,
    ) -> list[Tensor]:
        """All points of the chain, S + 1 times [n, H, A]: x_K first, the chunk last.

        Differentiable in network and obs through the last `last` steps (all by default); the earlier ones run without
        gradient, by `frozen` where given. With checkpointing, activations are recomputed in the backward pass.
        """
        first = 0 if last is None else max(0, len(self) - last)
        points, z = [noise[:, 0]], noise[:, 1:].clamp(-self.noise_clip, self.noise_clip)

        def advance(using: Denoiser, encoded: Encoded, i: int, recompute: bool = False) -> None:
            arguments = using, encoded, points[-1], i
            mean = (
                checkpoint(self.step_mean, *arguments, use_reentrant=False) if recompute else self.step_mean(*arguments)
            )
            if self._std[i]:
                mean = mean + self._std[i] * z[:, i]
            points.append(mean)

        if first:
            with torch.no_grad():
                early = frozen or network
                encoded = early.encode(obs)
                for i in range(first):
                    advance(early, encoded, i)
        encoded = network.encode(obs)
        for i in range(first, len(self)):
            advance(network, encoded, i, recompute=checkpointing and torch.is_grad_enabled())
        return points
