"""Tasks: simulators stepped in batches of action chunks, and demonstrations."""

import difflib
from typing import TYPE_CHECKING, Any

from dpft.envs.own import import_own
from dpft.envs.task import DataError, TaskSpec, first_line

if TYPE_CHECKING:
    import numpy as np
    from gymnasium.vector import AutoresetMode

    from dpft.envs.chunked import ChunkedVectorEnv

__all__ = ["TASKS", "DataError", "TaskSpec", "action_box", "get_task", "make_vec"]


def _locomotion(name: str, env_id: str, obs_dim: int, action_dim: int, scores: tuple[float, float]) -> TaskSpec:
    return TaskSpec(name, env_id, obs_dim, action_dim, 1000, f"expert:{name}", scores, simulator="locomotion")


def _manipulation(name: str, env_id: str, obs_dim: int, horizon: int, demo_steps: int, arms: int = 1) -> TaskSpec:
    """robosuite's task with robomimic's low-dimensional observations, DPPO's horizons and chunks."""
    parts = [f"robot{arm}_{part}" for arm in range(arms) for part in ("eef_pos", "eef_quat", "gripper_qpos")]
    return TaskSpec(
        name,
        env_id,
        obs_dim,
        7 * arms,
        horizon,
        f"expert:{name}" if demo_steps else "",
        simulator="manipulation",
        score="success",
        chunk=4 * arms,
        demo_steps=demo_steps,
        obs_keys=(*parts, "object"),
    )


# reference scores: d4rl.infos.REF_MIN_SCORE and REF_MAX_SCORE of D4RL 1.1
TASKS: dict[str, TaskSpec] = {
    task.name: task
    for task in (
        _locomotion("hopper-medium", "Hopper-v5", 11, 3, (-20.272305, 3234.3)),
        _locomotion("walker2d-medium", "Walker2d-v5", 17, 6, (1.629008, 4592.3)),
        _locomotion("halfcheetah-medium", "HalfCheetah-v5", 17, 6, (-280.178953, 12135.0)),
        _manipulation("lift", "robosuite/Lift", 19, 300, 4_000),
        _manipulation("can", "robosuite/PickPlaceCan", 23, 300, 8_000),
        _manipulation("square", "robosuite/NutAssemblySquare", 23, 400, 10_000),
        _manipulation("transport", "robosuite/TwoArmTransport", 59, 800, 0, arms=2),
    )
}


def get_task(name: str) -> TaskSpec:
    """A task of this suite, or any Gymnasium id with flat real observations and actions; MODULE:ID is that of a module
    of the user's, which registers it.

    Raises DataError for an unknown name (with the nearest one) and for spaces of another kind.
    """
    if name in TASKS:
        return TASKS[name]
    import gymnasium as gym

    module, colon, env_id = name.rpartition(":")
    if colon:
        try:
            import_own(module)
        except DataError as error:
            raise DataError(f"unknown task {name!r}: {error}") from None
    if env_id not in gym.registry:
        near = difflib.get_close_matches(env_id, [*gym.registry] if colon else [*TASKS, *gym.registry], 1)
        others = f"{', '.join(TASKS)}, every Gymnasium id, and MODULE:ID of a module of yours"
        hint = f"did you mean {module}{colon}{near[0]}?" if near else f"there are {others}"
        raise DataError(f"unknown task {name!r}: {hint}")
    try:
        env = gym.make(name)
    except Exception as error:  # an environment may need a package that is not there
        raise DataError(f"Gymnasium cannot make {name!r}: {first_line(error)}") from None
    obs: Any = env.observation_space
    action: Any = env.action_space
    env.close()
    for what, space in (("observation", obs), ("action", action)):
        if not (isinstance(space, gym.spaces.Box) and len(space.shape) == 1 and space.dtype.kind == "f"):
            raise DataError(f"task {name!r} has {what} space {space}: only flat Box spaces of floats can be used")
    limit = env.spec.max_episode_steps if env.spec else None
    if limit is None:
        raise DataError(f"task {name!r} has no time limit: register it with max_episode_steps")
    return TaskSpec(name, name, obs.shape[0], action.shape[0], limit, demos="")


def make_vec(
    task: TaskSpec, num_envs: int, chunk: int, threads: int = 1, autoreset: "AutoresetMode | None" = None
) -> "ChunkedVectorEnv":
    """num_envs environments of a task stepped by whole chunks, on `threads` threads (native) or processes."""
    from gymnasium.vector import AutoresetMode

    mode = autoreset or AutoresetMode.SAME_STEP
    if task.simulator == "locomotion":
        from dpft.envs.locomotion import BatchedLocomotion

        return BatchedLocomotion(task, num_envs, chunk, threads, mode)
    if task.simulator == "manipulation":
        from dpft.envs.manipulation import BatchedManipulation

        return BatchedManipulation(task, num_envs, chunk, threads, mode)
    from dpft.envs.chunked_gym import ChunkedGym

    return ChunkedGym(task, num_envs, chunk, threads, mode)


def action_box(task: TaskSpec) -> "tuple[np.ndarray, np.ndarray]":
    """Lowest and highest actions that the environment executes, [A] each."""
    env = make_vec(task, 1, 1)
    env.close()
    box: Any = env.single_action_space
    return box.low[0], box.high[0]
