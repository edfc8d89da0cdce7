"""The site is made from the repository's files: whatever they link to is there, and nothing is left out."""

import importlib.util
from pathlib import Path

import pytest
import yaml

SCRIPT = Path(__file__).parents[2] / "docs/pages.py"


@pytest.fixture
def site(tmp_path, monkeypatch):
    """The script, for a small repository; a function that makes its site and returns the pages' folder."""
    spec = importlib.util.spec_from_file_location("pages", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
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
    monkeypatch.setattr(module, "ROOT", root)

    def make() -> Path:
        module.make(tmp_path / "site")
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


def test_every_page_that_is_no_figure_is_in_the_navigation(site):
    _, make = site
    pages = make()
    told = str(yaml.safe_load((pages.parent / "mkdocs.yml").read_text())["nav"])
    for page in pages.rglob("*.md"):
        assert page.parent.name == "figures" or f"'{page.relative_to(pages).as_posix()}'" in told, page
