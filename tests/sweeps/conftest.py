import os

import pytest

from dpft.sweeps.config import RunConfig, parse_config


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory, worker_id):
    """A cache of this test process's own: nothing comes from, or goes to, the user's."""
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("DPFT_CACHE")
    os.environ["DPFT_CACHE"] = str(folder)
    yield folder
    os.environ.pop("DPFT_CACHE")
    if before is not None:
        os.environ["DPFT_CACHE"] = before


SMALL_DSRL = {"warmup": 30, "hidden": [16, 16, 16], "batch": 32}


def tiny_data(**fields) -> dict:
    """A real run of Hopper that takes seconds: small networks, few steps."""
    method = fields.pop("method", "ncdpo")
    settings = {"num_envs": 4, "decisions_per_update": 20} if "dsrl" not in method else SMALL_DSRL
    return {
        "method": method,
        "denoising_steps": 3,
        "env_steps": 2000,
        "eval_every": 700,
        "eval_episodes": 3,
        "policy": {"hidden": [16, 16, 16]},
        "pretrain": {"steps": 60, "batch": 64},
        "demos": {"steps": 2000},
        "settings": settings | fields.pop("settings", {}),
        **fields,
    }


@pytest.fixture
def tiny():
    def make(**fields) -> RunConfig:
        return parse_config(tiny_data(**fields))

    return make
