"""The pictures of the gallery: each variant as `rg.draw` draws it, and a thumbnail of one map.

Leaves to others: what is drawn (`scenes`), the pages (`gallery`).
"""

import io
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image
from scenes import Scene, inputs_of, scene_of, speaks_of_contents
from torch import Tensor

from regard.catalogue.variant import Variant
from regard.ir.program import AttentionProgram
from regard.view import picture, style
from regard.view.imagine import choose_heads, curve
from regard.view.parts import Part, Parts, find_parts
from regard.view.sheet import Sheet, draw_map

_DPI, _COLOURS = 140, 200
_THUMBNAIL = 0.5
# Wide enough to see how heads differ: four of them fill the page.
_HEADS = 4


def write_pictures(variant: Variant, folder: Path) -> None:
    """Draw a variant, large and small.

    Args:
        variant: The variant.
        folder: Where NAME.png is written, and small/NAME.png.
    """
    (folder / "small").mkdir(parents=True, exist_ok=True)
    _write(draw(variant), folder / f"{variant.name}.png")
    _write(draw_thumbnail(variant), folder / "small" / f"{variant.name}.png")


def draw(variant: Variant) -> Figure:
    """Return the picture of a variant with the knobs of its scene.

    Args:
        variant: The variant.

    Returns:
        The figure.
    """
    program, scene, inputs = _call(variant)
    return picture.draw(program, scene.rows, heads=scene.many, width=scene.width, inputs=inputs)


def draw_thumbnail(variant: Variant) -> Figure:
    """Return one map of a variant: what tells it apart most.

    Args:
        variant: The variant.

    Returns:
        The figure, half an inch wide.
    """
    program, scene, inputs = _call(variant)
    rows = scene.rows
    parts = find_parts(program, rows, rows, scene.many, scene.width, inputs)
    part = _telling(parts, variant.family)
    sheet = Sheet(_THUMBNAIL, _THUMBNAIL)
    block = picture.block_of(part, parts.contents)
    # The frame needs a little room on all sides.
    side = _THUMBNAIL - 0.02
    axes = sheet.axes(0.01, 0.01, side, side)
    head = min(1, len(part.values) - 1)
    draw_map(axes, part.values[head], part.hidden[head], block.cmap, block.norm, variant.name)
    for spine in axes.spines.values():
        spine.set(linewidth=0.5, color=style.LINE)
    return sheet.figure


def _telling(parts: Parts, family: str) -> Part:
    """Return the mask of a mask, else what is added to scores, else the weights."""
    wanted = ["mask"] if family == "mask" else []
    # The scores of equal tokens are nearly the same all over the map.
    wanted += ["bias"] if parts.contents in ("none", "beside") else []
    found = [part for kind in wanted for part in parts.of(kind)]
    return [*found, *parts.of("weights")][0]


def _call(variant: Variant) -> tuple[AttentionProgram, Scene, dict[str, Tensor]]:
    """Return the program, the sizes with their heads, and the inputs of a picture."""
    scene = scene_of(variant)
    program = variant(**scene.knobs)
    heads = scene.heads or min(choose_heads(program, {}), _HEADS)
    if speaks_of_contents(variant, scene):
        heads = scene.heads or 1
    scene = Scene(**{**vars(scene), "heads": heads})
    inputs = inputs_of(program, scene)
    if speaks_of_contents(variant, scene):
        rows = curve(scene.rows, scene.width).expand(1, heads, -1, -1)
        inputs |= {name: rows for name in ("q", "k") if program_reads(program, name)}
    return program, scene, inputs


def program_reads(program: AttentionProgram, name: str) -> bool:
    """Tell whether a program reads an input of that name."""
    return any(leaf.name == name for leaf in program.inputs)


def _write(figure: Figure, path: Path) -> None:
    """Write a figure with few colours, which a map needs, so that the file is small."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=_DPI)
    image = Image.open(drawn).convert("RGB")
    image.quantize(_COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
