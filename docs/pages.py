"""The documentation site: pages are this repository's own files under their own paths, so links hold here and there.

README.md becomes a page for each of its sections; whatever a page links to comes with it. `make docs` builds the site.
"""

import posixpath
import re
import shutil
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
SETTINGS = Path(__file__).with_name("zensical.yml")
ROOMS = ("envs", "methods", "sweeps", "analysis")
PAGES = ("methods/*.md", "envs/*/README.md", "sweeps/*.md", "results/README.md", "results/*/README.md", "C*.md")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
# code, which is left alone, or a link: text, path, anchor
LINK = re.compile(r"(?s:```.*?```)|`[^`\n]*`|\[([^]]*)\]\((?![a-z]+:)([^)#\s]*)(#[^)\s]*)?\)")


def slug(title: str) -> str:
    """A heading's anchor, as code hosts make it."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def readme() -> dict[str, str]:
    """README.md by sections: what precedes the first is index.md, "## Start" is start.md."""
    first, *rest = re.split(r"^## ", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    sections = {f"{slug(text.splitlines()[0])}.md": f"## {text}" for text in rest}
    return {"index.md": first} | {page: re.sub(r"(?m)^#(?=#+ )", "", text) for page, text in sections.items()}


def api() -> dict[str, str]:
    """A page for what `import dpft` offers and one for each room: all modules, from their docstrings."""
    pages = {}
    for name, pattern in [("dpft", "*.py"), *((room, f"{room}/**/*.py") for room in ROOMS)]:
        paths = [path for path in sorted(ROOT.glob(pattern)) if path.name != "__main__.py"]
        parts = [("dpft", *path.relative_to(ROOT).with_suffix("").parts) for path in paths]
        modules = [".".join(part).removesuffix(".__init__") for part in parts]
        pages[f"api/{name}.md"] = "\n".join([f"# {modules[0]}\n", *(f"::: {module}\n" for module in modules)])
    return pages


def repository() -> dict[str, str]:
    """The pages that are files of the repository."""
    paths = [path for pattern in PAGES for path in sorted(ROOT.glob(pattern))]
    return {path.relative_to(ROOT).as_posix(): path.read_text() for path in paths}


def navigation() -> list:
    """The sections of README.md in their order; what belongs to one of them is beside it."""
    found = list(repository())
    results = [page for page in found if page.startswith("results/") and page != "results/README.md"]
    groups = {
        "index.md": [{"The idea": "index.md"}],
        "tasks.md": [
            {"Methods": [page for page in found if page.startswith("methods/")]},
            {"Tasks": ["tasks.md", *(page for page in found if page.startswith("envs/"))]},
        ],
        "results.md": [{"Results": [{"In short": "results.md"}, {"All records": "results/README.md"}, *results]}],
    }
    return [
        *(entry for page in readme() for entry in groups.get(page, [page])),
        *(page for page in found if page.startswith("sweeps/")),
        {"Adding things": "CONTRIBUTING.md"},
        {"Python": list(api())},
        {"Changelog": "CHANGELOG.md"},
    ]


def moved(page: str, text: str, pages: set[str], anchors: dict[str, str]) -> tuple[str, set[str]]:
    """A page's text with links that hold on the site, and the files that it links to.

    anchors says which page has a heading of README.md. Exits for a link to a file that is not there.
    """
    here, files = posixpath.dirname(page), set()

    def link(match: re.Match[str]) -> str:
        words, given, anchor = match.groups()
        if not given:  # code, or a place on the same page
            return match[0]
        path = posixpath.normpath(posixpath.join(here, given))
        if path == "README.md":
            path = anchors.get((anchor or "#")[1:], "index.md")
        elif (ROOT / path).is_dir():  # a site shows no folders
            return words
        elif path not in pages:
            if not (ROOT / path).is_file():
                raise SystemExit(f"{page}: it links to {given}, and there is no such file")
            files.add(path)
        return f"[{words}]({posixpath.relpath(path, here or '.')}{anchor or ''})"

    return LINK.sub(link, text), files


def make(folder: Path) -> None:
    """Write into a new folder the pages and their pictures, the settings, the packages whose docstrings are read."""
    shutil.rmtree(folder, ignore_errors=True)
    sections = readme()
    anchors = {slug(title): page for page, text in sections.items() for title in HEADING.findall(text)}
    pages = sections | repository() | api()
    waiting = list(pages)
    while waiting:
        page = waiting.pop()
        target = folder / "pages" / page
        target.parent.mkdir(parents=True, exist_ok=True)
        if not page.endswith(".md"):
            shutil.copyfile(ROOT / page, target)
            continue
        text, files = moved(page, pages[page], set(pages), anchors)
        target.write_text(text)
        pages |= {file: (ROOT / file).read_text() if file.endswith(".md") else "" for file in files}
        waiting += files
    settings = yaml.safe_load(SETTINGS.read_text()) | {"docs_dir": "pages", "site_dir": "site", "nav": navigation()}
    shutil.copyfile(SETTINGS.with_name("site.css"), folder / "pages/site.css")
    (folder / "mkdocs.yml").write_text(yaml.safe_dump(settings, sort_keys=False))
    (folder / "dpft").mkdir()
    for path in [*ROOT.glob("*.py"), *(ROOT / room for room in ROOMS)]:
        (folder / "dpft" / path.name).symlink_to(path)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
