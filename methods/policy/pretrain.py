"""Behaviour cloning with an exponential moving average of the weights."""

import copy
import math
from collections.abc import Callable

import numpy as np
import torch

from dpft.methods.policy.config import PretrainConfig
from dpft.methods.policy.models import DiffusionPolicy, GaussianPolicy


def pretrain(
    policy: DiffusionPolicy | GaussianPolicy,
    obs: np.ndarray,
    chunks: np.ndarray,
    config: PretrainConfig,
    seed: int,
    on_step: Callable[[int], None] | None = None,
) -> dict[str, float]:
    """Clone normalised chunks [M, H, A] given obs [M, O], in place; the policy ends with the averaged weights.

    Raises ValueError where there are no chunks or the loss is not finite.
    """
    if not len(obs):
        raise ValueError("no demonstration is as long as one action chunk: nothing to clone")
    device = next(policy.parameters()).device
    rng = torch.Generator(device).manual_seed(seed)
    obs_data, chunk_data = torch.as_tensor(obs, device=device), torch.as_tensor(chunks, device=device)
    optimiser = torch.optim.AdamW(
        policy.parameters(), config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    average = copy.deepcopy(policy)
    recent = torch.zeros((), device=device)
    for step in range(config.steps):
        optimiser.param_groups[0]["lr"] = config.learning_rate * (0.55 + 0.45 * math.cos(math.pi * step / config.steps))
        rows = torch.randint(len(obs_data), (config.batch,), generator=rng, device=device)
        loss = policy.draw_cloning_loss(obs_data[rows], chunk_data[rows], rng)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        recent += 0.01 * (loss.detach() - recent)
        if (step + 1) % config.ema_every == 0:
            # a plain copy at first: an average over the random initialisation would linger
            decay = config.ema_decay if step >= config.steps // 10 else 0.0
            with torch.no_grad():
                for mean, new in zip(average.parameters(), policy.parameters(), strict=True):
                    mean.lerp_(new, 1 - decay)
        if on_step:
            on_step(step + 1)
    if not torch.isfinite(recent):
        raise ValueError(f"pre-training diverged: the loss is {recent.item()}")
    policy.load_state_dict(average.state_dict())
    return {"loss/cloning": recent.item()}
