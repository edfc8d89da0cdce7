"""The one interface that every fine-tuning method implements."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from dpft.methods.fields import Count, Settings


class MethodConfig(Settings):
    """Settings that every method has; a method's own Config adds its fields, each with unit and source."""

    num_envs: Count = Field(40, ge=1)  # environments stepped side by side
    decisions_per_update: Count = Field(25, ge=1)  # decisions (action chunks) per environment between two updates
    gamma: float = Field(0.99, gt=0, le=1)  # discount per decision, not per environment step (dppo: train.gamma)

    @property
    def first_update(self) -> int:
        """Decisions per environment after which what acts has been trained for the first time."""
        return self.decisions_per_update

    def resolved(self, denoising_steps: int, from_scratch: bool = False) -> "MethodConfig":
        """The same settings with every default that depends on K, or on whether the policy is random, filled in;
        this is what config.yaml records."""
        return self


@dataclass(frozen=True)
class Spec:
    """The sizes a method may know about its task; never the task's name."""

    obs_dim: int
    action_dim: int
    chunk: int  # actions executed per decision (H)
    gamma: float  # discount per decision


@dataclass
class Decision:
    """What a method decided for n environments."""

    chunk: Tensor  # [n, H, A] in normalised action units, never clipped by the method
    memo: dict[str, Tensor] = field(default_factory=dict)  # [n, ...] each: what update() needs again


@dataclass
class Rollout:
    """The newest T decisions of n environments, on the run's device."""

    obs: Tensor  # [T, n, O] normalised float32
    chunk: Tensor  # [T, n, H, A] as the method gave it, before the action box clips it
    reward: Tensor  # [T, n] summed over the executed steps
    executed: Tensor  # [T, n] int64: simulated steps, fewer than H where the episode ended inside the chunk
    terminated: Tensor  # [T, n] bool
    truncated: Tensor  # [T, n] bool
    final_obs: Tensor  # [T, n, O] the observation after the chunk, before any reset
    memo: dict[str, Tensor]  # [T, n, ...]

    def to(self, device: torch.device | str) -> "Rollout":
        moved = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "memo"}
        return Rollout(
            **{name: value.to(device) for name, value in moved.items()},
            memo={name: value.to(device) for name, value in self.memo.items()},
        )


class Method(ABC):
    """One way to fine-tune a policy.

    Everything a method learns lives in its attributes: modules, optimisers, tensors, numbers, generators, and
    objects with state_dict/load_state_dict. They are saved and restored here, so a method writes no code for it.
    """

    Config: ClassVar[type[MethodConfig]]
    fine_tunes: ClassVar[str] = "diffusion"  # the kind of base policy: "diffusion" or "gaussian"
    from_scratch: ClassVar[bool] = True  # whether a randomly initialised policy makes sense
    # recomputes log-probabilities at update: log_ratio(rollout) -> [T, n, ...], all zero on fresh samples
    log_ratio: Callable[[Rollout], Tensor] | None = None

    def __init__(self, policy: nn.Module, spec: Spec, config: MethodConfig, rng: torch.Generator) -> None:
        """policy is this method's own copy, on the run's device; rng, on the same device, feeds all its draws."""
        self.policy, self.spec, self.config, self.rng = policy, spec, config, rng

    @property
    def decisions_per_update(self) -> int:
        return self.config.decisions_per_update

    @property
    def device(self) -> torch.device:
        return self.rng.device

    @abstractmethod
    def act(self, obs: Tensor) -> Decision:
        """Explore: obs [n, O] -> a chunk for each environment and what update() needs again."""

    @abstractmethod
    def exploit(self, obs: Tensor) -> Tensor:
        """Evaluate: obs [n, O] -> chunk [n, H, A]."""

    def mixed(self) -> AbstractContextManager[Any]:
        """Held while a rollout is collected: mixed precision, where a method has it. Weights are cast once."""
        return nullcontext()

    def trace(self, obs: Tensor) -> Tensor:
        """The points of the chain that end in exploit's chunk, [n, S + 1, H, A]; the chunk alone without a chain."""
        return self.exploit(obs)[:, None]

    @abstractmethod
    def update(self, rollout: Rollout) -> dict[str, float]:
        """Learn from the newest rollout and return metrics, named like "loss/policy"."""

    # -- saving and restoring -------------------------------------------------------------------------------------

    def _learned(self) -> Iterator[tuple[str, Any]]:
        for name, value in vars(self).items():
            if name not in ("spec", "config") and not inspect.isroutine(value):
                yield name, value

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue bit for bit, as tensors, numbers and containers of them."""
        state: dict[str, Any] = {}
        for name, value in self._learned():
            if isinstance(value, torch.Generator):
                state[name] = value.get_state()
            elif isinstance(value, Tensor):
                state[name] = value.detach().clone()
            elif hasattr(value, "state_dict"):
                state[name] = value.state_dict()
            elif isinstance(value, bool | int | float | str | None):
                state[name] = value
            else:
                raise TypeError(
                    f"{type(self).__name__}.{name} is a {type(value).__name__}, which cannot be saved: "
                    "use a module, optimiser, tensor, number or an object with state_dict/load_state_dict"
                )
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo state_dict(). Raises KeyError where the state belongs to another method."""
        for name, value in self._learned():
            if isinstance(value, torch.Generator):
                value.set_state(state[name].cpu())
            elif isinstance(value, Tensor):
                with torch.no_grad():
                    value.copy_(state[name])
            elif hasattr(value, "load_state_dict"):
                value.load_state_dict(state[name])
            else:
                setattr(self, name, state[name])

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor of the method's modules, and every tensor that is an attribute itself, by its dotted name."""
        for name, value in self._learned():
            if isinstance(value, nn.Module):
                yield from ((f"{name}.{key}", tensor) for key, tensor in value.state_dict().items())
            elif isinstance(value, Tensor):
                yield name, value.detach()

    def weights(self) -> dict[str, Tensor]:
        """What exploit() needs, flat, for safetensors: the modules and the numbers, without optimisers or replay."""
        flat = dict(self.tensors())
        for name, value in self._learned():
            if isinstance(value, bool | int | float):
                flat[name] = torch.tensor(value, dtype=torch.float64)
        return {key: tensor.cpu().clone().contiguous() for key, tensor in flat.items()}

    def load_weights(self, flat: dict[str, Tensor]) -> None:
        """Undo weights(). Raises KeyError or RuntimeError where they belong to another method or architecture."""
        for name, value in self._learned():
            if isinstance(value, nn.Module):
                prefix = f"{name}."
                value.load_state_dict({k.removeprefix(prefix): v for k, v in flat.items() if k.startswith(prefix)})
            elif isinstance(value, Tensor):
                with torch.no_grad():
                    value.copy_(flat[name])
            elif isinstance(value, bool | int | float):
                setattr(self, name, type(value)(flat[name].item()))

    @contextmanager
    def drawing_from(self, seed: int) -> Iterator[None]:
        """Draw from a stream of its own meanwhile (evaluation), so that training is the same with and without."""
        saved = self.rng.get_state()
        self.rng.manual_seed(seed)
        try:
            yield
        finally:
            self.rng.set_state(saved)
