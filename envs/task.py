"""What a task is: an environment, its sizes, and the scores that returns are scaled by. No method is known here."""

from dataclasses import dataclass


class DataError(Exception):
    """Bad user input (an unknown task, a foreign or truncated file); the message is the one line a user sees."""


def first_line(error: BaseException) -> str:
    """What somebody else's exception says, short enough for a DataError."""
    # an OSError's text begins with [Errno 2] and ends with a path that is named anyway
    lines = (error.strerror if isinstance(error, OSError) and error.strerror else str(error)).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


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
    native: bool = False  # stepped by MuJoCo's batch engine (envs/batched_mujoco.py) instead of worker processes

    def normalised(self, episode_return: float) -> float | None:
        """100 * (return - random) / (expert - random): "D4RL-scaled, v5 dynamics". None without reference scores."""
        if self.reference_scores is None:
            return None
        random, expert = self.reference_scores
        return 100.0 * (episode_return - random) / (expert - random)
