"""Sentences that people say to a home, drawn from the templates of home-assistant-intents.

Templates are read by hassil, whose grammar has alternatives, options, permutations, rules and
lists. Names of rooms, things and what may be anything are our own few words.
"""

import json
import random
from pathlib import Path
from typing import Any

A_LABEL = 120
TRIES = 12
WORDS = {
    "area": ["kitchen", "bedroom", "living room", "bathroom", "office", "garage", "garden"],
    "floor": ["ground floor", "first floor", "second floor", "basement", "attic"],
    "name": ["ceiling light", "desk lamp", "front door", "back door", "coffee machine", "heater",
             "left curtain", "old radio", "air purifier", "garden hose", "robot", "television"],
    "zone": ["home", "work", "school", "the gym"],
    "message": ["dinner is ready", "the bus is here", "we leave in five minutes", "come down"],
    "timer_name": ["pizza", "laundry", "tea", "egg", "homework"],
    "timer_command": ["open the garage", "turn off the lights", "close the curtains"],
    "todo_list_item": ["call the dentist", "water the plants", "pay the rent", "feed the cat"],
    "shopping_list_item": ["milk", "apples", "two loaves of bread", "coffee", "toothpaste"],
    "search_query": ["jazz", "the beatles", "morning news", "rain sounds", "mozart"],
}  # fmt: skip


def home_sentences(data: Path, seed: int = 0) -> list[dict[str, str]]:
    """Return sentences with their intents.

    Args:
        data: The file of one language.
        seed: Of what is drawn.

    Returns:
        Rows with "text" and "label", at most `A_LABEL` different ones of an intent; a sentence that
        belongs to two intents stands once, with the first.
    """
    held = json.loads(data.read_text("utf-8"))
    walk = _Walk(held["expansion_rules"], held["lists"], random.Random(seed))
    found: dict[str, str] = {}
    for label, intent in held["intents"].items():
        templates = [one for part in intent["data"] for one in part["sentences"]]
        new: set[str] = set()
        for _ in range(TRIES * A_LABEL):
            text = " ".join(walk.say(walk.random.choice(templates)).split())
            new |= {text} - found.keys()
            if len(new) == A_LABEL:
                break
        found |= dict.fromkeys(sorted(new), label)
    return [{"text": text, "label": label} for text, label in found.items()]


class _Walk:
    """Draws one sentence of a template."""

    def __init__(self, rules: dict[str, str], lists: dict[str, Any], drawn: random.Random) -> None:
        self.rules, self.lists, self.random = rules, lists, drawn
        self.parsed: dict[str, Any] = {}

    def say(self, template: str) -> str:
        from hassil.parse_expression import parse_sentence

        if template not in self.parsed:
            self.parsed[template] = parse_sentence(template).expression
        return self._say(self.parsed[template])

    def _say(self, part: Any) -> str:
        match type(part).__name__:
            case "TextChunk":
                return part.original_text
            case "Alternative":
                return self._say(self.random.choice(part.items))
            case "Permutation":
                return " ".join(map(self._say, self.random.sample(part.items, len(part.items))))
            case "RuleReference":
                return self.say(self.rules[part.rule_name])
            case "ListReference":
                said = self._fill(part.list_name)
                return f"{part.prefix or ''}{said}{part.suffix or ''}"
            case _:
                return "".join(map(self._say, part.items))

    def _fill(self, name: str) -> str:
        if name in WORDS:
            return self.random.choice(WORDS[name])
        held = self.lists[name]
        if "range" in held:
            span = held["range"]
            return str(self.random.randrange(span["from"], span["to"] + 1, span.get("step", 1)))
        value = self.random.choice(held["values"])
        return self.say(value["in"] if isinstance(value, dict) else value)
