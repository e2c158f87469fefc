import json
import re

import pytest
import torch
from hypothesis import given, settings

import regard as rg
from regard.errors import FileError, InputError, ProgramError
from regard.ir.program import AttentionProgram
from regard.ops.contracts import check as checking
from regard.ops.contracts.calls import Trial, make_call
from regard.ops.contracts.counterexample import Counterexample
from regard.passes.contracts.prove import Finding
from regard.testing.random_calls import Call, calls
from tests.ops.contracts.known import ASKED, KNOWN, MUTANTS, score_of

STATUS = {"+": "proved", "-": "refuted"}
# What is true of these and not proved.
UNKNOWN = {("apart", one) for one in ("causal", "window <= 8", "permutation-equivariant")}


@pytest.mark.parametrize("name", KNOWN)
def test_known_programs_are_answered_as_by_hand(name):
    program, signs = KNOWN[name]
    found = {answer.contract: answer.status for answer in rg.check(program, ASKED)}
    by_hand = {one: STATUS[sign] for one, sign in zip(ASKED, signs.split(), strict=True)}
    expected = {one: "unknown" if (name, one) in UNKNOWN else by_hand[one] for one in ASKED}
    assert found == expected


def test_few_answers_are_unknown():
    assert len(KNOWN) >= 40
    assert len(UNKNOWN) <= 0.1 * len(KNOWN) * len(ASKED)


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_refused_with_a_pair(name):
    contract, fn = MUTANTS[name]
    with pytest.raises(ProgramError, match=f"declares '{contract}' and breaks it") as caught:
        rg.program(contracts=[contract])(fn)
    assert re.search(r"query i=\d+", str(caught.value))


def causal(pair):
    return rg.softmax(score_of(pair), where=pair.j <= pair.i)


def ahead(pair):
    return rg.softmax(score_of(pair), where=pair.j <= pair.i + 1)


REFUSED = """\
ahead declares 'causal' and breaks it: weights 'a' may read keys that the contract forbids
  ahead (test_check.py:{line})
  query i=0, key j=1, head 0 (4 queries, 4 keys)
  the key row gets other numbers, and the output: {before} becomes {after}
  i=0 # X · ·  <
  i=1 # # # ·
  i=2 # # # #
  i=3 # # # #
      j = 0 … 3   # seen, · hidden, X this"""


def test_broken_contract_is_shown_as_a_pair():
    with pytest.raises(ProgramError) as caught:
        rg.program(contracts=["causal"])(ahead)
    number = r"-?\d\.\d+(e-\d+)?"
    pattern = re.escape(REFUSED).replace(r"\{line\}", r"\d+")
    pattern = pattern.replace(r"\{before\}", number).replace(r"\{after\}", number)
    assert re.fullmatch(pattern, str(caught.value))


def test_the_pair_can_be_found_again_by_a_call():
    """Key 1 changes what query 0 gets, as the counterexample says."""
    found = rg.check(rg.program(ahead), ["causal"])["causal"].counterexample
    assert found is not None and (found.query, found.key) == (0, 1)
    q, k, v = torch.randn(3, 1, 1, 4, 4)
    other = k.clone()
    other[:, :, 1] += 1
    first, second = (rg.attend(rg.program(ahead), q, keys, v)[0, 0, 0] for keys in (k, other))
    assert not torch.allclose(first, second)


def test_a_key_that_is_counted_breaks_by_going():
    found = rg.check(KNOWN["scaled_by_keys"][0], ["causal"])["causal"].counterexample
    assert found is not None and found.change.startswith("the key row and those after it go")


def test_what_only_nan_shows_says_so():
    found = rg.check(KNOWN["weighed_by_zero"][0], ["causal"])["causal"].counterexample
    assert found is not None and "finite numbers there were not found to matter" in found.note


def test_a_gradient_alone_breaks_a_contract():
    _, fn = MUTANTS["the gradient leaks, and of the output too little to see"]
    found = rg.check(rg.program(fn), ["causal"])["causal"].counterexample
    assert found is not None and found.before == "the output stays"
    assert re.match(r"the gradient in '[kv]' of the key row is \d", found.after)


def test_a_wrong_proof_does_not_pass(monkeypatch):
    monkeypatch.setattr(checking, "prove", lambda root, one: Finding(True, "no reason", one))
    with pytest.raises(AssertionError, match="'causal' is proved of ahead, and yet"):
        rg.check(rg.program(ahead), ["causal"])


def test_infinite_weight_of_another_query_is_no_leak():
    """Its gradient is NaN wherever queries are added up, and the query asked about has none."""

    def infinite(pair):
        weight = rg.where(pair.i - pair.j < 2, score_of(pair), -float("inf"))
        return rg.weigh(weight, where=pair.j <= pair.i)

    assert rg.check(rg.program(infinite), ["causal"])["causal"].status == "proved"


@settings(max_examples=8)
@given(calls(lengths=(3,)))
def test_no_search_contradicts_a_proof(call: Call):
    """What is proved of a program drawn at random is tried on calls; `check` asserts they agree."""
    asked = ["padding-blind", "causal", "shift-invariant", "never empty", "head-independent"]
    assert rg.check(call.program, asked)["padding-blind"].status == "proved"


def test_kept_contract_is_declared_and_travels(tmp_path):
    kept = ["causal", "window <= 7", "never empty", "bounded <= 20"]

    @rg.program(contracts=kept)
    def local(pair):
        score = 20 * rg.tanh(score_of(pair) / 20)
        return rg.softmax(score, where=(pair.j <= pair.i) & (pair.i - pair.j < 8))

    rg.save(local, tmp_path / "local.json")
    again = rg.load(tmp_path / "local.json")
    assert isinstance(again, AttentionProgram)
    assert again.contracts == tuple(kept)
    declared = [answer for answer in rg.check(again) if answer.declared]
    assert [(one.contract, one.status) for one in declared] == [(one, "proved") for one in kept]


def test_declaring_changes_no_hash():
    assert rg.program(contracts=["causal"])(causal).hash == rg.program(causal).hash


def test_file_that_breaks_its_word_is_refused(tmp_path):
    text = rg.program(ahead).to_json().replace('"contracts": []', '"contracts": ["causal"]')
    path = tmp_path / "ahead.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FileError, match=r"ahead\.json: contracts: ahead declares 'causal' and"):
        rg.load(path)
    with pytest.raises(FileError, match=r"^contracts: ahead declares 'causal' and breaks it"):
        AttentionProgram.from_json(text)


def test_what_is_unknown_is_let_through():
    rg.program(contracts=["causal"])(lambda p: rg.softmax(score_of(p), where=_apart(p)))


def _apart(pair):
    # (i - j)² + 1 is never 0, which the proof does not see.
    return (pair.j <= pair.i) | ((pair.i - pair.j) * (pair.i - pair.j) == -1)


def test_layer_with_a_mask_does_not_break_the_programs_word():
    kept = rg.program(contracts=["never empty"])(causal)
    layer = rg.nn.Attention(kept, width=8, heads=2)
    assert layer(torch.randn(1, 3, 8)).shape == (1, 3, 8)


@pytest.mark.parametrize(
    ("contract", "message"),
    [
        ("causl", "'causl' is no contract; did you mean 'causal'?"),
        ("window", "contract 'window' needs a number, such as 'window <= 256'"),
        ("window <= 2.5", "'2.5' is not a whole number from 0 on"),
        ("bounded <= much", "'much' is not a number from 0 on"),
        ("window <= " + "9" * 400, "the number has too many digits"),
        ("causal <= 3", "causal takes no number"),
        ("causal by real", "causal reads no feature"),
        ("padding-blind by reel", "the program reads no key feature of that name"),
        (3, "a contract is text, such as 'causal', not 3"),
    ],
)
def test_declared_text_that_is_no_contract_is_refused(contract, message):
    with pytest.raises(ProgramError, match=re.escape(message)):
        rg.program(contracts=[contract])(causal)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((causal,), "check takes a program, which @rg.program makes; found <function causal"),
        ((rg.program(causal), "causal"), 'contracts takes a list of names, e.g. ["causal"]'),
        ((rg.program(causal), ["casual"]), "'casual' is no contract; did you mean 'causal'?"),
        ((rg.program(causal), ["padding-blind by real"]), "reads no key feature of that name"),
    ],
)
def test_misuse_of_check_is_named(given, message):
    with pytest.raises(InputError, match=re.escape(message)):
        rg.check(*given)


def test_answers_are_data():
    found = rg.check(rg.program(causal), ["causal", "permutation-equivariant", "window"])
    plain = json.loads(json.dumps(found.as_dict()))
    assert [one["status"] for one in plain["answers"]] == ["proved", "refuted", "refuted"]
    assert plain["answers"][1]["counterexample"]["key"] == 1
    assert found["window"].contract == "window <= 4096"
    with pytest.raises(InputError, match="'causl' was not checked; did you mean 'causal'"):
        found["causl"]


def test_answers_print_well():
    text = str(rg.check(rg.program(contracts=["causal"])(causal), ["causal"]))
    assert text == (
        "causal\n✓ causal: proved  (declared)\n"
        "    no pair that the contract forbids is read by weights 'a'"
    )


def test_picture_marks_a_row_where_no_key_is_to_blame():
    found = Counterexample(
        5, None, 0, "", "the query sees", "nothing", (4, 5), (9, 2), ((True,) * 2,) * 2
    )
    assert found.picture() == ("i=4 # #\ni=5 # #  <\n    j = 9, 2   # seen, · hidden, X this")


def test_calls_are_the_same_each_time():
    program = rg.program(causal)
    first, second = (make_call(program, Trial(seed=3)) for _ in range(2))
    assert first is not None and second is not None
    assert torch.equal(first.q, second.q)


def test_program_that_no_small_call_fits_is_unknown():
    """Rows of 501 channels are wider than any that are tried."""

    def wide(pair):
        score = rg.sum(pair.q[500:501] * pair.k[500:501])
        return rg.softmax(score, where=pair.j <= pair.i + 1)

    assert make_call(rg.program(wide), Trial()) is None
    assert {one.status for one in rg.check(rg.program(wide), ["causal", "bounded"])} == {"unknown"}
