"""Scripted experts for Lift, Can and Square: way-points in phases, for many slots at once, with noise on purpose."""

import hashlib
from pathlib import Path

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict

Array = np.ndarray
SCRIPTS = Path(__file__).parent
POINTING_DOWN = np.diag([1.0, -1.0, -1.0])  # of the hand, with the axis along which its fingers close along -y
OVER, DOWN, CLOSE, RAISE, CARRY, LOWER, OPEN = range(7)
PATIENCE = 60  # control steps after which an object is let go that never came low enough


class Script(BaseModel):
    """What one task's expert does; a file NAME.yaml beside this one. Lengths in m, in robosuite's world."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    env_id: str  # of the task
    obs_dim: int  # of the task; the object's pose comes first in its "object" part
    noise: float  # standard deviation of Gaussian noise on the six motion actions: the expert's imperfection
    gain: float  # action units per m of distance to the way-point
    grasp: tuple[float, float, float]  # where the object is held, in its own frame
    rise: float  # how far it is lifted
    hold: int = 8  # control steps that closing the fingers takes
    turns: bool = False  # fingers along the object's y axis, and its x axis turned to the robot at the place
    place: tuple[float, float] | None = None  # where it is carried; none: lifting is all
    carry_height: float = 0.0  # of the hand (turns: of the object) on the way
    release_height: float = 0.0  # below which (z of the hand; turns: of the object) it is let go
    tolerance: float = 0.0  # distance to the place at which lowering begins


def load_script(name: str) -> Script | None:
    """A task's script; None where it has none."""
    path = SCRIPTS / f"{name}.yaml"
    return Script(**yaml.safe_load(path.read_text())) if path.exists() else None


def rotation(quat: Array) -> Array:
    """x y z w [n, 4] -> [n, 3, 3]."""
    v, w = quat[:, :3], quat[:, 3]
    cross = np.zeros((len(quat), 3, 3))
    cross[:, [2, 0, 1], [1, 2, 0]], cross[:, [1, 2, 0], [2, 0, 1]] = v, -v
    return np.eye(3) + 2 * w[:, None, None] * cross + 2 * cross @ cross


def yaw(angle: Array) -> Array:
    """[n] rad about z -> [n, 3, 3]."""
    turn = np.tile(np.eye(3), (len(angle), 1, 1))
    turn[:, 0, 0] = turn[:, 1, 1] = np.cos(angle)
    turn[:, 1, 0], turn[:, 0, 1] = np.sin(angle), -np.sin(angle)
    return turn


def wrap(angle: Array, period: float) -> Array:
    """Into [-period / 2, period / 2)."""
    return (angle + period / 2) % period - period / 2


class ScriptedExpert:
    """Acts on robomimic's low-dimensional observations; remembers the phase that each slot is in."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.begin(0)

    @property
    def metadata(self) -> dict[str, str]:
        return {"env_id": self.script.env_id}

    @property
    def sizes(self) -> tuple[int, int]:
        return self.script.obs_dim, 7

    def digest(self) -> str:
        return hashlib.sha256(self.script.model_dump_json().encode()).hexdigest()

    def begin(self, slots: int) -> None:
        self.phase, self.since = np.zeros(slots, np.int64), np.zeros(slots, np.int64)
        self.grip_yaw, self.grip_height = np.zeros(slots), np.zeros(slots)
        self.final = np.zeros(slots)  # heading of the object at the place

    def restart(self, slots: Array) -> None:
        """New episodes in these slots."""
        self.phase[slots] = self.since[slots] = 0

    def sample(self, obs: Array, rng: np.random.Generator) -> Array:
        """[n, O] -> [n, 7] float32 in [-1, 1]; moves on to the next phases."""
        script, everyone = self.script, np.arange(len(obs))
        hand, thing = obs[:, :3], obs[:, 9:12]
        hand_turn, thing_turn = rotation(obs[:, 3:7]), rotation(obs[:, 12:16])
        grasp = thing + thing_turn @ np.array(script.grasp) if script.turns else thing + script.grasp
        heading = np.arctan2(thing_turn[:, 1, 0], thing_turn[:, 0, 0])
        if script.turns:
            free = self.phase < CARRY
            self.grip_yaw = np.where(free, wrap(heading, np.pi), self.grip_yaw)
            # an object that points away from the robot cannot be turned all the way: sideways then
            sideways = np.where(self.grip_yaw > 0, np.pi / 2, -np.pi / 2)
            self.final = np.where(free, np.where(np.cos(heading) > 0, sideways, np.pi), self.final)
        correction = wrap(self.final - heading, 2 * np.pi) if script.turns else np.zeros(len(obs))
        place, height, off = self._to_place(hand, thing, correction)
        targets = np.stack(
            [
                grasp + np.array([0, 0, 0.10]),
                grasp,
                grasp,
                np.column_stack((hand[:, :2], self.grip_height + script.rise + 0.05)),
                np.column_stack((place, script.carry_height + height)),
                np.column_stack(
                    (place, hand[:, 2] - 0.05 if script.turns else np.full(len(obs), script.release_height))
                ),
                np.column_stack((hand[:, :2], np.full(len(obs), script.carry_height))),
            ]
        )[self.phase, everyone]
        turn = self._turn(hand_turn, correction)
        action = np.zeros((len(obs), 7))
        action[:, :3] = script.gain * (targets - hand)
        action[:, 3:6] = 2.0 * turn
        action[:, :6] += script.noise * rng.standard_normal((len(obs), 6))
        action[:, 6] = np.where((self.phase >= CLOSE) & (self.phase <= LOWER), 1.0, -1.0)
        self._move_on(targets - hand, turn, correction, off, hand, thing)
        return np.clip(action, -1, 1).astype(np.float32)

    def _to_place(self, hand: Array, thing: Array, correction: Array) -> tuple[Array, Array, Array]:
        """Where the hand has to be [n, 2] for the object to be at its place, its height above it [n], distance [n]."""
        place = np.array(self.script.place or (0.0, 0.0))
        if not self.script.turns:
            return np.tile(place, (len(hand), 1)), np.zeros(len(hand)), np.linalg.norm(hand[:, :2] - place, axis=1)
        offset = (yaw(correction) @ (hand - thing)[..., None])[..., 0]
        return place + offset[:, :2], offset[:, 2], np.linalg.norm(thing[:, :2] - place, axis=1)

    def _turn(self, hand_turn: Array, correction: Array) -> Array:
        """Rotation vector [n, 3] towards the hand's wanted orientation."""
        if not self.script.turns:
            return np.zeros((len(hand_turn), 3))
        now = np.arctan2(hand_turn[:, 1, 0], hand_turn[:, 0, 0])
        carrying = (self.phase == CARRY) | (self.phase == LOWER)
        wanted = yaw(np.where(carrying, now + correction, self.grip_yaw)) @ POINTING_DOWN
        error = wanted @ hand_turn.transpose(0, 2, 1)
        return (error[:, [2, 0, 1], [1, 2, 0]] - error[:, [1, 2, 0], [2, 0, 1]]) / 2

    def _move_on(self, gap: Array, turn: Array, correction: Array, off: Array, hand: Array, thing: Array) -> None:
        """Next phases where the present ones have come to their ends."""
        script = self.script
        self.since += 1
        low = (thing if script.turns else hand)[:, 2] < script.release_height + 0.01
        near = np.linalg.norm(gap[:, :2], axis=1) < 0.008
        ends = np.stack(
            [
                near & (np.abs(gap[:, 2]) < 0.02) & (np.abs(turn[:, 2]) < 0.05),
                np.linalg.norm(gap, axis=1) < 0.012,
                self.since > script.hold,
                (hand[:, 2] > self.grip_height + script.rise) & (script.place is not None),
                (off < script.tolerance) & (np.abs(correction) < 0.04),
                low | (self.since > PATIENCE),
                np.zeros(len(gap), bool),
            ]
        )[self.phase, np.arange(len(gap))]
        self.grip_height = np.where(ends & (self.phase == CLOSE), hand[:, 2], self.grip_height)
        self.phase += ends
        self.since[ends] = 0
