"""What happens when an environment fails, or the process that started the workers is killed."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import gymnasium as gym
import pytest

from dpft.envs import DataError, get_task, make_vec

PARENT = """
import sys
from dpft.envs import get_task, make_vec
if __name__ == "__main__":
    env = make_vec(get_task("Pendulum-v1"), 4, 3, threads=2)
    env.reset(seed=0)
    print(*[worker.pid for worker in env.workers], flush=True)
    sys.stdin.read()
"""

FAILING = """
import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control import PendulumEnv
from dpft.envs import DataError, TaskSpec, make_vec

class Failing(PendulumEnv):
    def step(self, action):
        raise RuntimeError("the arm came off\\nand more")

gym.register("Failing-v0", Failing, max_episode_steps=9)
if __name__ == "__main__":
    env = make_vec(TaskSpec("x", "failing:Failing-v0", 3, 1, 9, ""), 2, 3)
    env.reset(seed=0)
    try:
        env.step(np.zeros((2, 3, 1)))
    except DataError as error:
        print(error)
    env.close()
"""


MINE = """
import multiprocessing
import gymnasium as gym
from gymnasium.envs.classic_control import PendulumEnv

class Mine(PendulumEnv):
    def __init__(self):
        if BROKEN and multiprocessing.parent_process():
            raise RuntimeError("no licence here")
        super().__init__()

gym.register("Mine-v0", Mine, max_episode_steps=9)
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Writes a module of the user's into the current folder, where the console command finds it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    yield lambda **constants: (tmp_path / "mine.py").write_text(
        "".join(f"{name} = {value}\n" for name, value in constants.items()) + MINE
    )
    sys.modules.pop("mine", None)
    gym.registry.pop("Mine-v0", None)


def test_a_task_of_the_users_own_module(mine):
    mine(BROKEN=False)
    task = get_task("mine:Mine-v0")
    assert (task.name, task.obs_dim, task.max_episode_steps) == ("mine:Mine-v0", 3, 9)
    env = make_vec(task, 2, 3, threads=2)
    obs, _ = env.reset(seed=0)
    assert obs.shape == (2, 3)
    env.close()
    with pytest.raises(DataError, match="did you mean mine:Mine-v0"):
        get_task("mine:Mien-v0")
    with pytest.raises(DataError, match="unknown task 'yours:Mine-v0': no module 'yours' is installed or in "):
        get_task("yours:Mine-v0")


def test_what_a_worker_cannot_make_is_said_in_gymnasiums_words(mine):
    """As are names that only this process knows."""
    mine(BROKEN=True)
    task = get_task("mine:Mine-v0")
    env = make_vec(task, 1, 1)
    with pytest.raises(DataError, match="mine:Mine-v0 raised RuntimeError: no licence here"):
        env.reset(seed=0)
    env.close()
    env = make_vec(get_task("Mine-v0"), 1, 1)
    with pytest.raises(DataError, match=r"Environment `Mine` doesn't exist.*name it MODULE:Mine-v0"):
        env.reset(seed=0)
    env.close()


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    (tmp_path / "parent.py").write_text(PARENT)
    command = [sys.executable, str(tmp_path / "parent.py")]
    variables = os.environ | {"PYTHONPATH": os.getcwd()}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables) as parent:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(map(alive, pids))
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while any(map(alive, pids)):
        assert time.monotonic() < deadline, "workers outlive their parent"
        time.sleep(0.05)


def test_an_environment_that_raises_is_one_line(tmp_path):
    (tmp_path / "failing.py").write_text(textwrap.dedent(FAILING))
    variables = os.environ | {"PYTHONPATH": os.pathsep.join([os.getcwd(), str(tmp_path)])}
    command = [sys.executable, "-c", "import runpy; runpy.run_module('failing', run_name='__main__')"]
    done = subprocess.run(command, capture_output=True, text=True, env=variables)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "failing:Failing-v0 raised RuntimeError: the arm came off"
