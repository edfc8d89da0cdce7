"""The registry of methods: one line each, and the entry-point group `dpft.methods` for methods in other packages."""

import difflib
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from dpft.envs.own import import_own
from dpft.envs.task import DataError

if TYPE_CHECKING:
    from dpft.methods.interface import Method

METHODS = {
    "ncdpo": "dpft.methods.ncdpo:NCDPO",
    "dppo": "dpft.methods.dppo:DPPO",
    "dsrl-na": "dpft.methods.dsrl:DSRLNA",
    "dsrl-sac": "dpft.methods.dsrl:DSRLSAC",
    "find": "dpft.methods.find:FIND",
    "gaussian-ppo": "dpft.methods.gaussian_ppo:GaussianPPO",
}


def method_names() -> dict[str, str]:
    """Name -> "module:Class" of every method, built in or installed; nothing is imported."""
    return METHODS | {entry.name: entry.value for entry in entry_points(group="dpft.methods")}


def get_method(name: str) -> "type[Method]":
    """The class of a method, by its name or as MODULE:CLASS. Raises DataError where there is none to be used."""
    names = method_names()
    if name not in names and ":" not in name:
        near = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}, and MODULE:CLASS of your own"
        raise DataError(f"unknown method {name!r}: {hint}")
    return load_class(names.get(name, name))


def load_class(path: str) -> "type[Method]":
    """The class at "module:Class". Raises DataError where it is not there, is no Method, or not a whole one."""
    from dpft.methods.interface import Method, MethodConfig

    module, _, attribute = path.partition(":")
    try:
        own = import_own(module)
    except DataError as error:
        raise DataError(f"cannot load method {path!r}: {error}") from None
    found = getattr(own, attribute, None)
    if found is None:
        raise DataError(f"cannot load method {path!r}: there is no class {attribute!r} in {own!r}")
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise DataError(f"{path!r} is not a method: it must be a subclass of dpft.methods.interface.Method")
    if found.__abstractmethods__:
        raise DataError(
            f"{path!r} is no whole method: it does not define {', '.join(sorted(found.__abstractmethods__))}"
        )
    config = getattr(found, "Config", None)
    if not (isinstance(config, type) and issubclass(config, MethodConfig)):
        raise DataError(f"{path!r} has no Config: set it to a subclass of dpft.methods.interface.MethodConfig")
    return found
