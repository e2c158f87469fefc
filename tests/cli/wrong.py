"""Ways to be wrong beyond task files and data (`test_data`): what is spoiled, and what is said.

Each is tried on a copy of a small world: `colours.yaml` and its rows, a finished run `run`, the
same with another seed `other`, a run `begun` that stopped after six of twelve steps, a finished
run `tagged` of another kind, a pretrained model's folder `base`, and a begun study `study`.
"""

import json
import os
import pickle
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

MODEL, TOKENS = "model.safetensors", "tokenizer.json"
TRAIN = ("train", "colours.yaml")
AGAIN = ("train", "colours.yaml", "--run", "begun", "--resume")
TUNED = ("train", "tuned.yaml", "--run", "new")
LAST = "begun/checkpoints/checkpoint-4"


@dataclass(frozen=True)
class Wrong:
    """A way to be wrong.

    Attributes:
        words: The command, with names of the small world.
        message: What the answer says, `{}` for the folder of the small world.
        spoil: Makes it wrong, given the folder.
    """

    words: tuple[str, ...]
    message: str
    spoil: Callable[[Path], object] = lambda world: None


class Bomb:
    """A pickle that leaves a mark when it is read by what runs code."""

    def __reduce__(self):
        return os.mkdir, ("exploded",)


def lose(name):
    def spoil(world):
        path = world / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return spoil


def put(name, text):
    data = text if isinstance(text, bytes) else text.encode()

    def spoil(world):
        (world / name).parent.mkdir(parents=True, exist_ok=True)
        (world / name).write_bytes(data)

    return spoil


def cut(name, share=0.5):
    def spoil(world):
        data = (world / name).read_bytes()
        (world / name).write_bytes(data[: int(share * len(data))])

    return spoil


def sub(name, old, new):
    def spoil(world):
        text = (world / name).read_text(encoding="utf-8")
        changed = re.sub(old, new, text, count=1)
        assert changed != text
        (world / name).write_text(changed, encoding="utf-8")

    return spoil


def settle(name, **values):
    def spoil(world):
        found = json.loads((world / name).read_text(encoding="utf-8"))
        (world / name).write_text(json.dumps({**found, **values}), encoding="utf-8")

    return spoil


def become(name, other):
    def spoil(world):
        lose(name)(world) if (world / name).exists() else None
        source = world / other
        (shutil.copytree if source.is_dir() else shutil.copy)(source, world / name)

    return spoil


def weigh(name, change):
    """Change the tensors of a file."""

    def spoil(world):
        tensors = load_file(world / name)
        change(tensors)
        save_file(tensors, world / name, {"format": "pt"})

    return spoil


def nan(tensors):
    next(iter(tensors.values())).view(-1)[3] = float("nan")


def widen(tensors):
    name = min(tensors)
    tensors[name] = torch.cat([tensors[name], tensors[name]])


def drop(tensors):
    del tensors[min(tensors)]


def bomb(name):
    return put(name, pickle.dumps(Bomb()))


def arm(name):
    """A file of torch's own form whose pickle runs code."""

    def spoil(world):
        torch.save({"state": Bomb()}, world / name)

    return spoil


def scored(world, line):
    rows = "".join(
        json.dumps({"first": f"a {n}", "second": "b", "score": n}) + "\n" for n in range(8)
    )
    put("scores.jsonl", rows + line + "\n")(world)
    put("scored.yaml", "task: pairs\ndata: {path: scores.jsonl, columns: {score: score}}\n")(world)


def beyond(world):
    settle(f"{LAST}/trainer_state.json", global_step=40)(world)
    shutil.move(world / LAST, world / "begun/checkpoints/checkpoint-40")


def reshape(path):
    state = torch.load(path, weights_only=True)
    for one in state["state"].values():
        for name, value in one.items():
            if value.dim():
                one[name] = torch.cat([value, value])
    torch.save(state, path)


RUNS = {
    "no run": Wrong(("evaluate", "none"), "none: there is no run here; it would hold a task.yaml"),
    "run that is a file": Wrong(("evaluate", "colours.yaml"), "colours.yaml: there is no run here"),
    "no task file": Wrong(("predict", "run", "rows.jsonl"), "no run here", lose("run/task.yaml")),
    "run that has not finished": Wrong(
        ("evaluate", "begun"), "begun: this run is not finished; continue it with --resume"
    ),
    "task file of another version": Wrong(
        ("evaluate", "run"),
        "run/task.yaml, line 2: mood is not a setting; did you mean 'mode'?",
        sub("run/task.yaml", "\n", "\nmood: 3\n"),
    ),
    "no model": Wrong(
        ("evaluate", "run"),
        "run: the folder model of its model is gone; put it back, or",
        lose("run/model"),
    ),
    "model without configuration": Wrong(
        ("evaluate", "run"), "run/model: no config.json; is this", lose("run/model/config.json")
    ),
    "configuration that was cut off": Wrong(
        ("evaluate", "run"), "run/model/config.json: ", cut("run/model/config.json")
    ),
    "labels that are lost": Wrong(
        ("predict", "run", "rows.jsonl"),
        "run/model/config.json: id2label names 0 labels, and the model has 3 outputs; put",
        settle("run/model/config.json", id2label={}),
    ),
    "no weights": Wrong(
        ("predict", "run", "rows.jsonl"),
        "run/model: no model.safetensors and no",
        lose(f"run/model/{MODEL}"),
    ),
    "weights that were cut off": Wrong(
        ("evaluate", "run"), f"run/model/{MODEL}: ", cut(f"run/model/{MODEL}")
    ),
    "weights of another model": Wrong(
        ("evaluate", "run"), f"run/model/{MODEL}: ", become(f"run/model/{MODEL}", f"base/{MODEL}")
    ),
    "weights of another shape": Wrong(
        ("evaluate", "run"), f"run/model/{MODEL}: ", weigh(f"run/model/{MODEL}", widen)
    ),
    "weights that hold NaN": Wrong(
        ("evaluate", "run"),
        "encoder.embeddings.LayerNorm.bias holds NaN, so the model can answer nothing",
        weigh(f"run/model/{MODEL}", nan),
    ),
    "weights that are a pickle": Wrong(
        ("evaluate", "run"),
        "pytorch_model.bin is a pickle, which can run code and is not read",
        lambda world: (
            lose(f"run/model/{MODEL}")(world),
            bomb("run/model/pytorch_model.bin")(world),
        ),
    ),
    "no mode": Wrong(
        ("evaluate", "run"),
        "run/model: no mode.json, and config.json says that",
        lose("run/model/mode.json"),
    ),
    "mode that was cut off": Wrong(
        ("evaluate", "run"), "run/model/mode.json: ", cut("run/model/mode.json")
    ),
    "mode that lies": Wrong(
        ("evaluate", "run"),
        "run/model/mode.json: this is mode 'task', sha256:",
        become("run/model/mode.json", "alibi.json"),
    ),
    "mode of a model without one": Wrong(
        ("evaluate", "tagged"),
        "model/mode.json: config.json does not say",
        become("tagged/model/mode.json", "alibi.json"),
    ),
    "no tokenizer": Wrong(
        ("evaluate", "run"), "run/model: no tokenizer.json", lose(f"run/model/{TOKENS}")
    ),
    "tokenizer that was cut off": Wrong(
        ("evaluate", "run"), "run/model: the tokenizer does not load", cut(f"run/model/{TOKENS}")
    ),
    "data that have changed": Wrong(
        ("evaluate", "run"), "rows.jsonl: the data have changed", sub("rows.jsonl", "the", "our")
    ),
    "data that are gone": Wrong(
        ("evaluate", "run"), "rows.jsonl: there is no such file", lose("rows.jsonl")
    ),
    "scores that were cut off": Wrong(
        ("compare", "run", "other"), "run/metrics.json: this is not JSON (", cut("run/metrics.json")
    ),
    "scores that are no object": Wrong(
        ("compare", "run", "other"),
        "run/metrics.json: this is no JSON object but list",
        put("run/metrics.json", "[]"),
    ),
    "run of a version that kept no answers": Wrong(
        ("compare", "run", "other"),
        "run: this run is of a version that kept no answers; train it anew",
        settle("run/metrics.json", measured=None),
    ),
    "no answers": Wrong(
        ("compare", "run", "other"),
        "run: there is no records.jsonl, so its answers are lost",
        lose("run/records.jsonl"),
    ),
    "answers that were cut off": Wrong(
        ("compare", "run", "other"), "run/records.jsonl, line ", cut("run/records.jsonl")
    ),
    "answers with a line less": Wrong(
        ("compare", "run", "other"),
        "run/records.jsonl: these 8 examples are not those that were scored",
        sub("run/records.jsonl", ".*\n", ""),
    ),
    "answers that are no text": Wrong(
        ("compare", "run", "other"),
        "run/records.jsonl: byte 1 is not UTF-8",
        put("run/records.jsonl", b"\xff\n"),
    ),
    "answer without its question": Wrong(
        ("compare", "run", "other"),
        "run/records.jsonl, line 1: record 1 has no 'input'; did you mean 'inptu'?",
        sub("run/records.jsonl", '"input"', '"inptu"'),
    ),
    "runs of different kinds": Wrong(
        ("compare", "run", "tagged"), "tagged: the task is tagging, that of run is classification"
    ),
    "one run alone": Wrong(("compare", "run"), "one run has nothing to be compared with"),
    "one run twice": Wrong(("compare", "run", "./run"), "this run is given twice"),
    "rows that are not there": Wrong(
        ("predict", "run", "none.jsonl"), "none.jsonl: there is no such file"
    ),
    "rows of an unknown kind": Wrong(
        ("predict", "run", "rows.xlsx"), "rows.xlsx: the name should end in", put("rows.xlsx", "")
    ),
    "rows without what is asked": Wrong(
        ("predict", "run", "b.jsonl"),
        "b.jsonl, line 1: there is no key 'text'",
        put("b.jsonl", '{"texts": "a"}\n'),
    ),
    "row longer than the model reads": Wrong(
        ("predict", "tagged", "b.jsonl"),
        "b.jsonl, line 1: 100 tokens, but the model reads at most 24; shorten the text",
        put("b.jsonl", json.dumps({"tokens": ["red"] * 99})),
    ),
    "other rows without labels": Wrong(
        ("evaluate", "run", "--data", "b.jsonl"),
        "b.jsonl, line 1: there is no key 'label'",
        put("b.jsonl", '{"text": "a"}\n'),
    ),
    "unknown label in other rows": Wrong(
        ("evaluate", "run", "--data", "b.jsonl"),
        "b.jsonl, line 1: the label 'grene' is not among those of the model; did you mean",
        put("b.jsonl", '{"text": "a", "label": "grene"}\n'),
    ),
    "texts for a run that does not translate": Wrong(
        ("translate", "run", "a"), "run: this run is of the kind classification; use"
    ),
}
BEGUN = {
    "folder that is taken": Wrong(
        (*TRAIN, "--run", "run"), "run: the folder is not empty, it holds"
    ),
    "folder that is a file": Wrong(
        (*TRAIN, "--run", "rows.jsonl"), "rows.jsonl: this is a file; a run needs a folder"
    ),
    "folder inside a file": Wrong(
        (*TRAIN, "--run", "rows.jsonl/run"),
        "rows.jsonl/run/model: Not a directory; there is a file where a folder belongs",
    ),
    "nothing to go on with": Wrong(
        (*TRAIN, "--run", "none", "--resume"), "none: there is no run here"
    ),
    "run that has finished": Wrong(
        (*TRAIN, "--run", "run", "--resume"),
        "run: this run is finished; its scores are in metrics.json",
    ),
    "other settings": Wrong(
        (*AGAIN, "training.lr=0.5"),
        "begun: the task has changed since this run began: training.lr was",
    ),
    "other data": Wrong(AGAIN, "data.sha256 was", sub("rows.jsonl", "the", "our")),
    "other mode": Wrong((*AGAIN, "mode={encoder: alibi}"), "the programs of its mode are others"),
    "mode of a begun run that was cut off": Wrong(
        AGAIN, "begun/model/mode.json: ", put("begun/model/mode.json", "{")
    ),
    "checkpoint without files": Wrong(
        AGAIN,
        "checkpoint-4: there is no model.safetensors; delete this checkpoint",
        lambda world: [one.unlink() for one in (world / LAST).iterdir() if one.name != "whole"],
    ),
    "checkpoint without weights": Wrong(
        AGAIN,
        "checkpoint-4: there is no model.safetensors; delete this checkpoint",
        lose(f"{LAST}/{MODEL}"),
    ),
    "checkpoint whose weights were cut off": Wrong(
        AGAIN, "checkpoint-4/model.safetensors: it cannot be read (", cut(f"{LAST}/{MODEL}")
    ),
    "checkpoint that lacks weights": Wrong(
        AGAIN,
        "checkpoint-4: it is of another model: it lacks encoder.embeddings.LayerNorm.bias; delete",
        weigh(f"{LAST}/{MODEL}", drop),
    ),
    "checkpoint of another model": Wrong(
        AGAIN,
        "checkpoint-4: it is of another model: it lacks encoder.embeddings.LayerNorm.bias; delete",
        become(f"{LAST}/{MODEL}", f"base/{MODEL}"),
    ),
    "checkpoint with weights of another shape": Wrong(
        AGAIN,
        "checkpoint-4: it cannot be read (Error(s) in loading state_dict",
        weigh(f"{LAST}/{MODEL}", widen),
    ),
    "checkpoint whose weights hold NaN": Wrong(
        AGAIN,
        "checkpoint-4: encoder.embeddings.LayerNorm.bias holds NaN or infinity; delete",
        weigh(f"{LAST}/{MODEL}", nan),
    ),
    "checkpoint without an optimiser": Wrong(
        AGAIN, "checkpoint-4: there is no optimizer.pt; delete", lose(f"{LAST}/optimizer.pt")
    ),
    "optimiser that was cut off": Wrong(
        AGAIN,
        "checkpoint-4/optimizer.pt: it was cut off, or torch did not write it",
        cut(f"{LAST}/optimizer.pt"),
    ),
    "optimiser of another model": Wrong(
        AGAIN,
        "checkpoint-4: it cannot be read (loaded state dict has a different number of",
        lambda world: torch.save({"state": {}, "param_groups": []}, world / LAST / "optimizer.pt"),
    ),
    "optimiser whose numbers are of another shape": Wrong(
        AGAIN,
        "checkpoint-4: optimizer.pt is of another model: its exp_avg of a weight of shape",
        lambda world: reshape(world / LAST / "optimizer.pt"),
    ),
    "optimiser that would run code": Wrong(
        AGAIN,
        "checkpoint-4/optimizer.pt: it holds more than numbers, which could be code and",
        arm(f"{LAST}/optimizer.pt"),
    ),
    "optimiser that is another pickle": Wrong(
        AGAIN,
        "checkpoint-4/optimizer.pt: it was cut off, or torch did not write it",
        bomb(f"{LAST}/optimizer.pt"),
    ),
    "schedule that would run code": Wrong(
        AGAIN,
        "checkpoint-4/scheduler.pt: it holds more than numbers, which could be code and",
        arm(f"{LAST}/scheduler.pt"),
    ),
    "no state of random numbers": Wrong(
        AGAIN, "checkpoint-4: there is no rng_state.pth; delete", lose(f"{LAST}/rng_state.pth")
    ),
    "state of random numbers that would run code": Wrong(
        AGAIN,
        "checkpoint-4/rng_state.pth: it holds more than numbers, which could be code and",
        arm(f"{LAST}/rng_state.pth"),
    ),
    "state of random numbers of another kind": Wrong(
        AGAIN,
        "checkpoint-4: it cannot be read (",
        lambda world: torch.save({"python": 3}, world / LAST / "rng_state.pth"),
    ),
    "no state of the trainer": Wrong(
        AGAIN,
        "checkpoint-4: there is no trainer_state.json; delete",
        lose(f"{LAST}/trainer_state.json"),
    ),
    "state of the trainer that was cut off": Wrong(
        AGAIN,
        "checkpoint-4/trainer_state.json: this is not JSON (",
        cut(f"{LAST}/trainer_state.json"),
    ),
    "state of the trainer that is no object": Wrong(
        AGAIN,
        "checkpoint-4/trainer_state.json: this is no JSON object but list; delete this",
        put(f"{LAST}/trainer_state.json", "[]"),
    ),
    "state of the trainer of another step": Wrong(
        AGAIN,
        "checkpoint-4/trainer_state.json: global_step is 3, but this is that of step 4; delete",
        settle(f"{LAST}/trainer_state.json", global_step=3),
    ),
    "state of the trainer of another version": Wrong(
        AGAIN,
        "checkpoint-4/trainer_state.json: 'moon' is of another version of transformers; delete",
        settle(f"{LAST}/trainer_state.json", moon=3),
    ),
    "checkpoint of a step beyond the last": Wrong(
        AGAIN, "checkpoint-40: the run is asked for 8 steps; delete", beyond
    ),
    "log that is not JSON": Wrong(
        AGAIN, "begun/log.jsonl, line 1: this is not JSON (", put("begun/log.jsonl", "step 1\n")
    ),
    "log of something else": Wrong(
        AGAIN,
        "begun/log.jsonl, line 1: this is no JSON object but list; delete the line",
        put("begun/log.jsonl", "[3]\n"),
    ),
    "sittings that are not JSON": Wrong(
        AGAIN,
        "begun/sittings.jsonl, line 1: this is not JSON (",
        put("begun/sittings.jsonl", "x\n"),
    ),
    "sittings of something else": Wrong(
        AGAIN,
        "begun/sittings.jsonl, line 1: there is no 'step'; delete the line",
        put("begun/sittings.jsonl", "{}\n"),
    ),
}
FOLDERS = {
    "no folder": Wrong(
        (*TUNED, "model.pretrained=none"), "model.pretrained: {}/none: no such folder"
    ),
    "folder that is a file, as a model": Wrong(
        (*TUNED, "model.pretrained=rows.jsonl"), "model.pretrained: {}/rows.jsonl: "
    ),
    "folder of a run": Wrong(
        (*TUNED, "model.pretrained=run"), "run: this is the folder of a run; its model is"
    ),
    "folder without configuration": Wrong(TUNED, "base: no config.json", lose("base/config.json")),
    "configuration that is no object": Wrong(
        TUNED, "base/config.json: a JSON object belongs here", put("base/config.json", "[]")
    ),
    "configuration of another shape": Wrong(
        TUNED,
        "embeddings.word_embeddings.weight has shape (66, 16), the model's is (66, 32)",
        settle("base/config.json", hidden_size=32),
    ),
    "configuration that makes no sense": Wrong(
        TUNED,
        "base/config.json: Validation error for field 'hidden_size'",
        settle("base/config.json", hidden_size="wide"),
    ),
    "architecture that nobody knows": Wrong(
        TUNED,
        "base/config.json: The checkpoint you are trying to load has model type `nobody`",
        settle("base/config.json", model_type="nobody"),
    ),
    "architecture that reads pictures": Wrong(
        TUNED,
        "base: this model reads pixel_values, and texts are needed",
        settle("base/config.json", model_type="vit"),
    ),
    "architecture of another kind of model": Wrong(
        TUNED,
        "base/model.safetensors: the file lacks embeddings.LayerNorm.bias; was it",
        settle("base/config.json", model_type="roberta"),
    ),
    "configuration that names code": Wrong(
        TUNED,
        "attn_implementation names 'kernels-community/x', which may be code of a hub",
        settle("base/config.json", attn_implementation="kernels-community/x"),
    ),
    "folder whose weights were cut off": Wrong(
        TUNED, "base/model.safetensors: ", cut(f"base/{MODEL}")
    ),
    "folder whose weights hold NaN": Wrong(
        TUNED,
        "embeddings.LayerNorm.bias holds NaN, so the model can answer nothing",
        weigh(f"base/{MODEL}", nan),
    ),
    "folder without a tokenizer": Wrong(TUNED, "base: no tokenizer.json", lose(f"base/{TOKENS}")),
    "encoder for what is written": Wrong(
        ("train", "write.yaml", "model.pretrained=base"),
        "AutoModelForSeq2SeqLM has no model for model_type 'bert'",
    ),
    "more tokens than a whole model reads": Wrong(
        ("train", "write.yaml", "model.positions=999"), "model.positions is 999, but the model of"
    ),
}
STUDY = ("tune", "study.yaml", "--study", "study")
STUDIES = {
    "nothing to search": Wrong(
        ("tune", "colours.yaml"), "the task says nothing of a search; give it a part such as"
    ),
    "study whose folder is taken": Wrong(STUDY, "study: there is something already"),
    "no study to go on with": Wrong(
        ("tune", "study.yaml", "--study", "none", "--resume"), "none: there is no study to continue"
    ),
    "study of other settings": Wrong(
        (*STUDY, "--resume", "training.steps=7"),
        "study: the task has changed since this study began: training.steps was",
    ),
    "study that is no database": Wrong(
        (*STUDY, "--resume", "search.trials=2"),
        "study/study.sqlite: this is no whole database of SQLite (",
        put("study/study.sqlite", "trials\n" * 99),
    ),
    "study that was cut off": Wrong(
        (*STUDY, "--resume", "search.trials=2"),
        "study/study.sqlite: this is no whole database of SQLite (",
        cut("study/study.sqlite", 0.3),
    ),
    "study without its task": Wrong(
        (*STUDY, "--resume"), "study/task.yaml: there is no such file", lose("study/task.yaml")
    ),
    "search by a metric that is not measured": Wrong(
        ("tune", "study.yaml", "--study", "new", "search.metric=accuracies"),
        "search.metric: there is no metric 'accuracies'; did you mean 'accuracy'",
    ),
    "setting that is not there": Wrong(
        ("tune", "study.yaml", "--study", "new", "search.ranges={training.ler: [1, 2]}"),
        "search.ranges: there is no setting 'training.ler'; did you mean 'training.lr'?",
    ),
}
SMALL = json.dumps({"first": "a", "second": "b", "score": 1}) + "\n"
FAILING = {
    "training that diverges": Wrong(
        (*TRAIN, "--run", "new", "training.lr=1e30", "training.max_grad_norm=0"),
        "the training diverged: in step ",
    ),
    "score that is NaN": Wrong(
        ("data", "scored.yaml"),
        "scores.jsonl, line 9: 'score' should be a finite number, found nan",
        lambda world: scored(world, '{"first": "a", "second": "b", "score": NaN}'),
    ),
    "score that is infinite": Wrong(
        ("data", "scored.yaml"),
        "scores.jsonl, line 9: 'score' should be a finite number, found inf",
        lambda world: scored(world, '{"first": "a", "second": "b", "score": 1e999}'),
    ),
    "answers to a full disk": Wrong(
        ("predict", "run", "rows.jsonl", "--out", "/dev/full"), "No space left on device; make room"
    ),
    "answers into a folder": Wrong(
        ("predict", "run", "rows.jsonl", "--out", "base"), "base: Is a directory"
    ),
    "answers into a folder that is not there": Wrong(
        ("predict", "run", "rows.jsonl", "--out", "none/a.jsonl"),
        "none/a.jsonl: No such file or directory",
    ),
}

PARTS = {
    "Run folders": RUNS,
    "Runs that are begun or continued": BEGUN,
    "Pretrained models": FOLDERS,
    "Studies": STUDIES,
    "Numbers, and what is written": FAILING,
}
