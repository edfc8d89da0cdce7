"""Rooms import one way: envs <- methods <- sweeps; analysis reads files only."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {"envs": set(), "methods": {"envs"}, "sweeps": {"envs", "methods"}, "analysis": set()}


def imported(path: Path) -> set[str]:
    """Packages that a file imports, inside functions too; of this suite the room: dpft.envs.task is envs."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {name.removeprefix("dpft.").split(".")[0] for name in names}
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_it_may(room):
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    for path in files:
        assert imported(path) & set(ROOMS) <= ROOMS[room] | {room}, path


def test_analysis_needs_neither_torch_nor_a_simulator():
    for path in (ROOT / "analysis").rglob("*.py"):
        assert not imported(path) & {"torch", "mujoco", "gymnasium"}, path
