"""The report in a real browser, from a file:// address: it renders, hovering and sorting work, nothing is fetched."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from PIL import Image
from run_folders import write_run

from dpft.analysis.load import run_folders
from dpft.analysis.report import report

ROOT = Path(__file__).parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt install chromium)")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="Playwright is not installed: pip install -e '.[dev]'"
    )
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])  # CI often runs as root
        yield browser
        browser.close()


@pytest.fixture
def opened(browser):
    """Opens a file; at the end there must have been no word on the console and no request for anything else."""
    contexts, faults, asked = [], [], []

    def open_page(path: Path, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.resolve().as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []
    outside = [url for url in asked if not url.startswith(("data:", "file:"))]
    assert outside == []
    assert sum(url.startswith("file:") for url in asked) == len(contexts)


@pytest.fixture
def hopper(tmp_path, capsys):
    """The report of the published records."""
    out = tmp_path / "hopper.html"
    assert report([str(ROOT / "results" / "hopper"), "--out", str(out)]) == 0
    assert f"Open it in a browser: {out.as_uri()}" in capsys.readouterr().out
    return out


def texts(page, column: int, table: str = "#results table") -> list[str]:
    return page.locator(f"{table} tbody tr td:nth-child({column})").all_text_contents()


def test_it_renders(hopper, opened):
    page = opened(hopper)
    assert page.title() == "hopper"
    sizes = page.evaluate("[...document.images].map(image => [image.complete, image.naturalWidth])")
    assert sizes
    assert all(complete and width > 100 for complete, width in sizes)
    assert len(texts(page, 1, "#runs table")) == 12
    assert set(texts(page, 6, "#runs table")) == {"done"}
    assert "2.13.0+cpu" in page.locator("#what-was-run").inner_text()
    assert "dpft figures" in page.locator("#make-it-again").inner_text()
    assert "seed: [0, 1, 2]" in page.locator("#what-was-run pre").text_content()


def test_hovering_shows_the_values_of_the_point_below(hopper, opened):
    page = opened(hopper, viewport={"width": 1400, "height": 1000})
    image = page.locator("img.drawing[data-name=sample_efficiency]")
    image.scroll_into_view_if_needed()
    box = image.bounding_box()
    tip = page.locator("#tip")
    assert tip.is_hidden()
    run = "hopper-medium_dsrl-na_K10_seed1"
    with (ROOT / "results" / "hopper" / "runs" / run / "curve.csv").open() as file:
        row = list(csv.DictReader(file))[5]
    expected = [f"{float(row['env_steps']):,.0f}", f"{float(row['return_mean']):,.0f}"]
    panels = json.loads(page.locator("#points").text_content())["sample_efficiency"]
    series = {one["name"]: one["points"] for panel in panels for one in panel["series"]}
    left, top, *values = series["DSRL-NA, seed 1"][5]
    assert values == expected
    x, y = box["x"] + left * box["width"], box["y"] + top * box["height"]
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    spot = picture.crop((round(x) - 2, round(y) - 2, round(x) + 3, round(y) + 3))
    # the line itself runs there: DSRL's green, on white
    assert any(green > red + 20 and green > blue for red, green, blue in spot.get_flattened_data())
    page.mouse.move(x, y)
    assert tip.is_visible()
    for text in ("DSRL-NA, seed 1", *expected):
        assert text in tip.inner_text()
    page.mouse.move(box["x"] - 1, box["y"] - 1)
    assert tip.is_hidden()


def test_a_click_sorts(hopper, opened):
    page = opened(hopper)
    button = page.locator("#results thead th:nth-child(7) button")
    button.click()
    rising = [float(text.split()[0]) for text in texts(page, 7)]
    assert rising == sorted(rising)
    assert page.locator("#results thead th:nth-child(7)").get_attribute("aria-sort") == "ascending"
    button.click()
    assert [float(text.split()[0]) for text in texts(page, 7)] == rising[::-1]
    page.locator("#results thead th:nth-child(2) button").click()
    names = texts(page, 2)
    assert names == sorted(names)
    assert page.locator("#results th[aria-sort]").count() == 1


def test_what_has_no_value_stays_at_the_end(sweep, opened):
    for folder in run_folders(sweep)[:2]:
        (folder / "curve.csv").unlink()
    assert report([str(sweep)]) == 0
    page = opened(sweep / "report.html")
    for _ in range(2):
        page.locator("#runs thead th:nth-child(8) button").click()
        assert texts(page, 8, "#runs table")[-2:] == ["", ""]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
def test_it_fits_the_window_and_follows_the_scheme(scheme, width, hopper, opened):
    page = opened(hopper, viewport={"width": width, "height": 900}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground)[:3])) > 600) == (scheme == "light")
    corner = Image.open(io.BytesIO(page.locator("img.drawing").first.screenshot())).convert("RGB").getpixel((3, 3))
    assert (sum(corner) > 600) == (scheme == "light")


class Links(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found += [value for name, value in attributes if name in ("href", "src", "srcset")]


def test_links_lead_to_records(sweep):
    (run_folders(sweep)[0] / "run.log").write_text("steps")
    assert report([str(sweep)]) == 0
    links = Links((sweep / "report.html").read_text()).found
    files = [link for link in links if not link.startswith(("#", "data:"))]
    assert "runs/" + run_folders(sweep)[0].name + "/run.log" in files
    assert len(files) == 24 * 4 + 1  # folder, config, curve; done.json is the status
    assert all((sweep / unquote(link)).exists() for link in files)
    assert not any("://" in link for link in links)


def test_what_people_wrote_is_text(tmp_path, opened):
    """Names and reasons with markup, quotes and the end of a script."""
    nasty = "</script><img src=x onerror=alert(1)>\"'&"
    folder = write_run(tmp_path, [(0, 1.0), (10, 2.0)], method=nasty.replace("/", ""), settings={nasty: nasty})
    (tmp_path / "grid.yaml").write_text(f"caption: '{nasty.replace(chr(39), '')}'\nmore: 1\n")
    (folder / "done.json").write_text(json.dumps({"status": "failed", "reason": nasty, "env_steps": 10}))
    assert report([str(tmp_path)]) == 0
    page = opened(tmp_path / "report.html")
    assert nasty in page.locator("#runs").inner_text()
    assert nasty in page.locator("#hyperparameters").text_content()
    assert page.locator("img[src=x]").count() == 0


def test_it_is_the_same_each_time(sweep):
    assert report([str(sweep)]) == 0
    first = (sweep / "report.html").read_bytes()
    assert report([str(sweep)]) == 0
    assert (sweep / "report.html").read_bytes() == first
    assert [path.name for path in sweep.iterdir() if path.name.startswith(".")] == []


def test_a_sweep_under_way(sweep):
    folder, *_ = run_folders(sweep)
    (sweep / "runs.json").write_text(json.dumps({path.name: {} for path in run_folders(sweep)} | {"not-yet": {}}))
    (folder / "done.json").unlink()
    (folder / "metrics.csv").write_text("env_steps\nx\n")
    assert report([str(sweep)]) == 0
    text = (sweep / "report.html").read_text()
    assert "22 done, 1 failed, 1 unfinished" in text
    assert "<li>not-yet</li>" in text


def test_nothing_to_report_is_one_line(tmp_path, capsys):
    assert report([str(tmp_path / "nothing")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dpft report: ")
    assert "there is no such folder" in line
    assert list(tmp_path.iterdir()) == []


def test_torch_is_not_imported(sweep):
    code = (
        "import sys; from dpft.sweeps.cli import main; assert main(['report', sys.argv[1]]) == 0;"
        "assert not {'torch', 'mujoco', 'dpft.methods'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(sweep)], cwd=ROOT, check=True)
