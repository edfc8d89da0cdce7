"""The site is made from the repository's files: whatever they link to is there, and nothing is left out."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

SCRIPT = Path(__file__).parents[2] / "docs/pages.py"


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("pages", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def site(script, tmp_path, monkeypatch):
    """A small repository, and a function that makes its site and returns the folder of the pages."""
    root = tmp_path / "repository"
    for room in ("envs/experts", "methods", "sweeps/grids", "analysis", "results/hopper/figures"):
        (root / room).mkdir(parents=True)
    files = {
        "README.md": "# Suite\n\n[ncdpo](methods/ncdpo.md)\n\n## Use\n\n### A grid\n\nyes\n\n## Tasks\n\n## Results\n",
        "methods/ncdpo.md": "`[a](b)` [grid](../README.md#a-grid) [all](../README.md) [grids](../sweeps/grids)",
        "results/README.md": "# Results\n",
        "results/hopper/README.md": "# Hopper\n\n![curve](figures/curve.png) [more](figures/summary.md)",
        "results/hopper/figures/summary.md": "# All\n\n![curve](curve.png) [up](../README.md)",
        "results/hopper/figures/curve.png": "a picture",
        "results/hopper/figures/other.png": "nobody links to it",
        "CONTRIBUTING.md": "# Contributing\n",
        "CHANGELOG.md": "# Changelog\n",
    }
    files |= {f"{folder}__init__.py": "" for folder in ("", "envs/", "methods/", "sweeps/", "analysis/")}
    for name, text in files.items():
        (root / name).write_text(text)
    monkeypatch.setattr(script, "ROOT", root)

    def make() -> Path:
        script.make(tmp_path / "site")
        return tmp_path / "site/pages"

    return root, make


def test_links_hold_on_the_site(site):
    _, make = site
    pages = make()
    assert (pages / "methods/ncdpo.md").read_text() == ("`[a](b)` [grid](../use.md#a-grid) [all](../index.md) grids")
    assert (pages / "use.md").read_text().startswith("# Use\n\n## A grid\n")
    assert "[up](../README.md)" in (pages / "results/hopper/figures/summary.md").read_text()
    assert [path.name for path in pages.rglob("*.png")] == ["curve.png"]


@pytest.mark.parametrize("link", ["nothing.md", "figures/nothing.png", "../../../outside.md"])
def test_a_link_to_nothing_names_its_page(site, link):
    root, make = site
    with (root / "results/hopper/README.md").open("a") as file:
        file.write(f" [x]({link})")
    with pytest.raises(SystemExit, match=rf"results/hopper/README.md: it links to {link}"):
        make()


def missing(pages: Path) -> list[str]:
    """The pages that the navigation has not."""
    told = str(yaml.safe_load((pages.parent / "mkdocs.yml").read_text())["nav"])
    names = [page.relative_to(pages).as_posix() for page in pages.rglob("*.md") if page.parent.name != "figures"]
    return [name for name in names if f"'{name}'" not in told]


def test_every_page_is_in_the_navigation(site, script, tmp_path):
    """Of a small repository, and of this one, whose links are all to files."""
    root, make = site
    assert missing(make()) == []
    with (root / "CONTRIBUTING.md").open("a") as file:
        file.write("[plan](plan.md)")
    (root / "plan.md").write_text("# Plan")
    assert missing(make()) == ["plan.md"], "it is found where it is left out"
    script.ROOT = SCRIPT.parents[1]
    script.make(tmp_path / "whole")
    assert not set(missing(tmp_path / "whole/pages")) & {*script.readme(), *script.repository(), *script.api()}


def build(pages: Path) -> subprocess.CompletedProcess:
    """As `make docs` does."""
    command = [Path(sys.executable).with_name("zensical"), "build", "--strict"]
    return subprocess.run(command, cwd=pages.parent, capture_output=True, text=True)


def test_the_site_is_built_and_a_link_to_no_heading_is_an_error(site):
    root, make = site
    done = build(make())
    assert done.returncode == 0, done.stderr
    html = (root.parent / "site/site/methods/ncdpo.html").read_text()
    assert 'href="../use.html#a-grid"' in html
    with (root / "CHANGELOG.md").open("a") as file:
        file.write("[idea](methods/ncdpo.md#no-such-heading)")
    done = build(make())
    assert done.returncode != 0
    assert "anchor does not exist" in done.stderr
