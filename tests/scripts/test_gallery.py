"""docs/catalogue is what scripts/gallery.py writes, so that no page goes stale."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import regard as rg
from regard.catalogue import FAMILIES, VARIANTS
from regard.catalogue.absent import ABSENT

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "catalogue"
MODULES = ("gallery", "gallery_code", "gallery_pictures", "scenes")


@pytest.fixture(scope="module")
def gallery():
    """The script, imported as a module, with what stands beside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "scripts")
        yield {name: importlib.import_module(name) for name in MODULES}
        for name in MODULES:
            sys.modules.pop(name, None)


def test_committed_pages_are_those_of_the_script(gallery):
    pages = gallery["gallery"].pages()
    assert sorted(pages) == sorted(FOLDER.glob("*.md"))
    stale = [path.name for path, text in pages.items() if path.read_text("utf-8") != text]
    assert stale == [], "run: python scripts/gallery.py"


def test_every_variant_has_its_pictures_and_nobody_else():
    for folder in (FOLDER / "images", FOLDER / "images" / "small"):
        drawn = {path.stem: path for path in folder.glob("*.png")}
        assert set(drawn) == set(VARIANTS), "run: python scripts/gallery.py"
        assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn.values())
    assert sum(path.stat().st_size for path in FOLDER.rglob("*.png")) < 3_500_000


@pytest.mark.parametrize("name", ["scaled_dot_product", "sliding_window", "alibi"])
def test_pictures_are_drawn_alike_each_time(gallery, name, tmp_path):
    from PIL import Image

    gallery["gallery_pictures"].write_pictures(VARIANTS[name], tmp_path)
    for path in (f"{name}.png", f"small/{name}.png"):
        committed, drawn = (
            np.asarray(Image.open(folder / path).convert("RGB"), dtype=float)
            for folder in (FOLDER / "images", tmp_path)
        )
        assert committed.shape == drawn.shape
        # Another machine may round a number to the next shade.
        assert np.abs(committed - drawn).mean() < 0.5


def test_scenes_are_of_variants_and_turn_knobs_that_they_have(gallery):
    scenes = gallery["scenes"]
    for table in (scenes.SCENES, {name: None for name in scenes._LARGE_KNOBS}):
        assert set(table) <= set(VARIANTS)
    for one in VARIANTS.values():
        for scene in (scenes.scene_of(one), scenes.large_scene(one)):
            assert set(scene.knobs) <= set(one.knobs), one.name


def test_page_shows_code_that_gives_the_program(gallery):
    for family in FAMILIES:
        own = [one for one in VARIANTS.values() if one.family == family]
        names: dict[str, object] = {}
        exec(gallery["gallery_code"].shared_code(own), names)
        for one in own:
            exec(one.code, names)
            assert rg.program(names[one.name]).root == one(**one.knobs).root, one.name


def test_index_names_all_variants_and_what_is_absent(gallery):
    index = gallery["gallery"].pages()[FOLDER / "index.md"]
    for one in VARIANTS.values():
        assert f"[{one.name}]({one.family}.md#{one.name})" in index
    assert all(one.link in index for one in ABSENT)


ROW = {
    "knobs": {},
    "times": {"cpu": {"forward": 1.234, "forward + backward": 2.5}},
    "refused": {},
}


def test_cost_is_shown_while_it_is_of_the_program(gallery):
    one = VARIANTS["scaled_dot_product"]
    told = gallery["gallery"]._cost
    row = {**ROW, "hash": one.program.hash}
    assert told(one, {"rows": {one.name: row}}) == (
        "1.2 × forward, 2.5 × forward + backward, on `cpu`"
    )
    refused = {**row, "times": {"tiled": row["times"]["cpu"]}, "refused": {"cpu": "it is odd"}}
    assert told(one, {"rows": {one.name: refused}}).endswith("on `tiled`; not on `cpu`: it is odd")
    assert told(one, {"rows": {one.name: {**row, "hash": "another"}}}) == "not measured"
    assert told(one, {}) == "not measured"


def test_cost_says_which_knobs_were_set(gallery):
    one = VARIANTS["sliding_window"]
    row = {**ROW, "knobs": {"window": 256}, "hash": one(window=256).hash}
    assert gallery["gallery"]._cost(one, {"rows": {one.name: row}}).endswith("(with window = 256)")


def test_figures_that_are_kept_are_read(gallery, tmp_path, monkeypatch):
    monkeypatch.setattr(gallery["gallery"], "MEASURED", tmp_path / "catalogue.json")
    assert gallery["gallery"].read_measured() == {}
    (tmp_path / "catalogue.json").write_text(json.dumps({"rows": {}}))
    assert gallery["gallery"].read_measured() == {"rows": {}}
