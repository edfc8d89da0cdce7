"""Compiled models of robosuite's tasks. Its package gives XML and meshes; none of its simulation code runs."""

import logging
from functools import cache
from typing import Any

import mujoco
import numpy as np

from dpft.envs.task import DataError

VERSION = "1.4.1"  # what DPPO, NCDPO and DSRL use; other versions have other models and another controller
INSTALL = "pip install -c constraints.txt 'dpft[robosuite]'"
ARENA = 2**25  # bytes of contact memory a simulation; robosuite's own limit of 5,000 contacts reserves 1.3 GB
TWO_ARMS = ("TwoArmTransport",)
PARKED = {  # objects that a task does not use: robosuite moves them to one far place, where they fall and collide
    "PickPlaceCan": ["Milk", "Bread", "Cereal", "VisualMilk", "VisualBread", "VisualCereal", "VisualCan"],
    "NutAssemblySquare": ["RoundNut"],
}


class _Loaded(Exception):
    """Carries the XML out of robosuite's constructor before it compiles and simulates."""


@cache
def robosuite_model(name: str, lean: bool = False) -> mujoco.MjModel:
    """The model of a robosuite environment with Pandas and its default arguments, compiled once a process.

    Lift's cube has the size that np.random.seed(0) draws. lean: without the parked objects. Raises DataError where
    robosuite is missing or another version.
    """
    spec = mujoco.MjSpec.from_string(_xml(name))
    spec.nconmax = spec.njmax = -1
    spec.memory = ARENA
    for thing in PARKED.get(name, []) if lean else []:
        spec.delete(spec.body(f"{thing}_main"))
    return spec.compile()


def _xml(name: str) -> str:
    logging.getLogger("robosuite_logs").setLevel(logging.ERROR)  # it warns of macros that nothing here reads
    try:
        import robosuite
    except ImportError as error:
        raise DataError(f"{name} needs robosuite {VERSION} ({error}): {INSTALL}") from None
    if robosuite.__version__ != VERSION:
        raise DataError(f"{name} needs robosuite {VERSION}, found {robosuite.__version__}: {INSTALL}")
    from robosuite.environments.base import REGISTERED_ENVS

    def stop(env: Any, xml_string: str | None = None) -> None:
        raise _Loaded(env.model.get_xml())

    original = REGISTERED_ENVS[name]
    halted = type(name, (original,), {"_initialize_sim": stop})
    REGISTERED_ENVS[name] = original  # declaring a class registers it
    arms = {"robots": ["Panda"] * 2, "env_configuration": "single-arm-opposed"} if name in TWO_ARMS else {}
    kept = np.random.get_state()  # noqa: NPY002 (robosuite draws from the global generator)
    np.random.seed(0)  # noqa: NPY002
    try:
        halted(**{"robots": "Panda", "has_offscreen_renderer": False, "use_camera_obs": False} | arms)
    except _Loaded as loaded:
        return loaded.args[0]
    finally:
        np.random.set_state(kept)  # noqa: NPY002
    raise AssertionError("robosuite's constructor did not compile a model")
