"""What a task may say of its model's head and of tuning, and what it is told of mistakes."""

import pytest
import yaml

from regard.errors import TaskError
from regard.tasks import load_task

ROWS = {"data": {"path": "rows.jsonl"}}
PRETRAINED = {"model": {"pretrained": "some"}}
POOLED = "one vector of a text, and tagging needs one of each token; delete it"


def write(folder, kind="classification", **parts):
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump({"task": kind, **ROWS, **parts}), encoding="utf-8")
    return path


def test_layers_of_a_head_have_their_defaults(tmp_path):
    layers = [{"layer": "convolution", "kernel": 5}, {"layer": "attention", "width": 8}]
    task = load_task(write(tmp_path, model={"head": layers}))
    assert [one.model_dump() for one in task.model.head] == [
        {"layer": "convolution", "kernel": 5, "width": 128, "activation": "relu"},
        {"layer": "attention", "width": 8},
    ]


WRONG = [
    ("classification", {"model": {"head": [{"layer": "lnear"}]}},
     r"model\.head\.0: there is no layer 'lnear'; did you mean 'linear'\? known: attention, c"),
    ("classification", {"model": {"head": [{"width": 3}]}}, r"model\.head\.0: layer is missing"),
    ("classification", {"model": {"head": [{"layer": "linear", "widht": 3}]}},
     r"model\.head\.0\.linear\.widht is not a setting; did you mean 'width'\? known: activation, "),
    ("classification", {"model": {"head": [{"layer": "convolution", "kernel": 4}]}},
     r"a kernel reads as far to either side, so it is odd; found 4"),
    ("classification", {"model": {"head": [{"layer": "attention"}, {"layer": "recurrent"}]}},
     r"model: head: the recurrent layer after attention reads tokens, of which attention has made"),
    ("classification", {"model": {"head": [{"layer": "attention"}], "pooling": "max"}},
     r"model: the attention layer of head pools a text already; delete pooling: max"),
    ("classification", {"model": {"pooling": "best"}}, r"model\.pooling: should be 'mean', "),
    ("tagging", {"model": {"pooling": "max"}}, r"model\.pooling makes " + POOLED),
    ("tagging", {"model": {"head": [{"layer": "attention"}]}},
     r"model\.head: the attention layer makes " + POOLED),
    ("translation", {"model": {"head": [{"layer": "linear"}]}},
     r"model\.head: translation has no such thing; delete it"),
    ("translation", {"model": {"pooling": "max"}},
     r"model\.pooling: translation has no such thing; delete it"),
    ("classification", {"tuning": {"method": "lora"}},
     r"tuning\.method: lora keeps most weights as they are, and those of a new model are random; "
     r"give model\.pretrained, or delete tuning"),
    ("classification", {"tuning": {"method": "lorra"}, **PRETRAINED},
     r"tuning\.method: should be 'full', 'head_only', 'lora'"),
    ("classification", {"tuning": {"rank": 4}, **PRETRAINED},
     r"tuning: rank means nothing to method full, which takes no other setting"),
    ("classification", {"tuning": {"method": "houlsby", "targets": ["k"]}, **PRETRAINED},
     r"tuning: targets means nothing to method houlsby, which takes width"),
    ("classification", {"tuning": {"method": "lora", "rank": 0}, **PRETRAINED},
     r"tuning\.rank: should be greater than or equal to 1, found 0"),
    ("classification",
     {"tuning": {"method": "lora", "heads": {"encoder": [[0, 1]]}, "targets": ["dense"]},
      **PRETRAINED},
     r"tuning: heads are parts of q, k, v and o; 'dense' of targets has none"),
    ("classification",
     {"tuning": {"method": "lora", "heads": {"encoder": [[0, 1]]}, "layers": [0]}, **PRETRAINED},
     r"tuning: heads name their layers themselves; delete layers"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "parts", "message"), WRONG)
def test_mistake_is_named_with_what_to_do(tmp_path, kind, parts, message):
    with pytest.raises(TaskError, match=message):
        load_task(write(tmp_path, kind, **parts))
