"""The report in a real browser, from a file:// address: it renders, hovering and sorting work, nothing is fetched."""

import csv
import html
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


@pytest.fixture(scope="module")
def hopper(tmp_path_factory):
    """The report of the published records."""
    out = tmp_path_factory.mktemp("report") / "hopper.html"
    assert report([str(ROOT / "results" / "hopper"), "--out", str(out)]) == 0
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
    assert set(texts(page, 3, "#runs table")) == {"done"}
    assert "2.13.0+cpu" in page.locator("#what-was-run").inner_text()
    assert "seed: [0, 1, 2]" in page.locator("#what-was-run pre").text_content()


def test_the_answer_comes_first_and_versions_last(hopper, opened):
    page = opened(hopper)
    assert page.locator("h2").all_text_contents() == [
        "Results", "Figures", "Runs", "Hyperparameters", "Make it again", "What was run"
    ]  # fmt: skip
    assert page.locator("#results figure").get_attribute("id") == "sample_efficiency"
    assert page.locator("#results thead th").all_text_contents()[:2] == ["method", "final return"]
    assert texts(page, 1) == ["NCDPO", "DPPO", "DSRL-NA", "Gaussian PPO"]


def test_only_columns_that_differ_are_shown(hopper, opened):
    page = opened(hopper)
    head = page.locator("#results thead th").all_text_contents()
    assert not {"task", "seeds"} & set(head)
    assert "The same in all rows: task hopper-medium; seeds 3" in page.locator("#results .note").first.inner_text()
    assert "K" in head  # Gaussian PPO has none


def test_each_command_is_there_once_and_quoted(tmp_path):
    sweep = tmp_path / "my sweep"
    facts = {"git_commit": "; touch X", "command": "dpft train `touch X`; touch X", "started": "day"}
    for seed in range(2):
        write_run(sweep, [(0, 1.0), (10, 2.0)], seed=seed, provenance=facts | {"started": f"day {seed}"})
    assert report([str(sweep)]) == 0
    text = (sweep / "report.html").read_text()
    (shown,) = re.findall(r"<pre>(.*?)</pre>", text[text.index('id="make-it-again"') :], re.DOTALL)
    lines = html.unescape(shown).splitlines()
    assert lines == [
        "make setup",
        "dpft train '`touch' 'X`;' touch X",
        f"dpft figures '{sweep}'",
        f"dpft report '{sweep}'",
    ]


def test_words_filter_rows(hopper, opened):
    page = opened(hopper)
    page.locator("#runs .filter").fill("dppo seed1")
    left = page.locator("#runs tbody tr:visible td:first-child")
    assert left.all_text_contents() == ["hopper-medium_dppo_K10_seed1"]
    page.locator("#runs .filter").fill("")
    assert page.locator("#runs tbody tr:visible").count() == 12


def test_the_first_column_stays_when_a_wide_table_is_scrolled(hopper, opened):
    page = opened(hopper, viewport={"width": 390, "height": 900})
    cell = page.locator("#runs tbody td:first-child").first
    cell.scroll_into_view_if_needed()
    before = cell.bounding_box()
    page.locator("#runs .wide").evaluate("wide => wide.scrollLeft = 300")
    assert page.locator("#runs .wide").evaluate("wide => wide.scrollLeft") > 100
    assert cell.bounding_box()["x"] == before["x"]


def test_the_score_is_seen_on_a_phone(hopper, opened):
    page = opened(hopper, viewport={"width": 390, "height": 900})
    for table in ("#results", "#runs"):
        box = page.locator(f"{table} tbody td:nth-child(2)").first.bounding_box()
        assert box["x"] + box["width"] <= 390


def test_the_legend_hides_and_shows_lines(hopper, opened):
    page = opened(hopper, viewport={"width": 1400, "height": 1000})
    figure = page.locator("#sample_efficiency")
    button = figure.locator(".toggles button", has_text="DSRL-NA")
    image = figure.locator("img")

    def green() -> int:
        image.evaluate("image => image.decode()")
        pixels = Image.open(io.BytesIO(image.screenshot())).convert("RGB").get_flattened_data()
        return sum(g > r + 60 and g > b + 10 for r, g, b in pixels)

    whole = green()
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert green() < whole / 3  # the legend's own sample stays
    box = image.bounding_box()
    panels = json.loads(page.locator("#points").text_content())["sample_efficiency"]["panels"]
    hidden = [one for panel in panels for one in panel["series"] if one["name"] == "DSRL-NA"]
    left, top, *_ = hidden[0]["points"][-1]
    page.mouse.move(box["x"] + left * box["width"], box["y"] + top * box["height"])
    assert "DSRL-NA" not in page.locator("#tip").inner_text()
    button.click()
    assert green() == whole


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
    panels = json.loads(page.locator("#points").text_content())["sample_efficiency"]["panels"]
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
    button = page.locator("#results thead th:nth-child(2) button")
    button.click()
    rising = [float(text.split()[0]) for text in texts(page, 2)]
    assert rising == sorted(rising)
    assert page.locator("#results thead th:nth-child(2)").get_attribute("aria-sort") == "ascending"
    button.click()
    assert [float(text.split()[0]) for text in texts(page, 2)] == rising[::-1]
    page.locator("#results thead th:nth-child(1) button").click()
    names = texts(page, 1)
    assert names == sorted(names)
    assert page.locator("#results th[aria-sort]").count() == 1


def test_what_has_no_value_stays_at_the_end(sweep, opened):
    for folder in run_folders(sweep)[:2]:
        (folder / "curve.csv").unlink()
    assert report([str(sweep)]) == 0
    page = opened(sweep / "report.html")
    for _ in range(2):
        page.locator("#runs thead th:nth-child(2) button").click()
        assert texts(page, 2, "#runs table")[-2:] == ["", ""]


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


def test_it_is_the_same_each_time(sweep, capsys):
    assert report([str(sweep)]) == 0
    first = (sweep / "report.html").read_bytes()
    assert report([str(sweep)]) == 0
    assert (sweep / "report.html").read_bytes() == first
    assert [path.name for path in sweep.iterdir() if path.name.startswith(".")] == []
    assert f"Open it in a browser: {(sweep / 'report.html').as_uri()}" in capsys.readouterr().out


def test_a_sweep_under_way(sweep):
    folder, *_ = run_folders(sweep)
    (sweep / "runs.json").write_text(json.dumps({path.name: {} for path in run_folders(sweep)} | {"not-yet": {}}))
    (folder / "done.json").unlink()
    (folder / "metrics.csv").write_text("env_steps\nx\n")
    assert report([str(sweep)]) == 0
    text = (sweep / "report.html").read_text()
    assert "22 done, 1 failed, 1 unfinished" in text
    assert "<li>not-yet</li>" in text


@pytest.mark.parametrize("name", ["runs.json", "grid.yaml"])
@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"[1, 2", b"[]", None])
def test_a_damaged_file_of_the_sweep_is_named_and_the_page_is_made(tmp_path, name, content):
    write_run(tmp_path, [(0, 1.0)])
    if content is None:
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_bytes(content)
    assert report([str(tmp_path)]) == 0
    page = (tmp_path / "report.html").read_text()
    assert name in page[page.index("Records that could not be used</h2>") :]


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
