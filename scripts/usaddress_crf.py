"""Train a conditional random field with usaddress's features on the split of an address task.

What `regard train tasks/addresses.yaml` is compared with: the same training rows, the same test
rows, the same metrics. Needs `pip install usaddress`, whose features and settings of training
(c1, c2) these are. Usage: python scripts/usaddress_crf.py tasks/addresses.yaml
"""

import sys
import tempfile
from pathlib import Path

import pycrfsuite
import usaddress

from regard.data import load_corpus
from regard.metrics.records import measures_of
from regard.tasks import load_task
from regard.tasks.plan_data import plan_task_data

# parserator's, which usaddress is trained with.
SETTINGS = {"c1": 0.1, "c2": 0.01, "feature.minfreq": 0}


def features(tokens: list[str]) -> pycrfsuite.ItemSequence:
    """Return what usaddress sees of an address."""
    return pycrfsuite.ItemSequence(usaddress.tokens2features(tokens))


def train(rows: list, path: Path) -> pycrfsuite.Tagger:
    """Return a model of these rows."""
    trainer = pycrfsuite.Trainer(verbose=False, params=SETTINGS)
    for row in rows:
        trainer.append(features(list(row.values["tokens"])), list(row.values["tags"]))
    trainer.train(str(path))
    tagger = pycrfsuite.Tagger()
    tagger.open(str(path))
    return tagger


def score(tagger: pycrfsuite.Tagger, rows: list) -> str:
    """Return the metrics of a model's answers, in a line."""
    records = [
        {
            "input": list(row.values["tokens"]),
            "reference": list(row.values["tags"]),
            "prediction": tagger.tag(features(list(row.values["tokens"]))),
        }
        for row in rows
    ]
    (measures,) = measures_of("tagging", [records], {"scheme": "plain"})
    return "  ".join(f"{one.name} {one.score().value:.4f}" for one in measures)


def main() -> None:
    """Print the scores of a model trained here, and of the one that usaddress ships."""
    splits = load_corpus(plan_task_data(load_task(sys.argv[1]))).splits
    with tempfile.TemporaryDirectory() as folder:
        mine = train(splits.train, Path(folder) / "addresses.crfsuite")
        print(f"trained on {len(splits.train)} rows: {score(mine, splits.test)}")
        print(f"on the validation rows: {score(mine, splits.valid)}")
    print(f"as shipped: {score(usaddress.TAGGER, splits.test)}")


if __name__ == "__main__":
    main()
