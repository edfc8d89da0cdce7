"""What the on-policy methods share: advantages, reward scaling, the clipped surrogate and the loop over minibatches."""

import math
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from dpft.methods.fields import Count, Quantiles, ResidualWidths
from dpft.methods.interface import Method, MethodConfig, Rollout, Spec
from dpft.methods.policy.denoiser import ValueNetwork, seeded

SLICE = 2048  # samples or states per backward pass: on a CPU a third faster than 50,000 at once, in bounded memory


class PPOConfig(MethodConfig):
    """Proximal policy optimisation (Schulman et al. 2017); defaults for about 1M steps on a small machine."""

    epochs: Count = Field(5, ge=1)  # passes over a rollout (dppo Gym: 5)
    minibatches: Count = Field(5, ge=1)  # gradient steps per pass; the remainder of the division is dropped
    learning_rate: float = Field(1e-4, gt=0)  # policy, AdamW (dppo Gym: 1e-4)
    critic_learning_rate: float = Field(1e-3, gt=0)  # critic, AdamW (dppo Gym: 1e-3)
    critic_hidden: ResidualWidths = (256, 256, 256)  # value network, residual Mish (dppo Gym: 256 x 3)
    critic_warmup: Count = Field(0, ge=0)  # first updates that train the critic alone (dppo: 0 Gym, 2 robomimic)
    clip: float = Field(0.01, gt=0)  # half-width of the ratio's trust region
    log_prob: Literal["mean", "joint"] = "mean"  # over the chunk's H * A elements; the clip has to match (dppo: mean)
    ratio_elements: Count | None = Field(None, ge=1)  # the mean ratio is the joint one ^ 1 / this; none: H * A (dppo)
    target_kl: float | None = Field(1.0, gt=0)  # stop an update above this k3 estimate (dppo: 1)
    max_grad_norm: float | None = Field(None, gt=0)  # bound on the policy gradient's norm (dppo: none)
    entropy_coef: float = Field(0.0, ge=0)  # weight of the Gaussian's entropy, nats per element (dppo: 0)
    gae_lambda: float = Field(0.95, ge=0, le=1)  # GAE (dppo: 0.95)
    value_clip: float | None = Field(None, gt=0)  # trust region of the critic (dppo: off)
    normalise_advantage: bool = True  # within each minibatch (dppo: yes)
    advantage_quantiles: Quantiles = (0.0, 1.0)  # clamp of advantages, within each minibatch (dppo: none)
    reward_scaling: bool = True  # divide by the running deviation of the discounted return, clip at 10 (dppo: yes)
    time_limit: Literal["bootstrap", "terminal"] = "bootstrap"  # released dppo code in Gym: terminal
    precision: Literal["float32", "bfloat16"] = "float32"  # of matrix products, exploring and updating

    @property
    def first_update(self) -> int:
        return (self.critic_warmup + 1) * self.decisions_per_update

    def model_post_init(self, _context: object) -> None:
        decisions = self.num_envs * self.decisions_per_update
        if self.ratio_elements and self.log_prob == "joint":
            raise ValueError("ratio_elements: the joint ratio has no root taken; give log_prob mean, or leave it out")
        cure = "give more num_envs or decisions_per_update, or fewer minibatches"
        if decisions < self.minibatches:
            raise ValueError(f"{self.minibatches} minibatches are more than a rollout's {decisions} decisions: {cure}")
        if self.normalise_advantage and decisions < 2 * self.minibatches:
            raise ValueError(
                f"{self.minibatches} minibatches of {decisions} decisions leave one for each, whose advantage has no "
                f"deviation: {cure}"
            )


def gae(
    reward: Tensor, value: Tensor, next_value: Tensor, terminated: Tensor, truncated: Tensor, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation (Schulman et al. 2016, eq. 16): all [T, n] -> advantage, return [T, n].

    next_value is V of the observation after each chunk, before any reset: a time-out bootstraps from it, a
    termination does not; neither lets the trace run into the next episode.
    """
    delta = reward + gamma * next_value * ~terminated - value
    carry = gamma * lam * ~(terminated | truncated)
    advantage = torch.empty_like(reward)
    running = torch.zeros_like(reward[0])
    for t in reversed(range(len(reward))):
        running = delta[t] + carry[t] * running
        advantage[t] = running
    return advantage, advantage + value


class RewardScaler:
    """Divides rewards by the running standard deviation of the discounted return, as baselines' VecNormalize does."""

    def __init__(self, num_envs: int, gamma: float, device: torch.device, bound: float = 10.0) -> None:
        self.gamma, self.bound = gamma, bound
        self.running = torch.zeros(num_envs, dtype=torch.float64, device=device)  # discounted return so far
        self.mean = torch.zeros((), dtype=torch.float64, device=device)
        self.var = torch.ones((), dtype=torch.float64, device=device)
        self.count = torch.tensor(1e-4, dtype=torch.float64, device=device)

    def __call__(self, reward: Tensor, done: Tensor) -> Tensor:
        """reward, done [T, n] -> scaled reward [T, n]; done marks chunks after which a new episode starts."""
        returns = torch.empty(reward.shape, dtype=torch.float64, device=reward.device)
        for t in range(len(reward)):
            returns[t] = reward[t] + self.gamma * self.running
            self.running = returns[t] * ~done[t]
        self._merge(returns.mean(), returns.var(correction=0), returns.numel())
        return (reward / torch.sqrt(self.var + 1e-8)).clamp(-self.bound, self.bound).float()

    def _merge(self, mean: Tensor, var: Tensor, count: int) -> None:
        """Moments of the union of two samples (Chan et al. 1979), divided by one less than the count, as released."""
        total, delta = self.count + count, mean - self.mean
        self.var = (self.var * self.count + var * count + delta**2 * self.count * count / total) / (total - 1)
        self.mean, self.count = self.mean + delta * count / total, total

    def state_dict(self) -> dict[str, Tensor]:
        return {"running": self.running, "mean": self.mean, "var": self.var, "count": self.count}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for name, value in state.items():
            setattr(self, name, value.to(self.running.device))


def clipped_surrogate(log_ratio: Tensor, advantage: Tensor, clip: Tensor) -> Tensor:
    """The PPO loss of each sample (Schulman et al. 2017, eq. 7, negated); all [B]."""
    ratio = log_ratio.exp()
    return torch.max(-advantage * ratio, -advantage * ratio.clamp(1 - clip, 1 + clip))


def value_loss(value: Tensor, returns: Tensor, old_value: Tensor, clip: float | None) -> Tensor:
    """Half the squared error of each state; with clip, the larger of it and that of the clipped value."""
    error = (value - returns) ** 2
    if clip is not None:
        error = torch.max(error, (old_value + (value - old_value).clamp(-clip, clip) - returns) ** 2)
    return 0.5 * error


def gaussian_log_prob(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """log N(x; mean, std^2) of each element."""
    # torch.distributions expands std before it takes the logarithm
    return -0.5 * ((x - mean) / std).square() - std.log() - 0.5 * math.log(2 * math.pi)


def shuffled(count: int, batches: int, rng: torch.Generator) -> Iterator[Tensor]:
    """Disjoint random index batches of equal size; the remainder is dropped."""
    order = torch.randperm(count, generator=rng, device=rng.device)
    size = max(1, count // batches)
    return (order[start : start + size] for start in range(0, size * min(batches, count), size))


class PPO(Method):
    """The update that NCDPO, DPPO, FIND and Gaussian PPO share.

    A method says what is stored (act's memo, with its "log_prob" [n] or [n, samples per decision]) and how a
    log-probability is recomputed; a sample is (decision, index) where a decision has several, as DPPO's have.
    """

    config: PPOConfig
    samples_per_decision = 1

    def __init__(self, policy: nn.Module, spec: Spec, config: Any, rng: torch.Generator) -> None:
        super().__init__(policy, spec, config, rng)
        self.critic = seeded(lambda: ValueNetwork(self.state_dim, config.critic_hidden), rng)
        self.reward_scaler = RewardScaler(config.num_envs, spec.gamma, rng.device)
        self.updates = 0

    def start_optimisers(self, actor_parameters: Iterable[nn.Parameter]) -> None:
        self.actor_optimiser = torch.optim.AdamW(
            actor_parameters, self.config.learning_rate, weight_decay=0.0, fused=True
        )
        self.critic_optimiser = torch.optim.AdamW(
            self.critic.parameters(), self.config.critic_learning_rate, weight_decay=0.0, fused=True
        )

    def mixed(self) -> torch.autocast:
        """Within it networks compute in the configured precision; their parameters and outputs stay float32."""
        return torch.autocast(self.device.type, torch.bfloat16, self.config.precision == "bfloat16")

    @abstractmethod
    def new_log_prob(self, data: dict[str, Tensor], decision: Tensor, index: Tensor) -> Tensor:
        """Log-probability under the current policy of the samples (decision [B], index [B]) -> [B], differentiable."""

    @property
    def state_dim(self) -> int:
        """How many numbers the critic sees."""
        return self.spec.obs_dim

    def states(self, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """What the critic sees at each decision and after it, [T, n, state_dim] both."""
        return rollout.obs, rollout.final_obs

    def clip_width(self, index: Tensor) -> Tensor:
        """Half-width of each sample's trust region, [B]."""
        return torch.full_like(index, self.config.clip, dtype=torch.float32)

    def advantage_weight(self, index: Tensor) -> Tensor:
        """Factor on each sample's advantage, [B]."""
        return torch.ones_like(index, dtype=torch.float32)

    def surrogate(self, log_ratio: Tensor, advantage: Tensor, clip: Tensor) -> Tensor:
        """The policy loss of each sample; all [B]."""
        return clipped_surrogate(log_ratio, advantage, clip)

    def entropy(self) -> Tensor | None:
        """Entropy of the exploration noise, nats per element, where it is learned."""
        return None

    def reduce(self, element_log_prob: Tensor) -> Tensor:
        """[B, H, A] -> [B]: the joint log-probability, or its mean over the elements (a tempered ratio).

        The mean's `clip` bounds the joint ratio by (1 +- clip)^(H * A), looser for longer chunks. Divided by
        `ratio_elements` instead, its region is the same for every chunk and task.
        """
        elements = element_log_prob.flatten(1)
        if self.config.log_prob == "joint":
            return elements.sum(1)
        return elements.sum(1) / self.config.ratio_elements if self.config.ratio_elements else elements.mean(1)

    def flatten(self, rollout: Rollout) -> dict[str, Tensor]:
        """[T, n, ...] -> [T * n, ...] of everything that the losses read."""
        data = {
            name: value.flatten(0, 1)
            for name, value in {"obs": rollout.obs, "chunk": rollout.chunk, **rollout.memo}.items()
        }
        if self.config.precision != "float32":  # rounding of another graph or shape would be taken for a change
            samples = torch.arange(data["log_prob"].numel(), device=self.device)
            data["log_prob"] = self.log_prob(data, samples)
        return data

    @torch.no_grad()
    def log_prob(self, data: dict[str, Tensor], samples: Tensor) -> Tensor:
        """Log-probability of samples [B] under the current policy, [B], in slices as the update takes them."""
        with self.mixed():
            return torch.cat([self.new_log_prob(data, *self.split(part)) for part in samples.split(SLICE)])

    def split(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Samples [B] -> their decision [B] and which of its samples they are [B]."""
        return samples // self.samples_per_decision, samples % self.samples_per_decision

    def log_ratio(self, rollout: Rollout) -> Tensor:
        """New minus stored log-probability of every sample in random order, [T * n * samples per decision]."""
        data = self.flatten(rollout)
        samples = torch.randperm(data["log_prob"].numel(), generator=self.rng, device=self.device)
        return self.log_prob(data, samples) - data["log_prob"].flatten()[samples]

    def estimate_advantages(self, rollout: Rollout) -> dict[str, Tensor]:
        """The critic's states [T * n, state_dim]; advantages, returns and values of every decision, [T * n]."""
        terminated, truncated = rollout.terminated, rollout.truncated
        if self.config.time_limit == "terminal":
            terminated = terminated | truncated
        reward = rollout.reward.float()
        if self.config.reward_scaling:
            reward = self.reward_scaler(reward, rollout.terminated | rollout.truncated)
        with torch.no_grad():
            state, next_state = self.states(rollout)
            value, next_value = self.critic(state), self.critic(next_state)
        advantage, returns = gae(
            reward, value, next_value, terminated, truncated, self.spec.gamma, self.config.gae_lambda
        )
        return {
            "state": state.flatten(0, 1),
            "advantage": advantage.flatten(),
            "return": returns.flatten(),
            "value": value.flatten(),
        }

    def learned_from(self, rollout: Rollout) -> dict[str, Tensor]:
        """What an update learns from, a row for each decision."""
        return self.flatten(rollout) | self.estimate_advantages(rollout)

    def minibatch_advantage(self, data: dict[str, Tensor], decision: Tensor) -> Tensor:
        """The samples' advantages, normalised and clamped within their minibatch, [B]."""
        advantage = data["advantage"][decision]
        if self.config.normalise_advantage:
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        if self.config.advantage_quantiles != (0.0, 1.0):
            advantage = advantage.clamp(*(torch.quantile(advantage, q) for q in self.config.advantage_quantiles))
        return advantage

    def policy_loss(
        self, data: dict[str, Tensor], decision: Tensor, index: Tensor, advantage: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The samples' mean clipped surrogate, and their KL estimate, clip fraction and mean ratio."""
        new = self.new_log_prob(data, decision, index)
        log_ratio = new - data["log_prob"].flatten()[decision * self.samples_per_decision + index]
        clip = self.clip_width(index)
        loss = self.surrogate(log_ratio, self.advantage_weight(index) * advantage, clip).mean()
        with torch.no_grad():
            ratio = log_ratio.exp()
            info = {
                "policy/kl": (ratio - 1 - log_ratio).mean(),
                "policy/clip_fraction": ((ratio - 1).abs() > clip).float().mean(),
                "policy/ratio": ratio.mean(),
            }
        return loss, info

    def critic_losses(self, data: dict[str, Tensor], decision: Tensor) -> Iterator[Tensor]:
        """The mean over samples, in slices that add up to it; each state is evaluated once however many of its
        samples are in the minibatch."""
        states, repeats = decision, torch.ones_like(decision)
        if self.samples_per_decision > 1:
            states, repeats = decision.unique(return_counts=True)
        for part, count in zip(states.split(SLICE), repeats.split(SLICE), strict=True):
            value = self.critic(data["state"][part])
            loss = value_loss(value, data["return"][part], data["value"][part], self.config.value_clip)
            yield (loss * count).sum() / len(decision)

    def update(self, rollout: Rollout) -> dict[str, float]:
        data = self.learned_from(rollout)
        train_actor = self.updates >= self.config.critic_warmup
        history: list[dict[str, Tensor]] = []
        for samples in self._minibatches(len(data["obs"])):
            decision, index = self.split(samples)
            with self.mixed():  # around all slices: weights are cast once a minibatch
                history.append(self._step_critic(data, decision) | self._step_actor(data, decision, index, train_actor))
            if self.config.target_kl is not None and history[-1]["policy/kl"] > self.config.target_kl:
                break
        self.updates += 1
        error = data["return"] - data["value"]
        metrics = {name: torch.stack([info[name] for info in history]).mean().item() for name in history[0]}
        metrics["policy/kl"] = history[-1]["policy/kl"].item()
        metrics["policy/gradient_steps"] = float(len(history) if train_actor else 0)
        entropy = self.entropy()
        if entropy is not None:
            metrics["policy/std"] = entropy.exp().item()
        metrics["value/explained_variance"] = (1 - error.var() / (data["return"].var() + 1e-8)).item()
        return metrics

    def _minibatches(self, decisions: int) -> Iterator[Tensor]:
        for _ in range(self.config.epochs):
            yield from shuffled(decisions * self.samples_per_decision, self.config.minibatches, self.rng)

    def _step_critic(self, data: dict[str, Tensor], decision: Tensor) -> dict[str, Tensor]:
        self.critic_optimiser.zero_grad()
        total = torch.zeros((), device=self.device)
        for loss in self.critic_losses(data, decision):
            loss.backward()
            total += loss.detach()
        self.critic_optimiser.step()
        return {"loss/value": total}

    def _step_actor(self, data: dict[str, Tensor], decision: Tensor, index: Tensor, train: bool) -> dict[str, Tensor]:
        """One gradient step; the gradient is summed over slices of the minibatch that fit into a CPU's cache."""
        self.actor_optimiser.zero_grad()
        entropy = self.entropy()
        if entropy is not None and entropy.requires_grad:
            (-self.config.entropy_coef * entropy).backward()
        totals: dict[str, Tensor] = {}
        samples = decision, index, self.minibatch_advantage(data, decision)
        for part in zip(*(column.split(SLICE) for column in samples), strict=True):
            loss, info = self.policy_loss(data, *part)
            share = len(part[0]) / len(decision)
            (share * loss).backward()
            for name, value in (info | {"loss/policy": loss.detach()}).items():
                totals[name] = totals.get(name, 0.0) + share * value
        bound = self.config.max_grad_norm or float("inf")
        norm = nn.utils.clip_grad_norm_(self.actor_optimiser.param_groups[0]["params"], bound)
        if train:
            self.actor_optimiser.step()
        return totals | {"policy/gradient_norm": norm}
