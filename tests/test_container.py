"""The container's image is built from what the package is made of."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_whatever_the_package_is_made_of_gets_into_the_image():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    rooms = {name.split(".")[1] for name in project["tool"]["setuptools"]["packages"] if "." in name}
    files = {"pyproject.toml", "constraints.txt", project["project"]["readme"], *project["project"]["license-files"]}
    data = set(project["tool"]["setuptools"]["package-data"]["dpft"])
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    assert {f"!{name}" for name in rooms | files | data | {"*.py"}} <= set(ignored)
