"""constraints.txt is the one lock: it pins whatever `make setup` installs, at versions that pyproject.toml allows."""

import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OF_TORCH = ("nvidia-", "cuda-")  # its wheel pins them, each build others


def pins() -> dict[str, Requirement]:
    lines = (line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines())
    found = [Requirement(line) for line in lines if line]
    return {canonicalize_name(pin.name): pin for pin in found}


def needed(requirement: Requirement) -> list[str]:
    """What a package asks for, as text: this project's from pyproject.toml, another's from its installed metadata."""
    if requirement.name == PROJECT["name"]:
        return [line for extra in requirement.extras for line in PROJECT["optional-dependencies"][extra]]
    try:
        return requires(requirement.name) or []
    except PackageNotFoundError:
        return []


def closure(roots: list[str]) -> Iterator[Requirement]:
    """The requirements of `make setup` on this machine, with those of what they bring."""
    waiting, seen = [Requirement(root) for root in roots], set()
    while waiting:
        requirement = waiting.pop()
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        yield requirement
        for line in needed(requirement):
            inner = Requirement(line)
            if not inner.marker or any(inner.marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras)):
                waiting.append(inner)


def test_whatever_setup_installs_is_pinned_at_a_version_that_is_allowed():
    known, reached = pins(), 0
    for requirement in closure([*PROJECT["dependencies"], f"{PROJECT['name']}[dev]"]):
        name = canonicalize_name(requirement.name)
        if name == PROJECT["name"] or name.startswith(OF_TORCH):
            continue
        assert name in known, f"{name} is not in constraints.txt: make lock"
        version = next(iter(known[name].specifier)).version
        assert requirement.specifier.contains(version), f"{requirement}, but constraints.txt has {version}: make lock"
        reached += 1
    assert reached > len(PROJECT["dependencies"])
