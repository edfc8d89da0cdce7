"""The verb `dpft video`: the same episode before and after fine-tuning, side by side."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dpft.arguments import Parser, place, seed_number, writable_file
from dpft.envs.files import full_disk_is_said, replacing
from dpft.envs.task import DataError, first_line
from dpft.sweeps.folders import expect_weights

if TYPE_CHECKING:
    from dpft.envs.task import TaskSpec
    from dpft.methods.interface import Method
    from dpft.sweeps.evaluate import Evaluator

SIDE = 360  # pixels of a panel
HEADER = 56  # pixels above it
RATE = 25  # frames a second, at most about
SHADOWS = 1024  # pixels of their map; MuJoCo's own 4096 take twice as long and look the same here
BACKENDS = ("egl", "osmesa", "glfw")  # the first two need no display


class Frame(NamedTuple):
    """What is seen after some environment steps."""

    image: np.ndarray  # [h, w, 3] uint8
    step: int  # environment steps so far
    total: float  # return so far
    ended: str = ""  # "terminated" or "truncated"


def main(argv: list[str]) -> int:
    """Run `dpft video` with these arguments. Raises DataError for what cannot be played, drawn or written."""
    parser = Parser(
        prog="dpft video",
        description="Film one evaluation episode of a run, the policy before fine-tuning and the newest one side by "
        "side from the same initial state, with step and return: the episode of `dpft eval RUN --episodes 1`, in real "
        "time. Needs PyAV (pip install 'dpft[video]'), and no display.",
        epilog="example: dpft video runs/quickstart/runs/hopper-medium_ncdpo_K5_seed0 --seed 7",
    )
    parser.add_argument("run", type=place, help="a run's folder, finished or under way, with its weights")
    parser.add_argument(
        "--seed", type=seed_number, help="of the initial state (default: the first of training's evaluations)"
    )
    parser.add_argument("--out", type=place, help="an .mp4 file (default: RUN/video.mp4)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, … (auto: a GPU where there is one)")
    options = parser.parse_args(argv)
    run: Path = options.run
    out: Path = options.out or run / "video.mp4"
    check(run, out)
    os.environ["MUJOCO_GL"] = backend()
    writable_file(out)

    from dpft.sweeps.progress import pretraining
    from dpft.sweeps.reload import reload_run
    from dpft.sweeps.run import EVALUATION, make_method, stream

    loaded = reload_run(run, options.device)
    config, task, evaluator, after = loaded.config, loaded.task, loaded.evaluator, loaded.method
    before = make_method(config, loaded.base.policy)
    seed = config.eval_seed if options.seed is None else options.seed
    titles = ("before fine-tuning", f"{config.method} after {loaded.env_steps:,} steps")
    every, rate = frame_rate(task)
    bar = pretraining(f"filming {task.name}", 2 * task.max_episode_steps)
    with full_disk_is_said(out.parent), bar as advance, replacing(out) as temporary:

        def episode(method: "Method", done: int) -> Iterator[Frame]:
            with evaluator.drawing(method, stream(config.seed, EVALUATION)):
                for frame in play(method, evaluator, seed, every):
                    advance(done + frame.step)
                    yield frame

        # one after the other: MuJoCo's renderers of one process do not take turns
        first = list(episode(before, 0))
        ends = write(temporary, titles, first, episode(after, task.max_episode_steps), rate)
        advance(2 * task.max_episode_steps)
    for title, end in zip(titles, ends, strict=True):
        print(f"{title}: return {end.total:.1f}, {end.ended} after {end.step} steps")
    print(f"video in {out}; next: dpft eval {shlex.quote(str(run))}, the mean over many episodes")
    return 0


def check(run: Path, out: Path) -> None:
    """Raises DataError for what can be known before the minutes that loading and playing take."""
    if out.suffix != ".mp4":
        raise DataError(f"--out {out}: expected a name that ends in .mp4")
    expect_weights(run)
    try:
        import av  # noqa: F401
    except ImportError:
        raise DataError("videos are written by PyAV, which is not installed: pip install 'dpft[video]'") from None


def backend() -> str:
    """What MuJoCo can draw with on this machine: $MUJOCO_GL, or the first of BACKENDS that works.

    Each is tried in a process of its own, since OpenGL is loaded for one of them only. Raises DataError where none is.
    """
    asked = os.environ.get("MUJOCO_GL")
    for name in [asked] if asked else BACKENDS:
        program = [sys.executable, "-c", "import mujoco; mujoco.GLContext(8, 8).make_current()"]
        if subprocess.run(program, env=os.environ | {"MUJOCO_GL": name}, capture_output=True).returncode == 0:
            return name
    tried = f"MUJOCO_GL={asked}" if asked else ", ".join(BACKENDS)
    raise DataError(
        f"MuJoCo cannot draw here (tried {tried}): install a software renderer, on Debian by apt install libosmesa6, "
        "or libegl1 and libegl-mesa0"
    )


def make_env(task: "TaskSpec") -> Any:
    """One environment of the task that gives pictures. Raises DataError where it cannot."""
    import gymnasium as gym

    # the camera that Gymnasium takes by itself does not follow every robot
    ours = task.simulator == "locomotion"
    view: dict[str, Any] = {"width": SIDE, "height": SIDE, "camera_name": "track"} if ours else {}
    try:
        env: Any = gym.make(task.env_id, render_mode="rgb_array", **view)
        if ours:
            env.unwrapped.model.vis.quality.shadowsize = SHADOWS
        env.reset()
        env.render()
    except Exception as error:  # whatever a foreign environment raises
        raise DataError(f"{task.env_id} gives no pictures: {first_line(error)}") from None
    return env


def frame_rate(task: "TaskSpec") -> tuple[int, Fraction]:
    """Environment steps between two frames, and frames a second of real time, about RATE or fewer."""
    import gymnasium as gym

    env = gym.make(task.env_id)
    steps = round(env.metadata.get("render_fps") or RATE)  # a second
    env.close()
    every = max(1, round(steps / RATE))
    return every, Fraction(steps, every)


def play(method: "Method", evaluator: "Evaluator", seed: int, every: int) -> Iterator[Frame]:
    """An episode in Gymnasium, as Evaluator plays it: a frame of the initial state, every so many steps, and last."""
    env = make_env(evaluator.task)
    try:
        obs, _ = env.reset(seed=seed)
        step, total, ended = 0, 0.0, ""
        yield Frame(env.render(), step, total)
        while not ended:
            for action in evaluator.decide(method, np.asarray(obs, np.float64)[None], env.action_space)[0]:
                obs, reward, terminated, truncated, _ = env.step(action)
                step, total = step + 1, total + float(reward)
                ended = "terminated" if terminated else "truncated" if truncated else ""
                if step % every == 0 or ended:
                    yield Frame(env.render(), step, total, ended)
                if ended:
                    break
    finally:
        env.close()


def write(
    path: Path, titles: Iterable[str], left: Iterable[Frame], right: Iterable[Frame], rate: Fraction
) -> tuple[Frame, Frame]:
    """An mp4 file of two episodes, the shorter one resting at its end; returns both last frames."""
    import av

    ends: list[Frame] = []
    with av.open(str(path), "w", format="mp4") as container:
        stream: Any = None
        for pair in zip_longest(left, right):
            ends = [frame or end for frame, end in zip_longest(pair, ends)]
            image = np.hstack([panel(title, frame) for title, frame in zip(titles, ends, strict=True)])
            if stream is None:
                height, width, _ = image.shape
                stream = container.add_stream("libx264", rate=rate, options={"crf": "20"})
                stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"  # what every player knows
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode(None))
    return ends[0], ends[1]


def panel(title: str, frame: Frame) -> np.ndarray:
    """A frame below its title, step and return, [h, w, 3]; height and width are even, as the codec wants them."""
    height, width = (size // 2 * 2 for size in frame.image.shape[:2])
    image = Image.new("RGB", (width, height + HEADER), "#14171a")
    image.paste(Image.fromarray(frame.image[:height, :width]), (0, HEADER))
    draw = ImageDraw.Draw(image)
    draw.text((10, 8), title, "white", ImageFont.load_default(16))
    line = f"step {frame.step:>4}   return {frame.total:8.1f}   {frame.ended}"
    draw.text((10, 31), line, "#ffb0a0" if frame.ended == "terminated" else "#c8ccd0", ImageFont.load_default(14))
    return np.asarray(image)
