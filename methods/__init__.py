"""The registry of methods: one line each, and the entry-point group `dpft.methods` for methods in other packages."""

import difflib
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from dpft.envs.task import DataError

if TYPE_CHECKING:
    from dpft.methods.interface import Method

METHODS = {
    "ncdpo": "dpft.methods.ncdpo:NCDPO",
    "dppo": "dpft.methods.dppo:DPPO",
    "dsrl-na": "dpft.methods.dsrl:DSRLNA",
    "dsrl-sac": "dpft.methods.dsrl:DSRLSAC",
    "gaussian-ppo": "dpft.methods.gaussian_ppo:GaussianPPO",
}


def method_names() -> dict[str, str]:
    """Name -> "module:Class" of every method, built in or installed; nothing is imported."""
    return METHODS | {entry.name: entry.value for entry in entry_points(group="dpft.methods")}


def get_method(name: str) -> "type[Method]":
    """The class of a method. Raises DataError for an unknown name or a class that cannot be imported."""
    names = method_names()
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
        raise DataError(f"unknown method {name!r}: {hint}")
    return load_class(names[name])


def load_class(path: str) -> "type[Method]":
    """The class at "module:Class". Raises DataError where it is not there or is no Method."""
    from dpft.methods.interface import Method

    module, _, attribute = path.partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise DataError(
            f"cannot load method {path!r}: {error}; expected MODULE:CLASS of an importable module"
        ) from None
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise DataError(f"{path!r} is not a method: it must be a subclass of dpft.methods.interface.Method")
    return found
