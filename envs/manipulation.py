"""robosuite's Lift, Can, Square and Transport for many simulations at once: resets, observations and success.

robosuite 1.4.1 as robomimic calls it (OSC_POSE, 20 Hz, sparse reward). Torques replayed give its states bit for bit;
our torques differ from its own in the rounding of the linear algebra. What is odd in it is kept, and said.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import mujoco
import numpy as np
from gymnasium.vector import AutoresetMode
from mujoco.batch import Batch
from numpy.random import Generator

from dpft.envs.batched_mujoco import BatchedMujoco, Rows
from dpft.envs.chunked import Array
from dpft.envs.osc import Arm
from dpft.envs.robosuite_models import TWO_ARMS, robosuite_model
from dpft.envs.task import TaskSpec

SUBSTEPS = 25  # of 2 ms in a control step
VELOCITY_STAGE = mujoco.mjtStage.mjSTAGE_VEL.value
ARM_START = np.array([0, np.pi / 16, 0, -np.pi / 2 - np.pi / 3, 0, np.pi - 0.2, np.pi / 4])  # rad
ARM_NOISE = 0.02  # standard deviation around it
FINGERS_START = np.array([0.020833, -0.020833])  # m
FAR = [10.0, 10.0, 10.0, 1.0, 0.0, 0.0, 0.0]  # where robosuite parks objects that a task does not use
RELEASED = np.arctanh(0.4) / 10  # m between gripper and object: robosuite's 1 - tanh(10 d) < 0.6
FINGER_COLUMNS = slice(7, 9), slice(16, 18)  # of the observation, of each arm
KINEMATICS = "xpos", "xquat", "site_xpos", "site_xmat", "geom_xpos"
FIELDS = "qpos", "qvel", "ctrl", *KINEMATICS, "cdof", "subtree_com", "qfrc_bias", "M"


# -- quaternions, x y z w unless said ---------------------------------------------------------------------------------


def xyzw(quat: Array) -> Array:
    """MuJoCo's w x y z -> robosuite's x y z w."""
    return quat[..., [1, 2, 3, 0]]


def positive(quat: Array) -> Array:
    """The sign that robosuite's conversion from matrices gives: w >= 0."""
    return np.where(quat[..., 3:] < 0, -quat, quat)


def product(a: Array, b: Array) -> Array:
    """a b, [..., 4]."""
    u, v, s, t = a[..., :3], b[..., :3], a[..., 3:], b[..., 3:]
    return np.concatenate((s * v + t * u + np.cross(u, v), s * t - (u * v).sum(-1, keepdims=True)), -1)


def rotate_back(quat: Array, vector: Array) -> Array:
    """R(quat)^T vector, [n, 3]."""
    u, w = -quat[..., :3], quat[..., 3:]
    t = 2 * np.cross(u, vector)
    return vector + w * t + np.cross(u, t)


# -- tasks ------------------------------------------------------------------------------------------------------------


def joint_of(model: mujoco.MjModel, body: str) -> slice:
    """Where the pose of a free body is in qpos."""
    address = int(model.jnt_qposadr[model.body_jntadr[model.body(body).id]])
    return slice(address, address + 7)


def scatter(
    rng: Generator,
    x: tuple[float, float],
    y: tuple[float, float],
    surface: Array,
    above: float,
    bottom: float,
    angle: tuple[float, float] = (0.0, 2 * np.pi),
    axis: int = 3,
    clear: Callable[[Array], bool] = lambda position: True,
) -> Array:
    """A free body's pose [7] relative to a point of a surface, drawn uniformly in robosuite's order.

    x, y: ranges in m, drawn until the place is clear; above: m of air under its lowest point, which is `bottom` m
    below its origin; angle: range in rad about an axis (1 x, 2 y, 3 z).
    """
    while True:
        spot = rng.uniform(*x) + surface[0], rng.uniform(*y) + surface[1], above + surface[2] + bottom
        pose = np.array([*spot, 0.0, 0.0, 0.0, 0.0])
        if clear(pose[:3]):
            break
    half = rng.uniform(*angle) / 2
    pose[3], pose[3 + axis] = np.cos(half), np.sin(half)
    return pose


class Rules(ABC):
    """One task: where its objects start, what is seen of them, when it is solved."""

    STATE: tuple[str, ...] = ()  # arrays that are neither the engine's nor an arm's

    def __init__(self, batch: Batch, model: mujoco.MjModel, arms: list[Arm]) -> None:
        self.batch, self.model, self.arms = batch, model, arms

    @abstractmethod
    def place(self, qpos: Array, rng: Generator, slot: int) -> None:
        """Draw the objects' poses into qpos."""

    @abstractmethod
    def look(self, now: SimpleNamespace) -> tuple[list[Array], Array]:
        """Parts of robomimic's "object" observation, [n, …] each, and whether the task is solved, [n] bool."""

    def hand(self, now: SimpleNamespace, arm: int = 0) -> Array:
        """[n, 3]: robosuite's eef_pos, between the fingers' tips."""
        return now.site_xpos[:, self.arms[arm].site]


class Lift(Rules):
    TABLE = np.array([0.0, 0.0, 0.8])
    DENSITY = 1000.0  # kg/m3
    STATE = ("half",)  # edges of the cubes, [n, 3] m

    def __init__(self, batch: Batch, model: mujoco.MjModel, arms: list[Arm]) -> None:
        super().__init__(batch, model, arms)
        self.cube, self.joint = model.body("cube_main").id, joint_of(model, "cube_main")
        self.half = np.tile(model.geom("cube_g0").size, (batch.nsim, 1))

    def place(self, qpos: Array, rng: Generator, slot: int) -> None:
        qpos[self.joint] = scatter(rng, (-0.03, 0.03), (-0.03, 0.03), self.TABLE, 0.01, self.half[slot, 2])

    def draw_sizes(self, slots: Array, rngs: list[Generator]) -> None:
        """robosuite's draw where it builds the model anew for every episode."""
        self.half[slots] = [[rngs[slot].uniform(0.020, 0.022) for _ in range(3)] for slot in slots]
        self.resize(slots)

    def resize(self, slots: Array) -> None:
        """Each simulation's model as if compiled with a cube of this size, but for the rounding of its mass."""
        half = self.half[slots]
        geoms = [self.model.geom(name).id for name in ("cube_g0", "cube_g0_vis")]
        volume = self.model.body_bvhadr[self.cube]
        mass = 8 * self.DENSITY * half.prod(1)
        squared = np.square(half)
        self.batch.expand("body_mass")[slots, self.cube] = mass
        self.batch.expand("body_inertia")[slots, self.cube] = (
            mass[:, None] / 3 * (squared.sum(1, keepdims=True) - squared)
        )
        for geom in geoms:
            self.batch.expand("geom_size")[slots, geom] = half
            self.batch.expand("geom_rbound")[slots, geom] = np.sqrt(squared.sum(1))
            self.batch.expand("geom_aabb")[slots, geom, 3:] = half
        self.batch.expand("bvh_aabb")[slots, volume, 3:] = half
        self.batch.set_const(slots.astype(np.int32))

    def look(self, now: SimpleNamespace) -> tuple[list[Array], Array]:
        position = now.xpos[:, self.cube]
        seen = [position, xyzw(now.xquat[:, self.cube]), self.hand(now) - position]
        return seen, position[:, 2] > self.TABLE[2] + 0.04


class Carried(Rules):
    """Can and Square: the object's pose, and its pose in the gripper's frame (grip site, hand body's orientation)."""

    def __init__(self, batch: Batch, model: mujoco.MjModel, arms: list[Arm], body: str) -> None:
        super().__init__(batch, model, arms)
        self.body = model.body(body).id

    @abstractmethod
    def there(self, position: Array) -> Array:
        """Whether objects at these positions [n, 3] are where they belong, [n] bool."""

    def look(self, now: SimpleNamespace) -> tuple[list[Array], Array]:
        position, quat = now.xpos[:, self.body], xyzw(now.xquat[:, self.body])
        hand, offset = xyzw(now.xquat[:, self.arms[0].hand]), position - self.hand(now)
        turned = positive(product(hand * [-1, -1, -1, 1], quat))
        released = np.linalg.norm(offset, axis=1) > RELEASED
        return [position, quat, rotate_back(hand, offset), turned], self.there(position) & released


class Can(Carried):
    FROM, TO = np.array([0.1, -0.25, 0.8]), np.array([0.1, 0.28, 0.8])  # centre of one bin, corner of the other
    SIZE = np.array([0.39, 0.49])  # of a bin
    SHAPES: ClassVar = {  # horizontal radius, bottom below and top above the origin, m
        "Milk": (0.025, 0.085, 0.075),
        "Bread": (0.03, 0.045, 0.03),
        "Cereal": (0.04, 0.1, 0.03),
        "Can": (0.025, 0.06, 0.04),
    }

    def __init__(self, batch: Batch, model: mujoco.MjModel, arms: list[Arm]) -> None:
        super().__init__(batch, model, arms, "Can_main")
        there = {model.body(i).name for i in range(model.nbody)}
        self.joints = {name: joint_of(model, f"{name}_main") for name in self.SHAPES if f"{name}_main" in there}

    def place(self, qpos: Array, rng: Generator, slot: int) -> None:
        """The can is drawn clear of three objects, which robosuite then takes away."""
        placed: list[tuple[Array, float, float]] = []
        for name, (radius, bottom, top) in self.SHAPES.items():

            def clear(position: Array, radius: float = radius, bottom: float = bottom) -> bool:
                gaps = [(position - other, apart + radius, high + bottom) for other, apart, high in placed]
                return not any(np.hypot(*gap[:2]) <= apart and gap[2] <= high for gap, apart, high in gaps)

            x, y = self.SIZE / 2 - 0.05 - radius
            pose = scatter(rng, (-x, x), (-y, y), self.FROM, 0.0, bottom, clear=clear)
            placed.append((pose[:3], radius, top))
            if name in self.joints:
                qpos[self.joints[name]] = pose if name == "Can" else FAR

    def there(self, position: Array) -> Array:
        offset = position - self.TO
        return ((offset > 0) & (offset < [*self.SIZE / 2, 0.1])).all(1)


class Square(Carried):
    TABLE = np.array([0.0, 0.0, 0.82])

    def __init__(self, batch: Batch, model: mujoco.MjModel, arms: list[Arm]) -> None:
        super().__init__(batch, model, arms, "SquareNut_main")
        there = {model.body(i).name for i in range(model.nbody)}
        self.joint, self.peg = joint_of(model, "SquareNut_main"), model.body("peg1").pos.copy()
        self.round = joint_of(model, "RoundNut_main") if "RoundNut_main" in there else None

    def place(self, qpos: Array, rng: Generator, slot: int) -> None:
        qpos[self.joint] = scatter(rng, (-0.115, -0.11), (0.11, 0.225), self.TABLE, 0.02, 0.05)
        if self.round:
            qpos[self.round] = FAR

    def there(self, position: Array) -> Array:
        """The gripper's distance counts from the nut's centre: one that is still held by its handle is released."""
        near = np.abs(position - self.peg)[:, :2] < 0.03
        return near.all(1) & (position[:, 2] < self.TABLE[2] + 0.05)


class Transport(Rules):
    """Two arms: the payload out of its closed bin into the target bin, the trash out of that into the trash bin."""

    TABLES = np.array([0.0, -1.2 * 3 / 8, 0.8]), np.array([0.0, 1.2 * 3 / 8, 0.8])  # of arm 0 (start bin), of arm 1

    def __init__(self, batch: Batch, model: mujoco.MjModel, arms: list[Arm]) -> None:
        super().__init__(batch, model, arms)
        self.scratch = mujoco.MjData(model)
        bodies = {
            "start": "transport_start_bin_root",
            "lid": "transport_start_bin_lid_root",
            "payload": "payload_root",
            "target": "transport_target_bin_root",
            "trash": "trash_main",
            "trash_bin": "transport_trash_bin_root",
        }
        self.joints = {name: joint_of(model, body) for name, body in bodies.items()}
        self.bodies = {name: model.body(body).id for name, body in bodies.items()}
        self.floors = {
            "target": model.geom("transport_target_bin_base").id,
            "trash_bin": model.geom("transport_trash_bin_base").id,
        }
        self.handle = model.geom("transport_start_bin_lid_handle").id
        self.root_of_geom = model.body_rootid[model.geom_bodyid]

    def place(self, qpos: Array, rng: Generator, slot: int) -> None:
        def draw(x: float, table: int, bottom: float, angle: tuple[float, float] = (0.0, 0.0), axis: int = 3) -> Array:
            around = (x - 0.005, x + 0.005)
            return scatter(rng, around, (-0.005, 0.005), self.TABLES[table], 0.001, bottom, angle, axis)

        start, lid = draw(0.2, 0, 0.075), draw(0.0, 0, 0.02)
        payload = draw(0.0, 0, 0.015, (np.pi / 2 - np.pi / 6, np.pi / 2 + np.pi / 6), 2)
        rng.random()  # robosuite reads the random initial orientation twice
        lying = np.array([0.5, -0.5, 0.5, -0.5] if rng.random() >= 0.5 else [-0.5] * 4)
        # robosuite multiplies these w x y z numbers as if they were x y z w, and in float32
        payload[3:] = product(payload[3:], lying).astype(np.float32)
        target, trash = draw(-0.2, 1, 0.075), draw(0.0, 1, 0.02, (-0.3 * np.pi, 0.3 * np.pi))
        trash_bin = draw(0.2, 1, 0.075)
        for thing, holder, height in ((lid, start, 0.15), (payload, start, 0.01), (trash, target, 0.01)):
            thing[:2] = holder[:2]
            thing[2] += height
        poses = (start, lid, payload, target, trash, trash_bin)
        for joint, pose in zip(self.joints.values(), poses, strict=True):
            qpos[joint] = pose

    def touching(self, now: SimpleNamespace, thing: str, holder: str) -> Array:
        """[n] bool: whether the thing lies on the floor of a bin. Contacts are looked up where the two are near."""
        touches = np.zeros(len(now.slots), bool)
        gap = np.abs(now.xpos[:, self.bodies[thing]] - now.xpos[:, self.bodies[holder]])
        for row in np.flatnonzero((gap < 0.3).all(1)):
            data = self.batch.get_data(int(now.slots[row]), self.scratch)
            pairs = data.contact.geom[: data.ncon]
            floor, body = self.floors[holder], self.bodies[thing]
            touches[row] = ((pairs == floor) & (self.root_of_geom[pairs[:, ::-1]] == body)).any()
        return touches

    def look(self, now: SimpleNamespace) -> tuple[list[Array], Array]:
        payload, trash = now.xpos[:, self.bodies["payload"]], now.xpos[:, self.bodies["trash"]]
        lid = now.geom_xpos[:, self.handle]
        quats = {name: positive(xyzw(now.xquat[:, self.bodies[name]])) for name in ("payload", "trash", "lid")}
        handle = positive(product(quats["lid"], xyzw(self.model.geom_quat[self.handle])[None]))
        bins = [now.geom_xpos[:, floor] for floor in self.floors.values()]
        arms = self.hand(now, 0), self.hand(now, 1)
        near = [payload - arms[0], lid - arms[0], payload - arms[1], trash - arms[1]]
        placed = np.stack((self.touching(now, "payload", "target"), self.touching(now, "trash", "trash_bin")), 1)
        seen = [payload, quats["payload"], trash, quats["trash"], lid, handle, *bins, *near, placed.astype(float)]
        return seen, placed[:, 0] & placed[:, 1]


RULES: dict[str, type[Rules]] = {
    "Lift": Lift,
    "PickPlaceCan": Can,
    "NutAssemblySquare": Square,
    "TwoArmTransport": Transport,
}

# -- the simulator ----------------------------------------------------------------------------------------------------


class BatchedManipulation(BatchedMujoco):
    """Reward 1 for every control step at whose end the task is solved, plus the task's reward offset."""

    def __init__(self, task: TaskSpec, num_envs: int, chunk: int, threads: int, autoreset: AutoresetMode) -> None:
        name = task.env_id.removeprefix("robosuite/")
        model = robosuite_model(name, task.options.lean)
        box = np.ones(task.action_dim)
        super().__init__(task, model, num_envs, chunk, threads, -box, box, autoreset, persistent=True)
        self.arms = [Arm(model, index, num_envs) for index in range(2 if name in TWO_ARMS else 1)]
        self.rules: Any = RULES[name](self.batch, model, self.arms)
        self.sizes_vary = task.options.cube_size == "episode"
        self.slots = np.arange(num_envs)
        self.fields = {field: self.batch.bind(field) for field in FIELDS}
        self.observed = np.zeros((num_envs, task.obs_dim))  # what robosuite's sensors said at the last control step

    def now(self, rows: Rows) -> SimpleNamespace:
        """The state of some slots; views where rows is a slice."""
        return SimpleNamespace(slots=self.slots[rows], **{name: field[rows] for name, field in self.fields.items()})

    def start(self, slots: Array) -> None:
        if self.sizes_vary:
            self.rules.draw_sizes(slots, self.rngs)
        for slot in slots:
            qpos, rng = self.model.qpos0.copy(), self.rngs[slot]
            for arm in self.arms:
                qpos[arm.qpos] = ARM_START + ARM_NOISE * rng.standard_normal(7)
                qpos[arm.fingers] = FINGERS_START
            self.rules.place(qpos, rng, int(slot))
            self.fields["qpos"][slot] = qpos
        self.begin(slots)

    def begin(self, slots: Array) -> None:
        """Kinematics, controllers and the first observation of slots whose positions have been set."""
        qpos, ids = self.fields["qpos"], slots.astype(np.int32)
        opened = qpos[slots]
        for arm in self.arms:
            qpos[slots, arm.fingers] = 0.0
        self.batch.forward(ids, stage=VELOCITY_STAGE)
        for arm in self.arms:
            arm.first_inertia[slots] = self.fields["M"][slots][:, arm.inertia]
        qpos[slots] = opened
        self.batch.forward(ids, stage=VELOCITY_STAGE)
        now = self.now(slots)
        for arm in self.arms:
            arm.restart(slots, now)
        self.sense(slots, now)

    def advance(self, rows: Rows, ids: Array | None, action: Array) -> tuple[Array, Array, Array]:
        fresh = (self.elapsed[rows] == 0)[:, None, None]
        for substep in range(SUBSTEPS):
            now = self.now(rows)
            for arm, command in zip(
                self.arms, np.split(action[rows].astype(np.float64), len(self.arms), 1), strict=True
            ):
                inertia = np.take(now.M, arm.inertia, axis=1)  # an index may give another layout: other rounding
                if substep == 0:
                    arm.aim(rows, now, command[:, :6])
                    inertia = np.where(fresh, arm.first_inertia[rows], inertia)
                torque, fingers = arm.control(rows, now, command[:, 6:], inertia)
                self.fields["ctrl"][rows, arm.motors] = torque
                self.fields["ctrl"][rows, arm.gripper] = fingers
            if substep == SUBSTEPS - 1:  # robosuite's sensors and reward read the kinematics of one substep ago
                solved = self.sense(rows, now)
            self.batch.step(ids, nstep=1, stage=VELOCITY_STAGE)
        for arm, columns in zip(self.arms, FINGER_COLUMNS, strict=False):  # but the newest joint angles
            self.observed[rows, columns] = self.fields["qpos"][rows, arm.fingers]
        ends = solved & self.task.options.ends_at_success
        return solved + self.task.options.reward_offset, ends, solved

    def sense(self, rows: Rows, now: SimpleNamespace) -> Array:
        """Note the observation; returns whether the task is solved."""
        parts: list[Array] = []
        for arm in self.arms:
            parts += [now.site_xpos[:, arm.site], xyzw(now.xquat[:, arm.hand]), now.qpos[:, arm.fingers]]
        objects, solved = self.rules.look(now)
        self.observed[rows] = np.concatenate(parts + objects, axis=1)
        return solved

    def observe(self, rows: Rows) -> Array:
        return self.observed[rows].copy()

    def get_state(self) -> dict[str, Any]:
        arms = [{name: getattr(arm, name).copy() for name in Arm.STATE} for arm in self.arms]
        rules = {name: getattr(self.rules, name).copy() for name in self.rules.STATE}
        return super().get_state() | {"arms": arms, "rules": rules, "observed": self.observed.copy()}

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        for part, saved in zip((self.rules, *self.arms), (state["rules"], *state["arms"]), strict=True):
            for name in part.STATE:
                getattr(part, name)[:] = saved[name]
        if self.sizes_vary:
            self.rules.resize(self.slots)
        self.observed[:] = state["observed"]
        self.batch.forward(stage=VELOCITY_STAGE)
