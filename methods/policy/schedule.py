"""The noise schedule: cosine betas (Nichol & Dhariwal 2021, section 3.2) and what follows from them."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class NoiseSchedule:
    """Coefficients of K denoising steps; each tensor is [K] float32, index t = 0 is the last, least noisy step."""

    betas: Tensor
    alpha_bar: Tensor  # product of (1 - beta) up to t
    alpha_bar_prev: Tensor  # the same up to t - 1, 1 at t = 0
    x0_weight: Tensor  # posterior mean = x0_weight * x0 + x_weight * x  (DDPM, eq. 7)
    x_weight: Tensor
    std: Tensor  # posterior standard deviation (DDPM, eq. 7), 0 at t = 0


def cosine_schedule(denoising_steps: int) -> NoiseSchedule:
    """The schedule for K steps. K + 1 points are spread over [0, K + 1] as in DPPO's code, betas end at 0.999."""
    count = denoising_steps + 1
    progress = np.linspace(0, count, count) / count
    curve = np.cos((progress + 0.008) / 1.008 * np.pi / 2) ** 2
    curve /= curve[0]
    betas = torch.tensor(np.clip(1 - curve[1:] / curve[:-1], 0, 0.999), dtype=torch.float32)
    alphas = 1 - betas
    alpha_bar = torch.cumprod(alphas, 0)
    alpha_bar_prev = torch.cat([torch.ones(1), alpha_bar[:-1]])
    variance = betas * (1 - alpha_bar_prev) / (1 - alpha_bar)
    return NoiseSchedule(
        betas=betas,
        alpha_bar=alpha_bar,
        alpha_bar_prev=alpha_bar_prev,
        x0_weight=betas * torch.sqrt(alpha_bar_prev) / (1 - alpha_bar),
        x_weight=(1 - alpha_bar_prev) * torch.sqrt(alphas) / (1 - alpha_bar),
        std=torch.sqrt(variance),
    )
