import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

import regard as rg
from regard.view import (
    Alignment,
    Role,
    RunRecord,
    draw,
    draw_alignment,
    render_report,
    write_report,
)
from regard.view.curve import draw_curves
from regard.view.page import escape, number
from tests.view import samples

VOID = {"meta", "img", "link", "br", "hr"}
NASTY = """<script>alert("1")</script> & 'quoted' </pre>"""
STYLE = Path(rg.view.__file__).with_name("page.css").read_text(encoding="utf-8")


class Page(HTMLParser):
    """Collects elements, text by element, and complains about what is not closed in order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.open, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, *tags):
        return [attributes for tag, attributes in self.elements if tag in tags]

    def said(self, *tags):
        return [text for tag, text in self.texts if tag in tags]


def full_record(text="Close the window"):
    alignment = draw_alignment([[0.2, 0.8], [1.0, 0.0]], ["▁a", "▁b"], ["▁c", "▁d"])
    return RunRecord(
        title=f"English to French: {text}",
        summary=f"Twice the same model. {text}",
        roles=[
            Role("encoder self", text, samples.alibi.formula()),
            Role("cross", "additive", samples.additive.formula(), draw(samples.additive, 4)),
        ],
        settings={"data": {"file": text, "pairs": 12800}, "seeds": [1, 2], "resume": None},
        metrics=[
            {"name": "copying the source", "BLEU": 3.2, "chrF": 21, "parameters": None},
            {"name": text, "BLEU": 14.92, "chrF": 40.06, "parameters": 5124002},
        ],
        curves={"plain": [(1, 9.0, 0.5), (2, 8.0, 1.0)], text: [(1, 9.0, 0.5), (2, 4.0, 200.0)]},
        samples=[{"source": text, "reference": "Fermer", "plain": "Fermer", "other": "Fermez"}],
        alignments=[Alignment(text, alignment)],
        environment={"machine": "2 cores", "date": "2026-01-01", "note": text},
        command=f"regard train task.yaml # {text}",
    )


def page_of(record):
    return Page(render_report(record))


@pytest.fixture(scope="module")
def page():
    return page_of(full_record())


def test_report_is_written_as_one_file(tmp_path):
    write_report(full_record(), tmp_path / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert Page((tmp_path / "report.html").read_text(encoding="utf-8")).all("h1")


def test_all_parts_are_there_and_linked(page):
    titles = [
        "Results", "Samples", "Attention programs", "Alignments", "Training", "Settings",
        "Environment", "Made by",
    ]  # fmt: skip
    assert page.said("h2") == titles
    targets = {attributes["id"] for attributes in page.all("h2")}
    assert {link["href"].removeprefix("#") for link in page.all("a")} == targets


def test_empty_parts_are_left_out():
    page = page_of(RunRecord("Nothing yet"))
    assert page.said("h1") == ["Nothing yet"]
    assert page.all("h2", "nav", "table", "img", "svg") == []


def test_text_is_escaped_wherever_it_comes_from():
    html = render_report(full_record(NASTY))
    page = Page(html)
    assert page.all("script") == [] and "<script" not in html
    assert sum(NASTY in text for _, text in page.texts) >= 10
    assert any(NASTY in attributes["alt"] for attributes in page.all("img"))


def test_characters_that_no_page_may_hold_are_replaced():
    assert escape("a\x00b\ud800c\td") == "a�b�c\td"


def test_page_loads_nothing_and_runs_nothing(page):
    html = render_report(full_record())
    assert page.all("link", "iframe", "object") == []
    assert all(image["src"].startswith("data:image/png;base64,") for image in page.all("img"))
    assert not re.search(r"https?://|@import|url\(", html)
    (policy,) = [m["content"] for m in page.all("meta") if "http-equiv" in m]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_page_speaks_to_those_who_do_not_see_it(page):
    (root,) = page.all("html")
    assert root["lang"] == "en"
    assert len(page.all("img")) == 2 and all(image["alt"] for image in page.all("img"))
    assert all(cell["scope"] in ("row", "col") for cell in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table")) == 3
    assert [attributes["role"] for attributes in page.all("svg")] == ["img"]
    assert any("loss 9.00 to 4.00 in 2 steps" in text for text in page.said("desc"))


def luminance(colour):
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(share * c for share, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(a, b):
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_stands_out_from_its_background(scheme):
    block = STYLE.split(":root {")[1 + scheme]
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block.split("}")[0]))
    for name in ("ink", "quiet", "accent", "line0", "line1", "line2", "line3"):
        assert contrast(colours[name], colours["paper"]) >= 4.5, name
    assert contrast(colours["ink"], colours["shade"]) >= 7
    assert contrast(colours["ink"], colours["bar"]) >= 7


def test_page_follows_the_scheme_and_prints():
    assert "@media (prefers-color-scheme: dark)" in STYLE and "@media print" in STYLE


def test_best_result_is_marked_for_eyes_and_ears(page):
    html = render_report(full_record())
    assert '<td class="number best bar" style="--share: 100.0%">14.92' in html
    assert '<td class="number bar" style="--share: 21.4%">3.20' in html
    assert page.said("span").count(" (best)") == 2
    # More parameters are not better.
    assert '<td class="number">5,124,002</td>' in html and '<td class="number">–</td>' in html


def test_translation_like_the_reference_is_marked():
    assert render_report(full_record()).count("✓ as the reference") == 1


def test_nested_settings_are_written_with_dots(page):
    assert {"data.file", "data.pairs", "seeds", "resume"} <= set(page.said("th"))
    assert {"12800", "1, 2", "–"} <= set(page.said("td"))


def test_pictures_may_be_files_or_bytes(tmp_path):
    draw(samples.causal, 4, path=tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    pictures = [tmp_path / "a.png", str(tmp_path / "a.png"), data]
    page = page_of(RunRecord("Run", alignments=[Alignment("a", picture) for picture in pictures]))
    assert len({image["src"] for image in page.all("img")}) == 1


@pytest.mark.parametrize(
    ("picture", "error", "message"),
    [
        ("missing.png", rg.FileError, "missing.png: no such file"),
        (b"<svg/>", rg.FileError, "a picture is no PNG"),
        (3, rg.InputError, "a picture must be a figure, a path or the bytes of a PNG, not 3"),
    ],
)
def test_what_is_no_picture_is_an_error(picture, error, message):
    with pytest.raises(error, match=message):
        render_report(RunRecord("Run", alignments=[Alignment("a", picture)]))


def test_report_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(rg.FileError, match="no such file"):
        write_report(RunRecord("Run"), tmp_path / "missing" / "report.html")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (12345, "12,345"), (14.916, "14.92"), (0.0, "0.00"), (0.00071, "0.00071"),
        (23456.7, "23,457"), (float("nan"), "–"), (None, "–"), (True, "True"), ("3+3", "3+3"),
    ],
)  # fmt: skip
def test_numbers_are_shown_short(value, shown):
    assert number(value) == shown


def svg_of(**curves):
    return ElementTree.fromstring(draw_curves(curves))


def test_curve_goes_down_as_the_loss_does():
    svg = svg_of(run=[(step, 10.0 - step / 100, step / 10.0) for step in range(0, 1000, 10)])
    (line,) = svg.iter("polyline")
    places = [tuple(map(float, place.split(","))) for place in line.get("points").split()]
    assert len(places) == 100
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(places))


def test_curves_differ_by_more_than_colour():
    points = [(1, 3.0, 1.0), (2, 2.0, 2.0)]
    svg = svg_of(a=points, b=points, c=points)
    lines = [(line.get("class"), line.get("stroke-dasharray")) for line in svg.iter("polyline")]
    assert lines == [("line line0", None), ("line line1", "7 4"), ("line line2", "2 3")]
    labels = [float(text.get("y")) for text in svg.iter("text") if "name" in text.get("class")]
    assert sorted(b - a for a, b in pairwise(labels)) == [16.0, 16.0]


def test_long_curve_is_thinned_and_keeps_its_end():
    points = [(step, 1.0 / (step + 1), 0.1 * step) for step in range(100_000)]
    (line,) = svg_of(run=points).iter("polyline")
    assert len(line.get("points").split()) <= 400
    assert len(draw_curves({"run": points})) < 12_000


@pytest.mark.parametrize("points", [[], [(1, 2.0, 3.0)], [(1, float("nan"), 1.0)] * 5])
def test_curve_of_less_than_two_points_is_left_out(points):
    assert draw_curves({"run": points}) == ""
    assert render_report(RunRecord("Run", curves={"run": points})).count("<svg") == 0


def test_report_needs_no_matplotlib_and_pictures_say_that_they_do(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "sys.modules['matplotlib'] = None\n"
        "import regard as rg\n"
        "assert 'Run' in rg.view.render_report(rg.view.RunRecord('Run'))\n"
        "try:\n"
        "    rg.draw\n"
        "except rg.UnsupportedError as problem:\n"
        "    print(problem)\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120
    )
    message = "draw needs matplotlib; install it with: pip install 'regard[view]'\n"
    assert (done.stdout, done.stderr) == (message, "")


def test_room_lists_what_it_offers():
    assert {"draw", "draw_alignment", "RunRecord", "write_report"} <= set(dir(rg.view))
    with pytest.raises(AttributeError, match=r"'regard.view' has no attribute 'drawn'"):
        _ = rg.view.drawn
