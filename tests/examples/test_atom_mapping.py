"""The head that maps atoms, observed: the mappings its authors published, with confidence."""

import os
import re

import pytest
import torch

from examples import atom_mapping as example

WEIGHTS = os.environ.get("REGARD_WEIGHTS")
# From the README of rxnmapper 0.4.3: reaction, mapped reaction, confidence.
PUBLISHED = [
    (
        "CC(C)S.CN(C)C=O.Fc1cccnc1F.O=C([O-])[O-].[K+].[K+]>>CC(C)Sc1ncccc1F",
        "CN(C)C=O.F[c:5]1[n:6][cH:7][cH:8][cH:9][c:10]1[F:11].O=C([O-])[O-].[CH3:1][CH:2]([CH3:3])"
        "[SH:4].[K+].[K+]>>[CH3:1][CH:2]([CH3:3])[S:4][c:5]1[n:6][cH:7][cH:8][cH:9][c:10]1[F:11]",
        0.9565619900376546,
        # The published reactants stand in another order: fluoropyridine and thiol as given here.
        [0, 1, 2, 3, 15, 14, 13, 12, 11, 10, 9],
    ),
    (
        "C1COCCO1.CC(C)(C)OC(=O)CONC(=O)NCc1cccc2ccccc12.Cl>>O=C(O)CONC(=O)NCc1cccc2ccccc12",
        "C1COCCO1.CC(C)(C)[O:3][C:2](=[O:1])[CH2:4][O:5][NH:6][C:7](=[O:8])[NH:9][CH2:10][c:11]1"
        "[cH:12][cH:13][cH:14][c:15]2[cH:16][cH:17][cH:18][cH:19][c:20]12.Cl>>[O:1]=[C:2]([OH:3])"
        "[CH2:4][O:5][NH:6][C:7](=[O:8])[NH:9][CH2:10][c:11]1[cH:12][cH:13][cH:14][c:15]2[cH:16]"
        "[cH:17][cH:18][cH:19][c:20]12",
        0.9704424331552834,
        [12, 11, 10, 13, 14, 15, 16, 17, 18, 19, *range(20, 30)],
    ),
]
MORE = [
    "CCBr.CC[O-].[Na+]>>CCOCC",
    "CCO.O=C(O)c1ccccc1>>CCOC(=O)c1ccccc1",
    "Brc1ccc2[nH]ccc2c1.OB(O)c1ccccc1>>c1ccc(-c2ccc3[nH]ccc3c2)cc1",
]


@pytest.fixture(scope="module")
def loaded():
    if WEIGHTS is None:
        pytest.skip("REGARD_WEIGHTS names no folder with the wheel rxnmapper, unpacked")
    return example.load(WEIGHTS)


def by_number(reaction):
    """Which atoms carry which number: reactant and product atoms, counted from 0."""
    found = []
    for side in reaction.split(">>"):
        atoms = [one for one in example.TOKENS.findall(side) if example.is_atom(one)]
        numbers = [re.search(r":(\d+)]", one) for one in atoms]
        found.append({int(n.group(1)): at for at, n in enumerate(numbers) if n is not None})
    return found


@pytest.mark.parametrize(("reaction", "published", "sure", "expected"), PUBLISHED)
def test_the_published_mapping_is_found(loaded, reaction, published, sure, expected):
    model, vocabulary = loaded
    ids, tokens = example.encode(vocabulary, reaction)
    chosen, found = example.map_atoms(example.weights_of_head(model, ids), tokens)
    assert chosen == expected
    assert found == pytest.approx(sure, abs=1e-5)
    old, new = by_number(published)
    ours_old, ours_new = by_number(example.mapped(tokens, chosen))
    assert ours_new == new and ours_old.keys() == old.keys()


@pytest.mark.parametrize("reaction", [one[0] for one in PUBLISHED] + MORE)
def test_it_is_the_mapping_of_the_models_own_attentions(loaded, reaction):
    model, vocabulary = loaded
    ids, tokens = example.encode(vocabulary, reaction)
    weights = example.weights_of_head(model, ids)
    own = model.config._attn_implementation
    model.set_attn_implementation("eager")
    with torch.no_grad():
        eager = model(ids, output_attentions=True).attentions[10][0, 5]
    model.set_attn_implementation(own)
    torch.testing.assert_close(weights, eager, rtol=0, atol=1e-5)
    expected, sure = example.map_atoms(eager, tokens)
    assert example.map_atoms(weights, tokens) == (expected, pytest.approx(sure, rel=1e-4))


def test_bonds_and_elements_are_read():
    tokens = example.TOKENS.findall("C1CC1(Cl)[nH].[Na+]")
    atoms = [one for one in tokens if example.is_atom(one)]
    assert [example.element(one) for one in atoms] == ["C", "C", "C", "Cl", "N", "Na"]
    found = {tuple(pair) for pair in example.bonds(tokens).nonzero().tolist()}
    pairs = {(0, 1), (1, 2), (0, 2), (2, 3), (2, 4)}
    assert found == pairs | {(b, a) for a, b in pairs}


def test_the_surest_pair_is_matched_first_and_helps_its_neighbours():
    tokens = ["[CLS]", "C", "O", ".", "C", ">>", "C", "O", "[SEP]"]
    weights = torch.zeros(9, 9)
    weights[7, 2] = 0.9  # oxygen to oxygen
    weights[6, 1], weights[6, 4] = 0.4, 0.6  # carbon likes the loose one, but its neighbour decides
    chosen, sure = example.map_atoms(weights, tokens)
    assert chosen == [0, 1] and sure == pytest.approx(36 / 36.6)
    assert example.mapped(tokens, chosen) == "[C:1][O:2].C>>[C:1][O:2]"
