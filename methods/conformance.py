"""The tests that every method must pass, as functions: for the suite's own tests and for `dpft check-method`."""

import copy
import dataclasses
import inspect
import io
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dpft.arguments import Parser
from dpft.envs.own import said
from dpft.methods import get_method
from dpft.methods.interface import Decision, Method, Rollout, Spec
from dpft.methods.policy.config import PolicyConfig
from dpft.methods.policy.models import make_policy
from dpft.methods.ppo import PPO

SPEC = Spec(obs_dim=5, action_dim=2, chunk=3, gamma=0.99)
STEPS = 4  # denoising steps K of the policy under test
SMALL = PolicyConfig(hidden=(32, 32, 32))


class Broken(AssertionError):
    """A method does not keep a promise of the interface; the message says which, in plain words."""


def require(condition: bool, message: str) -> None:
    if not condition:
        raise Broken(message)


def build(cls: type[Method], settings: dict[str, Any] | None = None, seed: int = 0, device: str = "cpu") -> Method:
    """A small method around a small random policy, quick to update."""
    quick = {"num_envs": 4, "decisions_per_update": 8, "warmup": 8, "batch": 16}
    values = {name: value for name, value in quick.items() if name in cls.Config.model_fields} | (settings or {})
    config = cls.Config(**values).resolved(STEPS)
    policy = make_policy(cls.fine_tunes, SMALL, SPEC, STEPS, seed=1).to(device)
    return cls(policy, SPEC, config, torch.Generator(device).manual_seed(seed))


def roll_out(method: Method, seed: int = 0) -> Rollout:
    """A rollout on random observations and rewards, with episodes that end in every way."""
    draw = torch.Generator().manual_seed(seed)
    shape = method.decisions_per_update, method.config.num_envs
    obs = torch.rand(*shape, SPEC.obs_dim, generator=draw) * 2 - 1
    decisions = [decide(method, row) for row in obs]
    chance = torch.rand(shape, generator=draw)
    return Rollout(
        obs=obs,
        chunk=torch.stack([d.chunk for d in decisions]),
        reward=torch.randn(shape, generator=draw),
        executed=torch.full(shape, SPEC.chunk),
        terminated=chance < 0.15,
        truncated=chance > 0.85,
        final_obs=torch.rand(*shape, SPEC.obs_dim, generator=draw) * 2 - 1,
        memo={key: torch.stack([d.memo[key] for d in decisions]) for key in decisions[0].memo},
    ).to(method.device)


def decide(method: Method, obs: Tensor) -> Decision:
    """act(), whose decision has a chunk and rows of memo for each of n environments."""
    decision, n = method.act(obs.to(method.device)), len(obs)
    require(isinstance(decision, Decision), f"act() returned {type(decision).__name__}, not a Decision")
    require_chunk(method.act, decision.chunk, n)
    for key, value in decision.memo.items():
        rows = len(value) if value.ndim else "no"
        require(rows == n, f'memo["{key}"] has {rows} rows for {n} environments, not [n, ...]{at(method.act)}')
    return decision


def require_chunk(function: Callable, chunk: Any, n: int) -> None:
    name, expected = function.__name__, (n, SPEC.chunk, SPEC.action_dim)
    require(isinstance(chunk, Tensor), f"{name}() gave a {type(chunk).__name__}, not a tensor [n, H, A]{at(function)}")
    found = tuple(chunk.shape)
    require(found == expected, f"{name}() gave a chunk of shape {found}, not [n, H, A] = {expected}{at(function)}")


def at(function: Callable) -> str:
    code = inspect.unwrap(function).__code__
    return f" ({code.co_filename}, line {code.co_firstlineno})"


def observations(n: int = 6) -> Tensor:
    return torch.rand(n, SPEC.obs_dim, generator=torch.Generator().manual_seed(9)) * 2 - 1


def same(left: Any, right: Any) -> bool:
    """Bit-equality of nested containers of tensors and plain values."""
    if isinstance(left, Tensor):
        return isinstance(right, Tensor) and left.shape == right.shape and torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


def exploit(method: Method, obs: Tensor) -> Tensor:
    with method.drawing_from(5):
        chunk = method.exploit(obs.to(method.device))
    require_chunk(method.exploit, chunk, len(obs))
    return chunk.cpu()


def shapes(cls: type[Method]) -> None:
    """act, exploit and trace give float32 chunks [n, H, A]; memo has a row for each environment."""
    method, obs = build(cls), observations(4)
    decision, greedy = decide(method, obs), method.exploit(obs)
    require_chunk(method.exploit, greedy, len(obs))
    for name, chunk in (("act", decision.chunk), ("exploit", greedy)):
        require(chunk.dtype == torch.float32, f"{name}() gave {chunk.dtype}, not float32")
        require(not chunk.requires_grad, f"{name}() gave a chunk that requires gradients: use torch.no_grad()")
    for key, value in decision.memo.items():
        require(not value.requires_grad, f'memo["{key}"] requires gradients: it would keep every graph alive')
    trace = method.trace(obs)
    whole = trace.ndim == 4 and trace.shape[2:] == greedy.shape[1:]
    require(whole, f"trace() has shape {tuple(trace.shape)}, not [n, points, H, A]{at(method.trace)}")


def sample_shapes(cls: type[Method]) -> None:
    """memo["log_prob"] and new_log_prob() hold one number for each sample, where a method is PPO."""
    method = build(cls)
    if not isinstance(method, PPO):
        return
    stored = roll_out(method).memo.get("log_prob")
    require(stored is not None, f'memo has no "log_prob", which the update needs{at(method.act)}')
    assert stored is not None
    expected = stored.shape[:2].numel() * method.samples_per_decision
    require(
        stored.numel() == expected,
        f'memo["log_prob"] has {stored[0, 0].numel()} numbers for each environment, '
        f"not {method.samples_per_decision}: see PPO.reduce{at(method.act)}",
    )
    data = method.flatten(roll_out(method))
    found = tuple(method.new_log_prob(data, *method.split(torch.arange(expected))).shape)
    require(
        found == (expected,),
        f"new_log_prob() of {expected} samples has shape {found}, not [B] = ({expected},): see PPO.reduce"
        + at(method.new_log_prob),
    )


def finite_metrics(cls: type[Method]) -> None:
    """update() returns finite numbers under the same names each time, and changes what exploit does."""
    method = build(cls)
    before = exploit(method, observations())
    names: set[str] = set()
    for number in range(4):
        metrics = method.update(roll_out(method, number))
        for name, value in metrics.items():
            require(isinstance(value, int | float), f"metric {name} is a {type(value).__name__}, not a number")
            require(value == value and abs(value) != float("inf"), f"metric {name} is {value}")
        if metrics:
            require(not names or names == set(metrics), f"metrics changed their names: {sorted(names ^ set(metrics))}")
            names = set(metrics)
    require(bool(names), "four updates gave no metrics at all")
    require(
        not torch.equal(before, exploit(method, observations())),
        "four updates left exploit() as it was: nothing is learned",
    )


def ratio_is_one(cls: type[Method]) -> None:
    """Recomputed log-probabilities of fresh samples equal the stored ones, where a method has a ratio."""
    method = build(cls)
    if method.log_ratio is None:
        return
    for number in range(2):
        rollout = roll_out(method, number)
        error = method.log_ratio(rollout).abs().max().item()
        require(error < 1e-5, f"the log-ratio of fresh samples is {error:.2g}, not 0, after {number} updates")
        method.update(rollout)


def zero_update_equality(cls: type[Method]) -> None:
    """Before any update exploit() is the base policy under the method's own sampler, whatever the method's seed."""
    obs = observations()
    first, second = build(cls, seed=0), build(cls, seed=1)
    chunk = exploit(first, obs)
    require(
        torch.equal(chunk, exploit(second, obs)), "at zero updates exploit() depends on the method's own initialisation"
    )
    trace = first.trace
    with first.drawing_from(5):
        points = trace(obs)
    require(torch.equal(points[:, -1], chunk), "trace() does not end in exploit()'s chunk")
    if cls.fine_tunes == "gaussian":
        with torch.no_grad():
            mean = make_policy("gaussian", SMALL, SPEC, STEPS, seed=1)(obs)[0]
        require(torch.equal(chunk, mean), "at zero updates exploit() is not the base's mean")


def rows_of_their_own(cls: type[Method]) -> None:
    """A row of exploit() hangs on its own observation and place alone: more episodes extend an evaluation of fewer."""
    method = build(cls)
    for number in range(3):
        method.update(roll_out(method, number))
    obs, other = observations(), observations()
    other[3:] = -other[3:]
    chunks = exploit(method, obs), exploit(method, other)
    require(torch.equal(chunks[0][:3], chunks[1][:3]), "a row of exploit() changes with the observations of the others")


def evaluation_leaves_no_trace(cls: type[Method]) -> None:
    """exploit() changes nothing that is learned or saved."""
    method = build(cls)
    method.update(roll_out(method))
    before = copy.deepcopy(method.state_dict())
    exploit(method, observations())
    require(same(before, method.state_dict()), "exploit() changed the method's state")


def save_and_restore(cls: type[Method]) -> None:
    """A method restored from a file continues bit for bit: actions, metrics and weights."""
    method = build(cls)
    for number in range(3):
        method.update(roll_out(method, number))
    buffer = io.BytesIO()
    torch.save(method.state_dict(), buffer)
    buffer.seek(0)
    other = build(cls, seed=7)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    for number in range(3, 5):
        rollouts = roll_out(method, number), roll_out(other, number)
        require(same(*(dataclasses.asdict(r) for r in rollouts)), "a restored method acts differently")
        metrics = method.update(rollouts[0]), other.update(rollouts[1])
        require(same(*metrics), f"a restored method learns differently: {metrics[0]} and {metrics[1]}")
    require(same(method.state_dict(), other.state_dict()), "a restored method ends in another state")


def weights_suffice(cls: type[Method]) -> None:
    """weights(), which a finished run keeps, are enough for exploit()."""
    method = build(cls)
    for number in range(3):
        method.update(roll_out(method, number))
    other = build(cls, seed=7)
    other.load_weights(method.weights())
    require(
        torch.equal(exploit(method, observations()), exploit(other, observations())),
        "weights() do not restore exploit()",
    )


def seeds(cls: type[Method]) -> None:
    """The same seed gives the same bits, another seed gives others."""

    def play(seed: int) -> tuple[Rollout, dict[str, float]]:
        method = build(cls, seed=seed)
        return roll_out(method), method.update(roll_out(method, 1))

    first, again, other = play(0), play(0), play(1)
    require(
        same(dataclasses.asdict(first[0]), dataclasses.asdict(again[0])),
        "the same seed acts differently the second time",
    )
    require(same(first[1], again[1]), "the same seed learns differently the second time")
    require(not torch.equal(first[0].chunk, other[0].chunk), "another seed acts the same: does act() draw from rng?")


def global_random_state(cls: type[Method]) -> None:
    """All draws come from the generator that the method was given."""
    state = torch.get_rng_state()
    method = build(cls)
    for number in range(3):
        method.update(roll_out(method, number))
    exploit(method, observations())
    require(torch.equal(state, torch.get_rng_state()), "torch's global random state was used: draw from self.rng")


def devices(cls: type[Method]) -> None:
    """Everything works where the policy and the generator are, on a GPU too where there is one."""
    targets = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
    for target in targets:
        method = build(cls, device=target)
        require(method.act(observations(4).to(target)).chunk.device.type == target, f"act() left {target}")
        for number in range(2):
            method.update(roll_out(method, number))
        require(method.exploit(observations(4).to(target)).device.type == target, f"exploit() left {target}")
        require(all(w.device.type == "cpu" for w in method.weights().values()), "weights() must be on the CPU")


def gradients_of_their_losses(cls: type[Method]) -> None:
    """No optimiser steps between a loss and its gradient (a fused one would hide that from autograd)."""
    method = build(cls)
    for optimiser in vars(method).values():
        if isinstance(optimiser, torch.optim.Optimizer):
            for group in optimiser.param_groups:
                group["fused"] = group["foreach"] = False
    for number in range(2):
        try:
            method.update(roll_out(method, number))
        except RuntimeError as error:
            require("inplace" not in str(error), "a loss is differentiated after its weights have been stepped")
            raise


def odd_sizes(cls: type[Method]) -> None:
    """Rollouts that no batch size divides are learned from too."""
    method = build(cls, {"num_envs": 3, "decisions_per_update": 7})
    for number in range(4):
        method.update(roll_out(method, number))


FIRST: list[Callable[[type[Method]], None]] = [shapes, sample_shapes]  # where they fail, the others would only crash
CHECKS: list[Callable[[type[Method]], None]] = [
    *FIRST,
    finite_metrics,
    ratio_is_one,
    zero_update_equality,
    rows_of_their_own,
    evaluation_leaves_no_trace,
    save_and_restore,
    weights_suffice,
    seeds,
    global_random_state,
    devices,
    gradients_of_their_losses,
    odd_sizes,
]


def main(argv: list[str]) -> int:
    """dpft check-method: one line a check, and in plain words what fails."""
    parser = Parser(
        prog="dpft check-method",
        description="Run the tests that every built-in method passes on a method of yours.",
        epilog="example: dpft check-method mypackage.mymethod:MyMethod; dpft check-method ncdpo",
    )
    parser.add_argument("method", help="MODULE:CLASS, or the name of an installed method")
    name = parser.parse_args(argv).method
    cls = get_method(name)
    failed, problems = 0, set[str]()
    for check in CHECKS:
        title = (check.__doc__ or check.__name__).split("\n")[0]
        try:
            check(cls)
        except Exception as error:
            failed += 1
            words = str(error) if isinstance(error, Broken) else said(error, Path(inspect.getfile(cls)).parent)
            kind = re.sub(r"\d+", "", words)  # sizes differ from check to check
            print(f"FAIL  {title}\n      {'as above' if kind in problems else words}")
            problems.add(kind)
            if check in FIRST:
                print("the other checks need this one: mend it first")
                return 1
        else:
            print(f"ok    {title}")
    following = "" if failed else f"; next: dpft train --method {shlex.quote(name)} --out runs/NAME"
    print(f"{len(CHECKS) - failed} of {len(CHECKS)} checks passed{following}")
    return 1 if failed else 0
