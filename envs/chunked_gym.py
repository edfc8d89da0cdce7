"""Any Gymnasium environment behind the chunked interface, stepped in worker processes."""

import multiprocessing
from multiprocessing.connection import Connection
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from dpft.envs.chunked import Array, ChunkedVectorEnv
from dpft.envs.task import DataError, TaskSpec, first_line


def episode_seed(seed: int, episode: int) -> int:
    """The seed that a slot's episode is reset with, a function of the slot's seed and the episode's number."""
    return int(np.random.SeedSequence([seed, episode]).generate_state(1)[0])


class Slot:
    """One environment and what it takes to come back to where it is: an episode's seed and its actions so far."""

    def __init__(self, env_id: str) -> None:
        self.env = gym.make(env_id)
        self.seed, self.episode = 0, 0
        self.actions: list[Array] = []
        self.obs: Array = np.zeros(0)
        self.resting = True
        self.ended = (False, False)

    def start(self, seed: int, episode: int) -> Array:
        self.seed, self.episode, self.actions = seed, episode, []
        # the first episode uses the slot's seed itself, as a Gymnasium user would
        obs, _ = self.env.reset(seed=seed if episode == 0 else episode_seed(seed, episode))
        self.obs, self.resting, self.ended = np.asarray(obs, np.float64), False, (False, False)
        return self.obs

    def step(self, chunk: Array, autoreset: bool) -> tuple[Array, float, bool, bool, int, Array]:
        """obs, reward, terminated, truncated, executed, final_obs."""
        if self.resting:
            return self.obs, 0.0, *self.ended, 0, self.obs
        total, executed = 0.0, 0
        terminated = truncated = False
        for action in chunk:
            obs, reward, terminated, truncated, _ = self.env.step(action)
            self.actions.append(action)
            total, executed = total + float(reward), executed + 1
            if terminated or truncated:
                break
        self.obs = final_obs = np.asarray(obs, np.float64)
        if terminated or truncated:
            if autoreset:
                self.start(self.seed, self.episode + 1)
            else:
                self.resting, self.ended = True, (bool(terminated), bool(truncated))
        return self.obs, total, bool(terminated), bool(truncated), executed, final_obs

    def get_state(self) -> dict[str, Any]:
        actions = np.asarray(self.actions, np.float32)
        return {
            "seed": self.seed,
            "episode": self.episode,
            "actions": actions,
            "resting": self.resting,
            "ended": self.ended,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Play the episode again up to where it was: exact where seed and actions determine the environment."""
        self.start(state["seed"], state["episode"])
        for action in np.asarray(state["actions"], np.float32):
            obs, *_ = self.env.step(action)
            self.actions.append(action)
            self.obs = np.asarray(obs, np.float64)
        self.resting, self.ended = bool(state["resting"]), tuple(state["ended"])


def work(connection: Connection, env_id: str, count: int, autoreset: bool) -> None:
    """A worker's loop: (name, arguments of each slot) in, results of each slot or an error out."""
    slots: list[Slot] = []
    while True:
        try:
            name, arguments = connection.recv()
        except (EOFError, KeyboardInterrupt):  # the parent is gone
            return
        try:
            slots = slots or [Slot(env_id) for _ in range(count)]
            extra = (autoreset,) if name == "step" else ()
            answer: Any = [getattr(slot, name)(*given, *extra) for slot, given in zip(slots, arguments, strict=True)]
        except Exception as error:  # whatever a foreign environment raises
            answer = f"{type(error).__name__}: {first_line(error)}"
        connection.send(answer)


class ChunkedGym(ChunkedVectorEnv):
    """num_envs environments spread over `processes` workers; a message carries whole chunks."""

    def __init__(self, task: TaskSpec, num_envs: int, chunk: int, processes: int, autoreset: AutoresetMode) -> None:
        probe: Any = gym.make(task.env_id)
        super().__init__(task, num_envs, chunk, probe.action_space.low, probe.action_space.high, autoreset)
        probe.close()
        context = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks
        self.shares = [len(part) for part in np.array_split(np.arange(num_envs), min(processes, num_envs))]
        self.pipes, self.workers = [], []
        for share in self.shares:
            ours, theirs = context.Pipe()
            arguments = theirs, task.env_id, share, autoreset == AutoresetMode.SAME_STEP
            worker = context.Process(target=work, args=arguments, daemon=True)
            worker.start()
            theirs.close()
            self.pipes.append(ours)
            self.workers.append(worker)

    def _ask(self, name: str, arguments: list[tuple]) -> list[Any]:
        """Call one method of every slot, all workers at once."""
        start = 0
        try:
            for pipe, share in zip(self.pipes, self.shares, strict=True):
                pipe.send((name, arguments[start : start + share]))
                start += share
            answers = [pipe.recv() for pipe in self.pipes]
        except (EOFError, OSError):
            raise DataError(f"a worker process of {self.task.env_id} died: is there enough memory?") from None
        for answer in answers:
            if isinstance(answer, str):
                unknown = answer.startswith(("NameNotFound", "NamespaceNotFound"))  # here it was found
                hint = f"; name it MODULE:{self.task.env_id}, for its worker processes to import it" * unknown
                raise DataError(f"{self.task.env_id} raised {answer}{hint}")
        return [result for answer in answers for result in answer]

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        return np.stack(self._ask("start", [(one, 0) for one in self.slot_seeds(seed)])), {}

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict]:
        columns = zip(*self._ask("step", [(chunk,) for chunk in self.check_chunk(actions)]), strict=True)
        obs, reward, terminated, truncated, executed, final_obs = (np.asarray(column) for column in columns)
        return obs, reward, terminated, truncated, {"executed": executed, "final_obs": final_obs}

    def get_state(self) -> dict[str, Any]:
        return {"slots": self._ask("get_state", [()] * self.num_envs)}

    def set_state(self, state: dict[str, Any]) -> None:
        self._ask("set_state", [(slot,) for slot in state["slots"]])

    def close(self, **kwargs: Any) -> None:
        for pipe in self.pipes:
            pipe.close()
        for worker in self.workers:
            worker.join(timeout=5)
