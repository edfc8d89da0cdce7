"""Behaviour cloning with an exponential moving average of the weights."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

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

    def blend(mean: Tensor, new: Tensor, updates: Tensor | int) -> Tensor:
        """Decay min(ema_decay, (1 + n) / (10 + n)) after n updates: what is old fades however early the run ends."""
        return torch.lerp(mean, new, max(1 - config.ema_decay, 9 / (10 + int(updates))))

    average = AveragedModel(policy, avg_fn=blend)  # the first update is a copy
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
            average.update_parameters(policy)
        if on_step:
            on_step(step + 1)
    if not torch.isfinite(recent):
        raise ValueError(f"pre-training diverged: the loss is {recent.item()}")
    policy.load_state_dict(average.module.state_dict())
    return {"loss/cloning": recent.item()}
