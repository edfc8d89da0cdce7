"""robosuite's tasks on the batch engine: against its stored numbers, and against themselves."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from dpft.envs import TASKS, DataError, make_vec
from dpft.envs.osc import delta_rotation, solve
from dpft.envs.task import EnvOptions

STORED = dict(np.load(Path(__file__).parent / "reference" / "robosuite.npz"))
NAMES = [name for name, task in TASKS.items() if task.simulator == "manipulation"]
ALL = slice(None)


def make(name, n=1, chunk=1, threads=1, autoreset=AutoresetMode.SAME_STEP, limit=None, **options):
    pytest.importorskip("robosuite")
    task = TASKS[name].with_options(EnvOptions(**options))
    return make_vec(replace(task, max_episode_steps=limit or task.max_episode_steps), n, chunk, threads, autoreset)


def begin_at(env, qpos):
    """An episode from given positions in every slot."""
    env.reset(seed=0)
    env.fields["qpos"][:] = qpos
    env.begin(env.slots)


def random_chunks(env, steps, seed=0):
    shape = steps, *env.action_space.shape
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def test_rotations_are_robosuites_bit_for_bit():
    np.testing.assert_array_equal(delta_rotation(STORED["rotvec"]), STORED["rotvec_matrix"])


@pytest.mark.parametrize("name", NAMES)
def test_fifty_stored_control_steps(name):
    """Float64 actions, as stored; rounding grows slowly where nothing is grasped. Relative poses are float32 there."""
    env = make(name, 2)
    begin_at(env, STORED[f"{name}_start_qpos"])
    np.testing.assert_allclose(env.observe(ALL)[1], STORED[f"{name}_start_obs"], rtol=0, atol=3e-7)
    when = {int(step): row for row, step in enumerate(STORED["steps"])}
    for step, action in enumerate(STORED[f"{name}_actions"], 1):
        env.advance(ALL, None, np.stack([action] * 2))
        env.elapsed += 1
        if step in when:
            for field, tolerance in (("qpos", 5e-12), ("qvel", 2e-11), ("ctrl", 1e-9)):
                want = STORED[f"{name}_{field}"][when[step]]
                np.testing.assert_allclose(
                    env.fields[field][1], want, rtol=0, atol=tolerance, err_msg=f"{field} {step}"
                )
            np.testing.assert_allclose(env.observe(ALL)[1], STORED[f"{name}_obs"][when[step]], rtol=0, atol=5e-7)


@pytest.mark.parametrize("name", NAMES)
def test_stored_resets(name):
    env = make(name)
    for seed in (1, 2):
        env.rngs = [np.random.RandomState(seed)]
        env.reset()
        np.testing.assert_array_equal(env.fields["qpos"][0], STORED[f"{name}_reset_qpos_seed{seed}"])


def test_the_cube_is_the_stored_one():
    np.testing.assert_array_equal(make("lift").model.geom("cube_g0").size, STORED["lift_cube_half_size"])


@pytest.mark.parametrize(("name", "options"), [*((name, {}) for name in NAMES), ("lift", {"cube_size": "episode"})])
def test_state_continues_bit_for_bit_on_other_threads(name, options):
    """Cut before the first step, in an episode, and where some slots have just been reset."""
    first = make(name, 3, 2, limit=7, **options)
    first.reset(seed=1)
    first.elapsed[1] = 3  # so that episodes end apart
    chunks = random_chunks(first, 9)
    states, results = [], []
    for chunk in chunks:
        states.append(first.get_state())
        results.append(first.step(chunk))
    for cut in (0, 2, 4):
        second = make(name, 3, 2, threads=2, limit=7, **options)
        second.reset(seed=99)
        second.step(chunks[-1])
        second.set_state(states[cut])
        for chunk, want in zip(chunks[cut:], results[cut:], strict=True):
            got = second.step(chunk)
            for a, b in zip((*want[:4], *want[4].values()), (*got[:4], *got[4].values()), strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["lift", "transport"])
def test_an_episode_does_not_depend_on_its_neighbours(name):
    """Alone, among others, and where its neighbour's simulation is not finite or has ended."""
    alone, among = make(name, 1, 2), make(name, 3, 2, autoreset=AutoresetMode.DISABLED)
    alone.reset(seed=5)
    among.reset(seed=[1, 5, 2])
    among.fields["qvel"][0, 2] = np.nan
    among.elapsed[2] = TASKS[name].max_episode_steps - 3  # ends in the second chunk's first step
    for chunk in random_chunks(among, 4):
        got, want = among.step(chunk), alone.step(chunk[1:2])
        np.testing.assert_array_equal(got[0][1], want[0][0])
    assert got[3].tolist() == [False, False, True]


def test_a_singular_matrix_is_left_to_the_pseudo_inverse():
    matrix, right = np.stack([np.diag([2.0, 4.0]), np.diag([1.0, 0.0])]), np.ones((2, 2, 1))
    np.testing.assert_array_equal(solve(matrix, right)[..., 0], [[0.5, 0.25], [1.0, 0.0]])


@pytest.mark.parametrize("name", NAMES)
def test_solved_states_are_rewarded_step_by_step(name):
    """The objects put where they belong; with and without the switches."""
    for ends, offset in ((False, 0.0), (True, -1.0)):
        env = make(name, 2, 4, ends_at_success=ends, reward_offset=offset)
        env.reset(seed=0)
        solve_task(env, name, slot=1)
        _, reward, terminated, _, info = env.step(np.zeros((2, 4, env.task.action_dim)))
        assert info["success"].tolist() == [False, True]
        assert terminated.tolist() == [False, ends]
        if ends:
            late = info["executed"][1] - 1  # steps until the things have come to rest
            assert reward.tolist() == [4 * offset, late * offset + 1 + offset]
        else:
            assert reward[0] == 0
            assert 1 <= reward[1] <= 4


def solve_task(env, name, slot):
    """Put the objects where they belong."""
    qpos = env.fields["qpos"]
    upright = [1.0, 0.0, 0.0, 0.0]
    if name == "lift":
        qpos[slot, env.rules.joint] = [0, 0, 1.1, *upright]  # in the air; it takes a while to fall
    elif name == "can":
        qpos[slot, env.rules.joints["Can"]] = [0.2, 0.4, 0.861, *upright]
    elif name == "square":
        qpos[slot, env.rules.joint] = [*env.rules.peg[:2], 0.84, *upright]
    else:
        for thing, holder in (("payload", "target"), ("trash", "trash_bin")):
            place = env.rules.joints[thing].start
            qpos[slot, place : place + 3] = qpos[slot, env.rules.joints[holder]][:3]
            qpos[slot, place + 2] += 0.005
    env.begin(env.slots)


@pytest.mark.parametrize(("name", "unused"), [("can", "Milk_main"), ("square", "RoundNut_main")])
def test_lean_models_have_no_unused_objects_and_move_alike(name, unused):
    full, lean = make(name), make(name, lean=True)
    assert lean.model.nv < full.model.nv
    with pytest.raises(KeyError, match=unused):
        lean.model.body(unused)
    obs = [env.reset(seed=3)[0] for env in (full, lean)]
    np.testing.assert_array_equal(*obs)
    for chunk in random_chunks(full, 5):
        obs = [env.step(chunk)[0] for env in (full, lean)]
    np.testing.assert_allclose(*obs, rtol=0, atol=1e-6)


def test_cube_sizes_are_those_of_a_compiled_model():
    import mujoco

    from dpft.envs.robosuite_models import _xml

    env = make("lift", 3, cube_size="episode")
    env.reset(seed=0)
    assert len(np.unique(env.rules.half)) == 9
    assert ((env.rules.half > 0.020) & (env.rules.half < 0.022)).all()
    spec = mujoco.MjSpec.from_string(_xml("Lift"))
    for geom in ("cube_g0", "cube_g0_vis"):
        spec.geom(geom).size = env.rules.half[1]
    compiled, ours = spec.compile(), env.batch.get_model(1)
    differing = set()
    for field in dir(compiled):
        want = None if field.startswith("_") else getattr(compiled, field)
        if isinstance(want, np.ndarray):
            np.testing.assert_allclose(getattr(ours, field), want, rtol=1e-14, atol=1e-18, err_msg=field)
            if not np.array_equal(want, getattr(env.model, field)):
                differing.add(field)
    assert {"geom_size", "body_mass", "dof_invweight0"} <= differing  # the sizes do differ


def test_options_that_a_task_does_not_have():
    with pytest.raises(DataError, match="hopper-medium has no option lean: it has none"):
        TASKS["hopper-medium"].with_options(EnvOptions(lean=True))
    with pytest.raises(DataError, match="can has no option cube_size: there are"):
        TASKS["can"].with_options(EnvOptions(cube_size="episode"))


@pytest.mark.parametrize("version", [None, "1.5.2"])
def test_without_the_right_robosuite_it_says_how_to_install_it(monkeypatch, version):
    import sys
    from types import SimpleNamespace

    from dpft.envs.robosuite_models import _xml

    monkeypatch.setitem(sys.modules, "robosuite", version and SimpleNamespace(__version__=version))
    with pytest.raises(DataError, match=r"Lift needs robosuite 1\.4\.1.*pip install") as caught:
        _xml("Lift")
    assert "\n" not in str(caught.value)
