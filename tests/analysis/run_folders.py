"""Run folders with known curves, as a sweep leaves them behind."""

import json
from pathlib import Path
from typing import Any

import yaml

HEADER = "env_steps,wall_seconds,cpu_seconds,return_mean,return_normalised,episodes,training_return"


def write_run(
    sweep: Path,
    curve: list[tuple[int, float]],
    task: str = "hopper-medium",
    method: str = "ncdpo",
    k: int = 5,
    seed: int = 0,
    status: str = "done",
    reason: str | None = None,
    **fields: Any,
) -> Path:
    """One run folder; wall-clock seconds are steps / 10, normalised returns are return / 100."""
    folder = sweep / "runs" / f"{task}_{method}_K{k}_seed{seed}".replace("/", "_")
    while folder.exists():
        folder = folder.with_name(folder.name + "_b")
    folder.mkdir(parents=True)
    config = {
        "task": task,
        "method": method,
        "denoising_steps": k,
        "seed": seed,
        "env_steps": 300,
        "base": None,
        "base_seed": 0,
        "from_scratch": False,
        "eval_every": 10,
        "eval_episodes": 20,
        "device": "cpu",
        "threads": 1,
        "policy": {"hidden": [256, 256]},
        "settings": {"gamma": 0.99},
        "provenance": {"fine_tunes": "gaussian" if method == "gaussian-ppo" else "diffusion", "started": f"day {seed}"},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config | fields))
    rows = [f"{steps},{steps / 10},{steps / 20},{value!r},{value / 100!r},20," for steps, value in curve]
    (folder / "curve.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    metrics = [f"{steps},{steps / 10},0.1,1.0,2.0,5.0" for steps, _ in curve if steps]
    header = "env_steps,wall_seconds,policy/kl,time/act,time/simulate,time/update"
    (folder / "metrics.csv").write_text("\n".join([header, *metrics]) + "\n")
    if status != "unfinished":
        (folder / "done.json").write_text(json.dumps({"status": status, "reason": reason, "env_steps": curve[-1][0]}))
    return folder
