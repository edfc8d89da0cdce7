"""What experiments are called and the order in which they stand, the same in every figure, table and page."""

import re
from collections.abc import Iterable
from typing import Any

NAMES = {
    "ncdpo": "NCDPO",
    "dppo": "DPPO",
    "dsrl-na": "DSRL-NA",
    "dsrl-sac": "DSRL-SAC",
    "find": "FIND",
    "gaussian-ppo": "Gaussian PPO",
}  # in the order of every legend and table; other methods go by the name they are registered under, after these
_NUMBER = re.compile(r"([-+]?\d+\.?\d*(?:[eE][-+]?\d+)?)")


def experiment_name(experiment: dict[str, Any]) -> str:
    """The method, and in what it differs from others of the same method, e.g. "NCDPO, from scratch, clip=0.1"."""
    scratch = "from scratch" if experiment["from_scratch"] else ""
    method = NAMES.get(experiment["method"], experiment["method"])
    return ", ".join(filter(None, (method, scratch, experiment["variant"])))


def natural(text: str) -> list[str | float]:
    """A key for sorting by which numbers inside text stand by their size, and before other text."""
    parts = _NUMBER.split(text)
    return [float(part) if i % 2 else part for i, part in enumerate(parts)]


def ordered(values: Iterable[str]) -> list[str]:
    """Texts in their natural order."""
    return sorted(values, key=natural)


def rank(method: str) -> tuple[int, str]:
    """A key for sorting by method."""
    known = list(NAMES)
    return (known.index(method) if method in NAMES else len(known)), method


def one_line(value: Any) -> str:
    """Text of a record as one line of printable characters: what breaks lines or cannot be shown becomes a space."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())
