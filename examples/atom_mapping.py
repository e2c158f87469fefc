"""Which atom of a product was which atom of the reactants: read off one attention head.

RXNMapper (Schwaller et al. 2021, "Extraction of organic chemistry grammar from unsupervised
learning of chemical reactions", doi 10.1126/sciadv.abe4166) found that a head of an ALBERT trained
on reactions alone, layer 10, head 5, looks from product atoms at the reactant atoms they were. The
weights are in the wheel `rxnmapper`; set REGARD_WEIGHTS to the folder where it is unpacked, then

    python examples/atom_mapping.py 'CC[O-]~[Na+].BrCC>>CCOCC'
"""

import os
import re
import sys
from pathlib import Path

import torch
from torch import Tensor
from transformers import AlbertModel, logging

import regard as rg

LAYER, HEAD = 10, 5
# How much likelier a pair becomes when neighbours of both were matched.
NEIGHBOURS = 90.0
FOLDER = "rxnmapper/rxnmapper/models/transformers/albert_heads_8_uspto_all_1310k"
TOKENS = re.compile(
    r"(\[[^\]]+]|Br?|Cl?|N|O|S|P|F|I|b|c|n|o|s|p|\(|\)|\.|=|#|-|\+|\\|/|:|~|@|\?|>>?|\*|\$|"
    r"%[0-9]{2}|[0-9])"
)
ELEMENT = re.compile(r"\[?\d*(se|as|[bcnops]|[A-Z][a-z]?)")


def load(weights: str) -> tuple[AlbertModel, dict[str, int]]:
    """Return the model, and the number of each token."""
    folder = Path(weights) / FOLDER
    model = AlbertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    lines = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    return model, {token: number for number, token in enumerate(lines)}


def encode(vocabulary: dict[str, int], reaction: str) -> tuple[Tensor, list[str]]:
    """Return a reaction as token numbers (1, N) and as tokens."""
    tokens = ["[CLS]", *TOKENS.findall(reaction), "[SEP]"]
    return torch.tensor([[vocabulary.get(one, vocabulary["[UNK]"]) for one in tokens]]), tokens


def weights_of_head(model: AlbertModel, ids: Tensor) -> Tensor:
    """Return the weights (N, N) of the head that maps atoms."""
    with torch.no_grad(), rg.hf.observe(model, ["weights"], layers=LAYER, heads=HEAD) as seen:
        model(input_ids=ids)
    return seen["weights"][0][0, 0]


def is_atom(token: str) -> bool:
    """Tell whether a token is an atom."""
    return token not in ("[CLS]", "[SEP]") and (token[0].isalpha() or token[0] == "[")


def element(token: str) -> str:
    """Return the element of an atom, aromatic or not."""
    found = ELEMENT.match(token)
    assert found is not None, f"{token} is an atom"
    return found.group(1).capitalize()


def bonds(tokens: list[str]) -> Tensor:
    """Return which atoms are bonded, bool (atoms, atoms)."""
    count = sum(map(is_atom, tokens))
    found, atom, last = torch.zeros(count, count, dtype=torch.bool), 0, None
    branches: list[int | None] = []
    rings: dict[str, int | None] = {}
    for token in tokens:
        partner = None
        if is_atom(token):
            last, partner, atom = atom, last, atom + 1
        elif token == "(":
            branches.append(last)
        elif token == ")":
            last = branches.pop()
        elif token in rings:
            partner = rings.pop(token)
        elif token[0].isdigit() or token[0] == "%":
            rings[token] = last
        elif token in (".", "~", ">>"):
            last = None
        if partner is not None:
            found[last, partner] = found[partner, last] = True
    return found


def map_atoms(weights: Tensor, tokens: list[str]) -> tuple[list[int], float]:
    """Match product atoms with reactant atoms, the surest first, as RXNMapper does.

    Args:
        weights: (N, N), of the head.
        tokens: N tokens of "reactants>>products".

    Returns:
        For each product atom the number of its reactant atom, or -1; and how sure all of it is.
    """
    arrow = tokens.index(">>")
    places = [place for place, token in enumerate(tokens) if is_atom(token)]
    old, new = ([p for p in places if (p > arrow) == product] for product in (False, True))
    both = weights[new][:, old] + weights[old][:, new].T
    same = [[element(tokens[p]) == element(tokens[r]) for r in old] for p in new]
    scores = both.double() * torch.tensor(same)
    near = bonds(tokens)
    near_old, near_new = near[: len(old), : len(old)], near[len(old) :, len(old) :]
    chosen, sure = [-1] * len(new), 1.0
    for _ in new:
        shares = scores / scores.sum(1, keepdim=True).clamp_min(1e-300)
        product, reactant = divmod(int(shares.argmax()), len(old))
        share = float(shares[product, reactant])
        if share < 1e-8:
            break
        chosen[product], sure = reactant, sure * share
        scores[near_new[product][:, None] & near_old[reactant]] *= NEIGHBOURS
        scores[product], scores[:, reactant] = 0, 0
    return chosen, sure


def mapped(tokens: list[str], chosen: list[int]) -> str:
    """Return a reaction whose matched atoms carry equal numbers."""
    arrow = tokens.index(">>")
    reactants = sum(map(is_atom, tokens[:arrow]))
    numbers = {old: product + 1 for product, old in enumerate(chosen) if old >= 0}
    numbers |= {reactants + product: product + 1 for product, old in enumerate(chosen) if old >= 0}
    parts, atom = [], 0
    for token in tokens[1:-1]:
        if is_atom(token):
            number, atom = numbers.get(atom), atom + 1
            if number is not None:
                token = f"[{token.strip('[]')}:{number}]"
        parts.append(token)
    return "".join(parts)


def main() -> None:
    """Map the reactions that are given."""
    weights = os.environ.get("REGARD_WEIGHTS")
    if weights is None or not sys.argv[1:]:
        raise SystemExit(__doc__)
    logging.set_verbosity_error()
    model, vocabulary = load(weights)
    for reaction in sys.argv[1:]:
        ids, tokens = encode(vocabulary, reaction)
        chosen, sure = map_atoms(weights_of_head(model, ids), tokens)
        print(f"{mapped(tokens, chosen)}  ({sure:.3f})")


if __name__ == "__main__":
    main()
