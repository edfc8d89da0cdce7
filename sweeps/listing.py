"""dpft methods, dpft tasks, dpft grids: what there is, a line each."""

import ast
from importlib.util import find_spec
from pathlib import Path

import yaml

from dpft.arguments import Parser
from dpft.envs import TASKS
from dpft.methods import method_names


def _no_arguments(argv: list[str], what: str) -> None:
    about = f"Lists the {what}, a line each."
    Parser(prog=f"dpft {what}", description=about, epilog=f"example: dpft {what}").parse_args(argv)


def methods(argv: list[str]) -> int:
    _no_arguments(argv, "methods")
    for name, path in sorted(method_names().items()):
        print(f"{name:<16}{_summary(path)}")
    return 0


def _summary(path: str) -> str:
    """The first line of the class's docstring, read without importing it (torch takes a second)."""
    module, _, attribute = path.partition(":")
    try:
        spec = find_spec(module)
        tree = ast.parse(Path(spec.origin).read_text()) if spec and spec.origin else ast.Module([], [])
    except (ImportError, OSError, SyntaxError, ValueError) as error:
        return f"cannot be found: {error}"
    found = next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == attribute), None)
    return (ast.get_docstring(found) or "").split("\n")[0] if found else path


def tasks(argv: list[str]) -> int:
    _no_arguments(argv, "tasks")
    for task in TASKS.values():
        sizes = f"{task.obs_dim} observations, {task.action_dim} actions, {task.max_episode_steps} steps"
        print(f"{task.name:<20}{task.env_id:<31}{sizes}; demonstrations {task.demos or 'of yours'}")
    print("and any Gymnasium id (MODULE:ID of your own) with flat real spaces, given demonstrations (--demos.source)")
    return 0


def grid_files() -> dict[str, Path]:
    return {path.stem: path for path in sorted((Path(__file__).parent / "grids").glob("*.yaml"))}


def grids(argv: list[str]) -> int:
    _no_arguments(argv, "grids")
    for name, path in grid_files().items():
        print(f"{name:<24}{yaml.safe_load(path.read_text()).get('caption', '')}")
    return 0
