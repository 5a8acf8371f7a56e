"""The report in Chromium: what it asks for, how it looks, what a click does, what is printed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

QUIET = ("headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
         "disable-component-update", "disable-sync", "hide-scrollbars", "host-resolver-rules=MAP * ~NOTFOUND",
         "enable-logging=stderr")  # fmt: skip


@dataclass(frozen=True)
class Visit:
    """A page in Chromium: its DOM, its lines on the console, the addresses that it asked for (all in vain)."""

    dom: str
    console: list[str]
    asked: list[str]


@dataclass(frozen=True)
class Browser:
    path: str
    profile: Path

    def visit(self, url: str, *flags: str) -> Visit:
        log = self.profile / "net.json"
        every = (*QUIET, f"user-data-dir={self.profile}", f"log-net-log={log}", *(flags or ("dump-dom",)))
        command = [self.path, *(f"--{f}" for f in every), url]
        done = subprocess.run(command, check=True, timeout=120, capture_output=True, text=True)
        text = log.read_text()
        events = json.loads(text if text.rstrip().endswith("}") else text.rstrip().rstrip(",") + "]}")["events"]
        started = [e["params"] for e in events if {"url", "initiator"} <= e.get("params", {}).keys()]
        # what the browser asks for itself has no origin
        asked = [p["url"] for p in started if p["initiator"] != "not an origin"]
        return Visit(done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE" in line], asked)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no chromium here (Debian: apt install chromium)")
    return Browser(path, tmp_path_factory.mktemp("profile"))


@pytest.fixture(scope="module")
def page(folder: Path) -> Path:
    return folder / "report.html"


def picture(browser: Browser, url: str, shot: Path, width: int, height: int = 1800) -> np.ndarray:
    """Grey values (height, width) in 0..1."""
    from matplotlib.image import imread

    browser.visit(url, f"window-size={width},{height}", "virtual-time-budget=2000", f"screenshot={shot}")
    pixels = imread(shot)[..., :3].mean(axis=2)
    assert pixels.shape == (height, width)
    return pixels


@pytest.mark.browser
def test_a_page_that_errs_or_asks_is_caught(browser: Browser, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text('<img src="https://example.invalid/x"><script>console.error("boom"); nothing.here</script>')
    visit = browser.visit(bad.as_uri())
    assert visit.asked == ["https://example.invalid/x"]
    assert any("boom" in line for line in visit.console) and any("ReferenceError" in line for line in visit.console)


@pytest.mark.browser
def test_it_says_nothing_and_asks_nobody(browser: Browser, page: Path) -> None:
    visit = browser.visit(page.as_uri())
    assert (visit.console, visit.asked) == ([], [])
    assert visit.dom.count("<svg") == page.read_text().count("<svg") == 11
    assert visit.dom.rstrip().endswith("</html>") and "<h2>Conditions</h2>" in visit.dom


@pytest.mark.browser
def test_markup_that_got_in_all_the_same_runs_and_loads_nothing(browser: Browser, page: Path, tmp_path: Path) -> None:
    evil = '<script>document.title="RAN"</script><img src="https://example.invalid/x" onerror="document.title=1">'
    evil += '<link rel=stylesheet href="https://example.invalid/y"><iframe src="https://example.invalid/z"></iframe>'
    bad = tmp_path / "bad.html"
    bad.write_text(page.read_text().replace("<h1>", evil + "<h1>", 1))
    visit = browser.visit(bad.as_uri())
    assert visit.asked == [] and "<title>RAN" not in visit.dom and "<title>1" not in visit.dom
    assert sum("Content Security Policy" in line for line in visit.console) >= 4
    assert visit.dom.count("<svg") == 11


@pytest.mark.browser
@pytest.mark.parametrize("width", [400, 1100])
def test_it_renders_on_a_phone_and_on_a_desk(browser: Browser, page: Path, tmp_path: Path, width: int) -> None:
    pixels = picture(browser, page.as_uri(), tmp_path / "shot.png", width)
    assert 0.01 < (pixels < 0.9).mean() < 0.5, "the page is blank, or black"
    assert (pixels[:, -3:] > 0.9).all(), "something sticks out at the right"


@pytest.mark.browser
def test_a_click_lays_the_dialogues_over_the_page_and_close_takes_them_away(
    browser: Browser, page: Path, tmp_path: Path
) -> None:
    anchor = re.search(r'xlink:href="(#s[0-9a-f]{10})"', page.read_text())[1]
    before, after, closed = (
        picture(browser, page.as_uri() + to, tmp_path / f"{i}.png", 400, 900)
        for i, to in enumerate(("", anchor, "#closed"))
    )
    assert (abs(before - after) > 0.1).mean() > 0.05
    assert (abs(before - closed) > 0.1).mean() < 0.01, "the page is where it was"  # a tile may be drawn late


def printed(browser: Browser, page: Path) -> int:
    """Pages of the page on paper."""
    pdf = page.with_suffix(".pdf")
    browser.visit(page.as_uri(), "no-pdf-header-footer", f"print-to-pdf={pdf}")
    return len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes()))


@pytest.mark.browser
def test_it_prints_with_every_fold_open(browser: Browser, page: Path, tmp_path: Path) -> None:
    text = page.read_text()
    folded, unfolded, cut = (tmp_path / f"{name}.html" for name in ("folded", "unfolded", "cut"))
    folded.write_text(text)
    unfolded.write_text(text.replace("<details", "<details open"))
    cut.write_text(re.sub(r"(?s)(</summary>).*?(</details>)", r"\1\2", text))
    pages = printed(browser, folded)
    assert pages == printed(browser, unfolded) > printed(browser, cut)
    assert 4 <= pages <= 30, "dialogues behind the numbers are not printed"
