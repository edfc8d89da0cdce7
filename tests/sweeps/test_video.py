"""A video is that of the episode that evaluation plays, and shows it."""

import shutil
from fractions import Fraction

import av
import numpy as np
import pytest

from dpft.envs import TASKS, DataError
from dpft.sweeps import video
from dpft.sweeps.cli import main
from dpft.sweeps.reload import reload_run
from dpft.sweeps.run import EVALUATION, stream, train


@pytest.fixture(autouse=True)
def _renderer(monkeypatch):
    try:
        monkeypatch.setenv("MUJOCO_GL", video.backend())
    except DataError as error:
        pytest.skip(str(error))


@pytest.fixture
def run(tmp_path, tiny):
    train(tiny(), tmp_path / "tiny")
    return tmp_path / "tiny"


def frames_of(path) -> tuple[list[np.ndarray], Fraction]:
    with av.open(str(path)) as container:
        rate = container.streams.video[0].average_rate
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)], rate


def test_the_episode_of_evaluation_is_filmed(run, capsys):
    capsys.readouterr()  # what training said
    assert main(["video", str(run)]) == 0
    out = capsys.readouterr().out
    loaded = reload_run(run)
    config = loaded.config
    (played,) = loaded.evaluator(loaded.method, 1, config.eval_seed, stream(config.seed, EVALUATION))
    assert f"return {played.total:.1f}, {played.ended} after {played.length} steps" in out.splitlines()[1]
    assert f"video in {run / 'video.mp4'}; next: dpft eval {run}" in out

    frames, rate = frames_of(run / "video.mp4")
    lengths = [int(line.split(" after ")[-1].split()[0]) for line in out.splitlines()[:2]]
    assert len(frames) == 1 + max(-(-length // 5) for length in lengths)
    assert rate == Fraction(125, 5)  # Hopper makes 125 steps a second
    assert {frame.shape for frame in frames} == {(video.SIDE + video.HEADER, 2 * video.SIDE, 3)}
    bodies = [frame[video.HEADER :].astype(int) for frame in frames]
    for half in (slice(None, video.SIDE), slice(video.SIDE, None)):
        pictures = [body[:, half] for body in bodies]
        assert all(picture.std() > 10 for picture in pictures)  # none is of one colour
        assert max(np.abs(picture - pictures[0]).max() for picture in pictures) > 50  # something moves
    first = bodies[0]
    np.testing.assert_allclose(first[:, : video.SIDE].mean(), first[:, video.SIDE :].mean(), atol=2)  # the same start
    assert [path.name for path in run.glob(".*mp4*")] == []


@pytest.mark.parametrize("task", [name for name, task in TASKS.items() if task.simulator == "locomotion"])
def test_the_camera_follows(task):
    """As much of the robot is seen where it starts as far from there."""
    env = video.make_env(TASKS[task])
    env.reset(seed=0)
    qpos, qvel = env.unwrapped.init_qpos.copy(), env.unwrapped.init_qvel
    seen = []
    for x in (0.0, 40.0):
        qpos[0] = x
        env.unwrapped.set_state(qpos, qvel)
        picture = env.render().astype(int)
        seen.append(int((picture[..., 0] > picture[..., 2] + 30).sum()))  # its colour is a brown, the floor's is none
    env.close()
    assert seen[0] > 500
    assert seen[1] == pytest.approx(seen[0], rel=0.2)


def test_what_cannot_be_filmed_is_one_line(run, tmp_path, capsys, monkeypatch):
    capsys.readouterr()  # what training said
    published = shutil.copytree(run, tmp_path / "published", ignore=shutil.ignore_patterns("weights*", "video*"))
    for arguments, says in (
        ([str(published)], "has no weights.safetensors (published records have none): make it again"),
        ([str(tmp_path / "nothing")], "is not there: expected the folder of a run"),
        ([str(run), "--out", "video.gif"], "expected a name that ends in .mp4"),
        ([str(run), "--sede", "3"], "unrecognized arguments"),
    ):
        assert main(["video", *arguments]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert says in line
    monkeypatch.setenv("MUJOCO_GL", "nothing")
    assert main(["video", str(run), "--out", str(tmp_path / "out" / "video.mp4")]) == 2
    assert "apt install libosmesa6" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
