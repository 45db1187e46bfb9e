"""The page in Chromium: it is drawn, in light and dark, and its console stays silent."""

import html
import json
import re
import shutil
import subprocess

import pytest

from tests.report.model_pages import copy_data, write_pretrained, write_scores

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
QUIET = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--enable-logging=stderr --v=0"
).split()
DARK, LIGHT = (f"--blink-settings=preferredColorScheme={scheme}" for scheme in (0, 1))
# A page around the page, as wide as a screen is: it says what it finds there in its title.
PROBE = """<!DOCTYPE html><title></title>
<iframe style="width:{width}px;height:900px;border:0" srcdoc="{page}"></iframe>
<script>addEventListener("load", () => {{
  const page = document.querySelector("iframe").contentDocument, style = (e) => getComputedStyle(e);
  const plot = page.querySelector("svg"), text = plot.querySelector("text");
  document.title = JSON.stringify({{
    wide: page.documentElement.scrollWidth, ink: style(page.body).color,
    ground: style(page.body).backgroundColor, plot: plot.getBoundingClientRect().width,
    axis: style(text).fill, letters: text.getBoundingClientRect().height,
    loaded: page.defaultView.performance.getEntriesByType("resource").length,
  }});
}});</script>"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (chromium, chrome) on the path"),
]


@pytest.fixture(scope="module")
def page(tiny_data, tmp_path_factory):
    """The path of a page about a model that has all there is to show."""
    pytest.importorskip("matplotlib")
    from finetune.report.write import write_report

    folder = copy_data(tiny_data, tmp_path_factory.mktemp("browser"))
    model_dir = write_pretrained(folder, warnings=["a" * 300])
    write_scores(folder, classes=[f"class {number} of many" for number in range(12)])
    return write_report(str(model_dir))


@pytest.fixture
def browse(tmp_path):
    """Opens a page and returns what Chromium printed; it keeps its own files in a new folder."""

    def open_page(path, *flags):
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        command = [CHROMIUM, *QUIET, profile, *flags, f"file://{path}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert "CONSOLE" not in done.stderr, done.stderr
        return done.stdout

    return open_page


def brightness(color):
    """Of an rgb(…), from 0 to 255."""
    return sum(map(float, color.split("(")[1].rstrip(")").split(",")[:3])) / 3


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1200, 390], ids=["desk", "phone"])
def test_it_fits_and_can_be_read(page, browse, tmp_path, width, scheme):
    probe = tmp_path / "probe.html"
    with open(page, encoding="utf-8") as file:
        probe.write_text(PROBE.format(width=width, page=html.escape(file.read())), "utf-8")
    shown = browse(probe, scheme, "--window-size=1300,900", "--dump-dom")
    found = json.loads(re.search(r"<title>(.*?)</title>", shown)[1])
    assert found["wide"] == width  # nothing to scroll sideways
    assert found["loaded"] == 0 and found["plot"] > 280 and found["letters"] > 9
    ink, ground = brightness(found["ink"]), brightness(found["ground"])
    assert (ink > 200 and ground < 50) if scheme == DARK else (ink < 60 and ground > 230)
    assert found["axis"] == found["ink"]


def test_a_picture_of_it(page, browse, tmp_path):
    picture = tmp_path / "page.png"
    browse(page, "--window-size=390,844", f"--screenshot={picture}")
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 20_000
