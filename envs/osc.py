"""Robosuite's operational-space controller (OSC_POSE) and gripper of a Panda, for many simulations at once.

robosuite 1.4.1, controllers/osc.py and grippers/panda_gripper.py, after Khatib (1987); numbers of its default settings.
"""

from types import SimpleNamespace

import mujoco
import numpy as np
from mujoco import mjtObj

Array = np.ndarray

STIFFNESS = 150.0  # of position (N/m per kg) and orientation errors
DAMPING = 2 * np.sqrt(STIFFNESS)  # critical
POSTURE_STIFFNESS = 10.0  # of the null space, towards the joint angles of the reset
POSTURE_DAMPING = 2 * np.sqrt(POSTURE_STIFFNESS)
REACH = np.array([0.05, 0.05, 0.05, 0.5, 0.5, 0.5])  # m and rad that an action of 1 moves the goal by
GRIPPER_SPEED = np.array([-0.01, 0.01])  # of the fingers' targets a substep, in units of half their range


def delta_rotation(rotvec: Array) -> Array:
    """[n, 3] rad -> [n, 3, 3], bit for bit robosuite's quat2mat(axisangle2quat(.)), which is float32 inside."""
    angle = np.sqrt(np.einsum("ni,ni->n", rotvec, rotvec))[:, None]
    half = np.where(angle == 0.0, 1.0, angle) / 2.0
    unit = rotvec / (2.0 * half)
    quat = np.concatenate((np.cos(half), unit * np.sin(half)), 1)
    quat = np.where(angle == 0.0, [1.0, 0.0, 0.0, 0.0], quat).astype(np.float32)
    norm = np.square(quat).astype(np.float64).sum(1).astype(np.float32)  # BLAS: float32 products summed in float64
    quat = (quat * np.sqrt(2.0 / norm.astype(np.float64))[:, None]).astype(np.float32)
    p = quat.T[:, None] * quat.T  # [4, 4, n] float32, of w, x, y, z
    xx, yy, zz = p[[1, 2, 3], [1, 2, 3]].astype(np.float64)
    rows = (
        (1.0 - yy - zz, p[1, 2] - p[3, 0], p[1, 3] + p[2, 0]),
        (p[1, 2] + p[3, 0], 1.0 - xx - zz, p[2, 3] - p[1, 0]),
        (p[1, 3] - p[2, 0], p[2, 3] + p[1, 0], 1.0 - xx - yy),
    )
    return np.moveaxis(np.array(rows), -1, 0).copy()


def site_jacobian(cdof: Array, offset: Array) -> Array:
    """Of a point: cdof [n, J, 6] about the tree's centre of mass, offset [n, 3] from it -> [n, 6, J], as mj_jacSite."""
    turning = cdof[..., :3]
    moving = cdof[..., 3:] + np.cross(turning, offset[:, None])
    return np.concatenate((moving, turning), 2).transpose(0, 2, 1).copy()


def solve(matrix: Array, right: Array) -> Array:
    """matrix^-1 right for stacked matrices [..., J, J], [..., J, k]; by the pseudo-inverse where one is singular."""
    try:
        return np.linalg.solve(matrix, right)
    except np.linalg.LinAlgError:  # the others must not notice
        singular = np.linalg.det(matrix) == 0.0
        solution = np.linalg.solve(np.where(singular[..., None, None], np.eye(matrix.shape[-1]), matrix), right)
        solution[singular] = np.linalg.pinv(matrix[singular]) @ right[singular]
        return solution


def span(indices: Array) -> slice:
    """Neighbouring indices as a slice, which gives views."""
    first, last = int(indices[0]), int(indices[-1])
    assert indices.tolist() == list(range(first, last + 1)), "robosuite declares an arm's parts together"
    return slice(first, last + 1)


class Arm:
    """One Panda of n simulations: where it is in the model, and what its controller remembers."""

    STATE = ("goal_ori", "initial_joint", "grip", "first_inertia")  # goal_pos is set anew by every action

    def __init__(self, model: mujoco.MjModel, index: int, n: int) -> None:
        def ids(kind: mjtObj, *names: str) -> Array:
            return np.array([mujoco.mj_name2id(model, kind, name) for name in names])

        joints = ids(mjtObj.mjOBJ_JOINT, *(f"robot{index}_joint{k}" for k in range(1, 8)))
        fingers = ids(mjtObj.mjOBJ_JOINT, *(f"gripper{index}_finger_joint{k}" for k in (1, 2)))
        self.site = int(ids(mjtObj.mjOBJ_SITE, f"gripper{index}_grip_site")[0])
        self.hand = int(ids(mjtObj.mjOBJ_BODY, f"robot{index}_right_hand")[0])
        self.root = int(model.body_rootid[self.hand])
        self.qpos, self.dof = span(model.jnt_qposadr[joints]), span(model.jnt_dofadr[joints])
        self.fingers = span(model.jnt_qposadr[fingers])
        actuator = {int(joint): i for i, joint in enumerate(model.actuator_trnid[:, 0])}
        self.motors = span(np.array([actuator[int(joint)] for joint in joints]))
        self.gripper = span(np.array([actuator[int(joint)] for joint in fingers]))
        self.torque_limit = model.actuator_ctrlrange[self.motors].T
        low, high = model.actuator_ctrlrange[self.gripper].T
        self.grip_centre, self.grip_range = (high + low) / 2, (high - low) / 2
        entries: dict[tuple[int, int], int] = {}  # (row, column) of the lower triangle -> its place in M
        dofs = range(self.dof.start, self.dof.stop)
        for row in dofs:
            first, count = model.M_rowadr[row], model.M_rownnz[row]
            entries |= {(row, int(model.M_colind[k])): k for k in range(first, first + count)}
        self.inertia = np.array([[entries[max(i, j), min(i, j)] for j in dofs] for i in dofs])
        self.goal_pos, self.goal_ori = np.zeros((n, 3)), np.zeros((n, 3, 3))
        self.initial_joint, self.grip = np.zeros((n, 7)), np.zeros((n, 2))
        self.first_inertia = np.zeros((n, 7, 7))  # of the first substep: robosuite's is read with the fingers at 0

    def restart(self, rows: Array, now: SimpleNamespace) -> None:
        """At the state [len(rows), …] of a reset, kinematics included."""
        self.goal_ori[rows] = now.site_xmat[:, self.site].reshape(-1, 3, 3)
        self.initial_joint[rows] = now.qpos[:, self.qpos]
        self.grip[rows] = 0.0

    def aim(self, rows: Array | slice, now: SimpleNamespace, action: Array) -> None:
        """The goal of a control step from the action's six motion numbers, [n, 6]."""
        moved = np.clip(action, -1.0, 1.0) * REACH
        self.goal_pos[rows] = now.site_xpos[:, self.site] + moved[:, :3]
        goal = delta_rotation(moved[:, 3:]) @ now.site_xmat[:, self.site].reshape(-1, 3, 3)
        turned = (moved[:, 3:] != 0.0).any(1)[:, None, None]  # 1.4.1: no rotation at all keeps the old goal
        self.goal_ori[rows] = np.where(turned, goal, self.goal_ori[rows])

    def control(self, rows: Array | slice, now: SimpleNamespace, grip: Array, inertia: Array) -> tuple[Array, Array]:
        """Controls of one substep: torques [n, 7] in N m and finger targets [n, 2]; grip [n, 1], inertia [n, 7, 7]."""
        self.grip[rows] = np.clip(self.grip[rows] + GRIPPER_SPEED * np.sign(grip), -1.0, 1.0)
        where = now.site_xpos[:, self.site]
        jacobian = site_jacobian(now.cdof[:, self.dof], where - now.subtree_com[:, self.root])
        transposed = jacobian.transpose(0, 2, 1)
        velocity = now.qvel[:, self.dof]
        turn = self.goal_ori[rows] @ now.site_xmat[:, self.site].reshape(-1, 3, 3).transpose(0, 2, 1)
        error = np.concatenate(
            (self.goal_pos[rows] - where, (turn[:, [2, 0, 1], [1, 2, 0]] - turn[:, [1, 2, 0], [2, 0, 1]]) / 2), 1
        )
        wanted = STIFFNESS * error - DAMPING * (jacobian @ velocity[..., None])[..., 0]
        posture = POSTURE_STIFFNESS * (self.initial_joint[rows] - now.qpos[:, self.qpos]) - POSTURE_DAMPING * velocity
        mobility = jacobian @ solve(inertia, transposed)  # J M^-1 J^T; position and orientation are decoupled below
        blocks = np.stack((mobility[:, :3, :3], mobility[:, 3:, 3:]), 1)
        wrench = solve(blocks, wanted.reshape(-1, 2, 3, 1)).reshape(-1, 6, 1)
        wrench -= solve(mobility, jacobian @ posture[..., None])  # N^T M a = M a - J^T Lambda J a
        torque = (transposed @ wrench + inertia @ posture[..., None])[..., 0] + now.qfrc_bias[:, self.dof]
        return np.clip(torque, *self.torque_limit), self.grip_centre + self.grip_range * self.grip[rows]
