"""Networks: the residual MLP, the denoiser built on it, and the value network."""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)
Encoded = tuple[Tensor, Tensor]


class _MishOnCPU(torch.autograd.Function):
    """tanh(softplus(x)) is w / (2 - w) with w = s (2 - s) and s = sigmoid(x): one exponential instead of three, and the
    slope is found on the way. In float32 for bfloat16 x, as torch's own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        s = torch.sigmoid(x.float() if x.dtype == torch.bfloat16 else x)
        w = s * (2 - s)
        rest = 2 - w
        gate = w.div_(rest)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(x, (1 - s).div_(rest).square_().mul_(s).mul_(x).mul_(4).add_(gate))
        return (x * gate).type_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        x, slope = ctx.saved_tensors
        if torch.is_grad_enabled():  # it will be differentiated again: the slope as a function of x
            x = x.float() if x.dtype == torch.bfloat16 else x
            gate = nn.functional.softplus(x).tanh()
            slope = gate + x * torch.sigmoid(x) * (1 - gate.square())
        return gradient * slope


class Mish(nn.Module):
    """x tanh(softplus(x)) (Misra 2019); on a CPU with its gradient in a third of the time of torch's own."""

    def forward(self, x: Tensor) -> Tensor:
        return _MishOnCPU.apply(x) if x.is_cpu else nn.functional.mish(x)


ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "mish": Mish, "tanh": nn.Tanh}


class ResidualBlock(nn.Module):
    """Pre-activation block: x + second(act(first(act(x))))."""

    def __init__(self, width: int, activation: str) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.activation = ACTIVATIONS[activation]()
        # what the first layer gave is needed no more, and a new tensor of its size costs time
        self.inner = nn.ReLU(inplace=True) if activation == "relu" else self.activation

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.inner(self.first(self.activation(x)))).add_(x)


class ResidualMLP(nn.Module):
    """Linear in, one residual block per two further hidden layers, linear out (DPPO, appendix B)."""

    def __init__(self, inputs: int, hidden: tuple[int, ...], outputs: int, activation: str) -> None:
        super().__init__()
        width = hidden[0]
        self.input, self.output = nn.Linear(inputs, width), nn.Linear(width, outputs)
        self.blocks = nn.Sequential(*(ResidualBlock(width, activation) for _ in range(len(hidden) // 2)))

    def linears(self) -> list[nn.Linear]:
        """All linear layers in order."""
        inner = [layer for layer in self.blocks.modules() if isinstance(layer, nn.Linear)]
        return [self.input, *inner, self.output]

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.blocks(self.input(x)))


class ValueNetwork(nn.Module):
    """V(s): obs [..., O] -> [...], float32."""

    def __init__(self, obs_dim: int, hidden: tuple[int, ...], activation: str = "mish") -> None:
        super().__init__()
        self.trunk = ResidualMLP(obs_dim, hidden, 1, activation)

    def forward(self, obs: Tensor) -> Tensor:
        return self.trunk(obs).squeeze(-1).float()


class Denoiser(nn.Module):
    """Predicts epsilon or x0 from a noisy chunk [n, H, A], its timestep and the observation.

    The trunk sees [chunk | time embedding | obs].
    """

    sinusoids: Tensor

    def __init__(
        self,
        obs_dim: int,
        chunk: int,
        action_dim: int,
        steps: int,
        hidden: tuple[int, ...],
        activation: str,
        time_dim: int,
    ) -> None:
        super().__init__()
        self.shape, self.time_dim = (chunk, action_dim), time_dim
        self.time_mlp = nn.Sequential(nn.Linear(time_dim, 2 * time_dim), nn.Mish(), nn.Linear(2 * time_dim, time_dim))
        self.trunk = ResidualMLP(chunk * action_dim + time_dim + obs_dim, hidden, chunk * action_dim, activation)
        self.register_buffer("sinusoids", sinusoidal_embedding(steps, time_dim), persistent=False)

    def encode(self, obs: Tensor) -> Encoded:
        """What all steps of a chain share: observations [n, O] and the embeddings of all timesteps [K, time_dim]."""
        return obs, self.time_mlp(self.sinusoids)

    def forward(self, x: Tensor, t: int | Tensor, encoded: Encoded) -> Tensor:
        """x [n, H, A], t one timestep or one per row [n], encoded = encode(obs) -> [n, H, A], of x's type."""
        obs, time = encoded
        # index_select: its backward pass takes a quarter of indexing's
        step = time[t].expand(len(x), -1) if isinstance(t, int) else time.index_select(0, t)
        return self.trunk(torch.cat([x.flatten(1), step, obs], 1)).view_as(x).type_as(x)


def sinusoidal_embedding(steps: int, dim: int) -> Tensor:
    """Sines, then cosines, of t * exp(-i ln(10000) / (dim/2 - 1)): [steps, dim] (Vaswani et al. 2017, section 3.5)."""
    half = dim // 2
    frequency = torch.exp(torch.arange(half) * -(math.log(10000) / (half - 1)))
    angle = torch.arange(steps)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def seeded(build: Callable[[], Network], rng: torch.Generator) -> Network:
    """Build a network whose random initialisation comes from rng and leaves torch's global stream alone."""
    seed = int(torch.randint(2**62, (), generator=rng, device=rng.device))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build().to(rng.device)
