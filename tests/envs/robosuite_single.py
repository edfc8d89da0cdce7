"""robosuite's own environments, one at a time, on today's MuJoCo: what the batched ones are compared with."""

import logging
from types import SimpleNamespace

import mujoco
import numpy as np

from dpft.envs import TASKS
from dpft.envs.robosuite_models import TWO_ARMS


def repair() -> None:
    """robosuite 1.4.1 on MuJoCo 4: enums no longer equal numpy's integers, qM is M, mj_fullM takes other arguments."""
    from robosuite.controllers import base_controller
    from robosuite.utils import binding_utils

    joints = {name: int(kind) for name, kind in mujoco.mjtJoint.__members__.items()}
    binding_utils.mujoco = SimpleNamespace(**vars(mujoco) | {"mjtJoint": SimpleNamespace(**joints)})
    binding_utils.MjData.qM = property(lambda data: data._data)
    full = SimpleNamespace(mj_fullM=lambda model, into, data: mujoco.mj_fullM(model, data, into))
    base_controller.mujoco = SimpleNamespace(**vars(mujoco) | vars(full))


class Single:
    """An environment of a task as robomimic makes it, but for the cube of Lift, which is always the same."""

    def __init__(self, name: str, record: bool = True) -> None:
        logging.getLogger("robosuite_logs").setLevel(logging.ERROR)
        import robosuite

        repair()
        self.task = TASKS[name]
        theirs = self.task.env_id.removeprefix("robosuite/")
        arms = {"robots": ["Panda"] * 2, "env_configuration": "single-arm-opposed"} if theirs in TWO_ARMS else {}
        np.random.seed(0)  # noqa: NPY002 (robosuite draws from the global generator)
        self.env = robosuite.make(
            theirs,
            **{"robots": "Panda"} | arms,
            controller_configs=robosuite.load_controller_config(default_controller="OSC_POSE"),
            has_offscreen_renderer=False,
            use_camera_obs=False,
            control_freq=20,
            ignore_done=True,
            hard_reset=False,
        )
        self.substeps = []  # (integration state, controls) before each mj_step since the reset
        if record:
            self.record()

    def record(self) -> None:
        physics = self.env.sim.step

        def step() -> None:
            self.substeps.append((self.state(), self.data.ctrl.copy()))
            physics()

        self.env.sim.step = step

    @property
    def data(self) -> mujoco.MjData:
        return self.env.sim.data._data

    def state(self) -> np.ndarray:
        kind = mujoco.mjtState.mjSTATE_INTEGRATION
        row = np.empty(mujoco.mj_stateSize(self.env.sim.model._model, kind))
        mujoco.mj_getState(self.env.sim.model._model, self.data, row, kind)
        return row

    def reset(self, seed: int) -> np.ndarray:
        """The observation; qpos is in data."""
        np.random.seed(seed)  # noqa: NPY002
        found = self.observe(self.env.reset())
        self.substeps.clear()
        return found

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float]:
        found, reward, _, _ = self.env.step(action)
        return self.observe(found), reward

    def observe(self, found: dict) -> np.ndarray:
        return np.concatenate([found["object-state" if key == "object" else key] for key in self.task.obs_keys])
