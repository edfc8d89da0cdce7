"""A real one-node SLURM for these tests, where it can be had."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

SCRIPT = Path(__file__).parent / "cluster.sh"
NEEDED = ("slurmctld", "slurmd", "slurmdbd", "sbatch", "munged", "mariadbd", "setpriv")


def reason_to_skip() -> str:
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    if os.environ.get("CI"):
        return "never in CI"
    if os.getuid() != 0:
        return "SLURM's daemons need root"
    missing = [name for name in NEEDED if not shutil.which(name, path=path)]
    packages = "apt-get install slurmctld slurmd slurm-client munge slurmdbd mariadb-server"
    return f"there is no {', '.join(missing)}: {packages}" if missing else ""


@pytest.fixture(scope="session")
def cluster():
    """Starts what does not run, also when called; ends it all at the end."""
    reason = reason_to_skip()
    if reason:
        pytest.skip(f"no SLURM: {reason}")
    folder = Path(tempfile.mkdtemp(prefix="dpft-slurm-"))
    folder.chmod(0o755)  # munge and mysql run as users of their own

    def up() -> Path:
        subprocess.run([SCRIPT, "up", folder], check=True)
        return folder

    before = os.environ.get("DPFT_CACHE")
    os.environ["DPFT_CACHE"] = str(folder / "cache")
    os.environ["DPFT_CHECKPOINT_SECONDS"] = "1"
    try:
        up()
        yield up
    finally:
        subprocess.run([SCRIPT, "down", folder], check=True)
        shutil.rmtree(folder)
        os.environ.pop("DPFT_CHECKPOINT_SECONDS")
        os.environ.pop("DPFT_CACHE")
        if before is not None:
            os.environ["DPFT_CACHE"] = before


@pytest.fixture(scope="session")
def grid(cluster, tmp_path_factory) -> Path:
    """Four runs of a small Gaussian policy, each some seconds of CPU time beyond importing torch."""
    path = tmp_path_factory.mktemp("grid") / "small.yaml"
    data = {
        "name": "small",
        "method": "gaussian-ppo",
        "denoising_steps": 1,
        "seed": [0, 1, 2, 3],
        "env_steps": 20_000,
        "eval_every": 5_000,
        "eval_episodes": 1,
        "policy": {"hidden": [8]},
        "pretrain": {"steps": 20},
        "demos": {"steps": 300},
        "settings": {"num_envs": 2, "decisions_per_update": 20, "epochs": 1, "critic_hidden": [8]},
    }
    path.write_text(yaml.safe_dump(data))
    return path


@pytest.fixture(scope="session")
def undisturbed(grid, tmp_path_factory) -> Path:
    """The same sweep without SLURM and without disturbance."""
    folder = tmp_path_factory.mktemp("undisturbed")
    subprocess.run([sys.executable, "-m", "dpft", "sweep", grid, "--out", folder, "--workers", "2"], check=True)
    return folder
