"""Our reference scores are D4RL's: checked against the package itself, which needs no MuJoCo 2.1 for its tables."""

import json
import os
import subprocess
import sys

import pytest

from dpft.envs import TASKS

SCRIPT = """
import json, d4rl.infos
print(json.dumps({name: [d4rl.infos.REF_MIN_SCORE[name], d4rl.infos.REF_MAX_SCORE[name]] for name in %r}))
"""

READER = """
from dpft.envs import TASKS, DataError
from dpft.envs.demonstrations import load_demos
try:
    load_demos("d4rl:hopper-medium-v2", TASKS["hopper-medium"])
except DataError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def d4rl(tmp_path_factory):
    """Environment variables under which d4rl 1.1 imports, without mujoco-py and outside this installation."""
    folder = tmp_path_factory.mktemp("d4rl")
    packages = ["d4rl==1.1", "gym==0.24.1", "gym-notices", "tqdm", "numpy", "h5py", "cloudpickle"]
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), *packages]
    done = subprocess.run(install, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"pip cannot install d4rl 1.1 here: {(done.stderr.strip().splitlines() or ['no reason'])[-1]}")
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), os.getcwd()]), "D4RL_SUPPRESS_IMPORT_ERROR": "1"}


def last_line(script: str, variables: dict[str, str]) -> str:
    done = subprocess.run([sys.executable, "-c", script], env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.slow
def test_reference_scores_are_those_of_d4rl(d4rl):
    scored = {name: task.reference_scores for name, task in TASKS.items() if task.reference_scores}
    names = [f"{name}-v2" for name in scored]
    scores = json.loads(last_line(SCRIPT % names, d4rl))
    assert {name: tuple(scores[f"{name}-v2"]) for name in scored} == scored


@pytest.mark.slow
def test_d4rl_without_mujoco_py_names_another_reader(d4rl):
    """The package imports but cannot make an environment: a reason, and what to use instead."""
    line = last_line(READER, d4rl)
    assert line.startswith("d4rl cannot give 'hopper-medium-v2' here (")
    assert line.endswith("or use expert:hopper-medium")
