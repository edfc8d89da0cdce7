"""What a task is: an environment, its sizes, and the scores that returns are scaled by. No method is known here."""

from dataclasses import dataclass, field, replace
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from dpft.errors import DataError


def first_line(error: BaseException) -> str:
    """What somebody else's exception says, short enough for a DataError."""
    # an OSError's text begins with [Errno 2] and ends with a path that is named anyway
    lines = (error.strerror if isinstance(error, OSError) and error.strerror else str(error)).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


class EnvOptions(BaseModel):
    """Named switches of a task, for what codebases do differently. Manipulation has all of them, locomotion none."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    ends_at_success: bool = False  # terminate at the first solved step; robomimic and DPPO play to the horizon
    reward_offset: float = Field(0.0, strict=True)  # added to every step's reward; DSRL's robomimic runs have -1
    lean: bool = False  # Can, Square: leave out the unused objects; faster, other rounding
    cube_size: Literal["fixed", "episode"] = "fixed"  # Lift: one cube for all, or robosuite's draw at every reset


OPTIONS = {"manipulation": frozenset(EnvOptions.model_fields)}  # of each simulator


@dataclass(frozen=True)
class TaskSpec:
    """One task. Sizes are those of the flat observation and action vectors."""

    name: str  # what users type, e.g. "hopper-medium"
    env_id: str  # Gymnasium id, e.g. "Hopper-v5"
    obs_dim: int
    action_dim: int
    max_episode_steps: int  # environment steps until the time limit truncates
    demos: str  # default demonstration source, e.g. "expert:hopper-medium"; "" where the user must name one
    reference_scores: tuple[float, float] | None = None  # (random, expert) returns of D4RL, for v2 dynamics
    simulator: str = "gymnasium"  # worker processes; or MuJoCo's batch engine: "locomotion", "manipulation"
    score: str = "return"  # what an episode is judged by: "return" or "success"
    chunk: int = 4  # actions per decision, as the papers have it
    demo_steps: int = 200_000  # environment steps of the default demonstrations
    obs_keys: tuple[str, ...] = ()  # names of the observation's parts, in their order, where a file format has names
    options: EnvOptions = field(default_factory=EnvOptions)

    def with_options(self, options: EnvOptions) -> "TaskSpec":
        """The task under other options. Raises DataError for one that it does not have."""
        if options == self.options:
            return self
        changed = {name for name, value in options if value != getattr(self.options, name)}
        known = OPTIONS.get(self.simulator, frozenset()) - (frozenset() if self.name == "lift" else {"cube_size"})
        unknown = sorted(changed - known)
        if unknown:
            there = f"there are {', '.join(sorted(known))}" if known else "it has none"
            raise DataError(f"task {self.name} has no option {unknown[0]}: {there}")
        return replace(self, options=options)

    def normalised(self, episode_return: float) -> float | None:
        """100 * (return - random) / (expert - random): "D4RL-scaled, v5 dynamics". None without reference scores."""
        if self.reference_scores is None:
            return None
        random, expert = self.reference_scores
        return 100.0 * (episode_return - random) / (expert - random)
