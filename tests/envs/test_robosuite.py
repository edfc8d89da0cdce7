"""The batched tasks against robosuite itself, step by step.

A grasp multiplies one rounding by 1e11 in a control step, so free-running trajectories are not compared: the physics
is (exactly, under robosuite's torques), the torques are (to rounding, in robosuite's states), and so are the rewards.
"""

import numpy as np
import pytest

from dpft.envs import TASKS, make_vec
from dpft.envs.experts import load_expert
from dpft.envs.manipulation import SUBSTEPS, VELOCITY_STAGE

pytest.importorskip("robosuite")
from robosuite_single import Single

pytestmark = pytest.mark.slow
NAMES = [name for name, task in TASKS.items() if task.simulator == "manipulation"]
SCRIPTED = ["lift", "can", "square"]
ALL = slice(None)


@pytest.fixture(scope="module", params=NAMES)
def single(request):
    return Single(request.param)


def batched(single, n=1):
    env = make_vec(single.task, n, 1)
    env.reset(seed=0)
    return env


def begin(env, qpos):
    env.reset()
    env.fields["qpos"][:] = qpos
    env.begin(env.slots)


def actions_of(single, steps, seed, noise):
    """An expert's episode in robosuite, or random actions with a few exactly without rotation; rewards too."""
    rng = np.random.default_rng(seed)
    obs = single.reset(seed)
    start = single.data.qpos.copy()
    expert = load_expert(single.task.name) if single.task.name in SCRIPTED and noise is not None else None
    if expert:
        expert.script = expert.script.model_copy(update={"noise": noise})
        expert.begin(1)
    actions, rewards = [], []
    for step in range(steps):
        if expert:
            action = expert.sample(obs[None], rng)[0].astype(float)
        else:
            action = rng.uniform(-1, 1, single.task.action_dim)
            action[3:6] *= step % 7 != 3
        obs, reward = single.step(action)
        actions.append(action)
        rewards.append(reward)
    return start, np.array(actions), np.array(rewards), obs


STEPS = {"lift": 45, "can": 140, "square": 130, "transport": 60}  # until something is grasped and carried


def test_its_torques_give_its_states_and_its_states_our_torques(single):
    """A whole expert episode (Transport: random actions), every substep."""
    env, steps = batched(single), STEPS[single.task.name]
    start, actions, _, obs = actions_of(single, steps, 1, 0.1)
    begin(env, start)
    nq = env.model.nq
    for k, (_, ctrl) in enumerate(single.substeps):
        env.fields["ctrl"][:] = ctrl
        env.batch.step(nstep=1, stage=VELOCITY_STAGE)
        want = single.substeps[k + 1][0] if k + 1 < len(single.substeps) else single.state()
        np.testing.assert_array_equal(env.batch.state[0, : 1 + nq + env.model.nv], want[: 1 + nq + env.model.nv])
    begin(env, start)
    worst = 0.0
    for k, (state, ctrl) in enumerate(single.substeps):
        env.batch.state[:] = state
        env.batch.forward(stage=VELOCITY_STAGE)
        now = env.now(ALL)
        for arm, command in zip(env.arms, np.split(actions[k // SUBSTEPS][None], len(env.arms), 1), strict=True):
            if k % SUBSTEPS == 0:
                arm.aim(ALL, now, command[:, :6])
            inertia = arm.first_inertia if k == 0 else np.take(now.M, arm.inertia, axis=1)
            torque, fingers = arm.control(ALL, now, command[:, 6:], inertia)
            worst = max(worst, np.abs(torque[0] - ctrl[arm.motors]).max(), np.abs(fingers[0] - ctrl[arm.gripper]).max())
    assert worst < 1e-7
    env.sense(ALL, now)
    env.batch.state[:] = single.state()  # the sensors' one-substep-old kinematics, but the newest finger positions
    for arm, first in zip(env.arms, (7, 16), strict=False):
        env.observed[:, first : first + 2] = env.fields["qpos"][:, arm.fingers]
    np.testing.assert_allclose(env.observe(ALL)[0], obs, rtol=0, atol=3e-7)  # relative poses are float32 there


def test_one_control_step_from_each_of_its_states(single):
    """Random actions, nothing grasped."""
    env = batched(single)
    start, actions, _, _ = actions_of(single, 40, 2, None)
    begin(env, start)
    for k, action in enumerate(actions):
        if k:
            env.batch.state[:] = single.substeps[k * SUBSTEPS][0]
            env.batch.forward(stage=VELOCITY_STAGE)
        env.advance(ALL, None, action[None])
        env.elapsed += 1
        after = single.substeps[(k + 1) * SUBSTEPS][0] if k + 1 < len(actions) else single.state()
        np.testing.assert_allclose(env.fields["qpos"][0], after[1 : 1 + env.model.nq], rtol=0, atol=1e-11)


def test_resets(single):
    env = batched(single)
    for seed in range(10):
        obs = single.reset(seed)
        env.rngs = [np.random.RandomState(seed)]
        found, _ = env.reset()
        np.testing.assert_array_equal(env.fields["qpos"][0], single.data.qpos)
        np.testing.assert_allclose(found[0], obs, rtol=0, atol=3e-7)


@pytest.mark.parametrize("seed", [3, 4])
def test_rewards_of_whole_expert_episodes(single, seed):
    """The same float64 actions in both, whole episodes past success."""
    name = single.task.name
    if name == "transport":
        pytest.skip("has no expert; its rewards are compared below")
    start, actions, rewards, _ = actions_of(single, {"lift": 100, "can": 180, "square": 180}[name], seed, 0.05)
    env = batched(single)
    begin(env, start)
    ours = []
    for action in actions:
        ours.append(env.advance(ALL, None, action[None])[0][0])
        env.elapsed += 1
    assert rewards.sum() > 5
    np.testing.assert_array_equal(ours, rewards)


def test_rewards_of_placed_objects():
    """Payload and trash dropped into their bins."""
    single = Single("transport")
    single.reset(0)
    env = batched(single)
    qpos = single.data.qpos.copy()
    for thing, holder in (("payload", "target"), ("trash", "trash_bin")):
        to = env.rules.joints[thing].start
        qpos[to : to + 3] = qpos[env.rules.joints[holder]][:3]
        qpos[to + 2] += 0.05
    single.data.qpos[:] = qpos
    single.env.sim.forward()
    begin(env, qpos)
    rng = np.random.default_rng(0)
    rewards = []
    for _ in range(25):
        action = rng.uniform(-1, 1, 14)
        rewards.append([env.advance(ALL, None, action[None])[0][0], single.step(action)[1]])
        env.elapsed += 1
    ours, theirs = np.transpose(rewards)
    np.testing.assert_array_equal(ours, theirs)
    assert 0 < theirs.sum() < 25
