"""What every variant must have, and how variants are found; what they compute is test_variants'."""

import ast
import inspect
import re
import statistics
import textwrap

import pytest
import torch

import regard as rg
from regard.catalogue import FAMILIES, VARIANTS, describe_family, search, search_absent
from regard.catalogue.absent import ABSENT
from regard.catalogue.variant import Variant

ALL = pytest.mark.parametrize("one", VARIANTS.values(), ids=lambda one: one.name)
YEAR = re.compile(r"\b(19|20)\d\d\b")
MOST_LINES, MEDIAN_LINES, WIDTH = 12, 5, 100


def lines_of(one):
    """How many lines the body of a variant has, without its docstring."""
    (fn,) = ast.parse(textwrap.dedent(inspect.getsource(one.fn))).body
    assert isinstance(fn, ast.FunctionDef)
    body = fn.body[1:]
    return (body[-1].end_lineno or 0) - body[0].lineno + 1


@ALL
def test_variant_says_what_it_is_and_when_to_use_it(one):
    assert one.says.endswith(".") and 20 <= len(one.says) <= WIDTH
    assert len(one.use.split()) >= 15, "when to use it, and what it costs"
    assert one.use.endswith(".")
    assert one.title and YEAR.search(one.source), one.source
    assert re.fullmatch(r"https://[\w.-]+/\S*", one.link), one.link
    assert one.family in FAMILIES


@ALL
def test_variant_is_a_few_lines(one):
    assert lines_of(one) <= MOST_LINES


def test_variants_are_short_as_a_rule():
    assert statistics.median(map(lines_of, VARIANTS.values())) <= MEDIAN_LINES


@ALL
def test_variant_is_data(one):
    program = one.program
    assert rg.AttentionProgram.from_json(program.to_json()) == program
    assert (program.name, program.contracts) == (one.name, one.contracts)
    assert program.doc.startswith(one.says)


@ALL
def test_what_a_variant_promises_is_proved(one):
    if one.contracts:
        answers = rg.check(one.program, list(one.contracts))
        assert [answer.status for answer in answers] == ["proved"] * len(one.contracts)


@ALL
def test_code_of_a_variant_is_its_function_without_the_docstring(one):
    (fn,) = ast.parse(one.code).body
    assert isinstance(fn, ast.FunctionDef) and fn.name == one.name
    assert ast.get_docstring(fn) is None and not fn.decorator_list
    assert max(map(len, one.code.splitlines())) <= WIDTH


@ALL
def test_unknown_knob_of_a_variant_is_an_error(one):
    with pytest.raises(rg.InputError, match=f"'no_such' is no knob of {one.name}; "):
        one(no_such=1)


@ALL
def test_knobs_are_keyword_arguments_with_values(one):
    parameters = list(inspect.signature(one.fn).parameters.values())
    assert [x.name for x in parameters[1:]] == list(one.knobs)
    assert all(x.kind is x.KEYWORD_ONLY for x in parameters[1:])


def test_names_differ_from_those_that_are_absent():
    assert not {one.name for one in ABSENT} & set(VARIANTS)
    assert len({one.name for one in ABSENT}) == len(ABSENT)


@pytest.mark.parametrize("one", ABSENT, ids=lambda one: one.name)
def test_what_is_absent_says_why(one):
    assert one.title and YEAR.search(one.source) and one.link.startswith("https://")
    assert len(one.reason.split()) >= 8


# ── A variant ─────────────────────────────────────────────────────────────────────────────────
@rg.catalogue.variant.variant("Near", "Nobody 2026", "2601.00001", ("causal", "window <= 3"))
def near(pair, *, reach=4):
    """See what is near.

    For tests,
    on two lines.
    """
    seen = (pair.j <= pair.i) & (pair.i - pair.j < reach)
    return rg.softmax(rg.dot(pair.q, pair.k), where=seen)


def test_variant_is_read_off_its_function():
    assert (near.name, near.family, near.says) == ("near", "test_catalogue", "See what is near.")
    assert near.use == "For tests, on two lines."
    assert near.link == "https://arxiv.org/abs/2601.00001"
    assert near.knobs == {"reach": 4}
    assert repr(near) == "<Near, Nobody 2026: rg.catalogue.near>"
    assert near.code.splitlines() == [
        "def near(pair, *, reach=4):",
        "    seen = (pair.j <= pair.i) & (pair.i - pair.j < reach)",
        "    return rg.softmax(rg.dot(pair.q, pair.k), where=seen)",
    ]


def test_link_that_is_an_address_is_kept():
    made = rg.catalogue.variant.variant("Far", "Nobody 2026", "https://example.org/far")(near.fn)
    assert made.link == "https://example.org/far" and made.contracts == ()


def test_variant_as_published_keeps_its_promises_and_other_knobs_promise_nothing():
    assert near.program is near() and near.program.contracts == ("causal", "window <= 3")
    other = near(reach=9)
    assert other.contracts == () and "i − j < 9" in other.formula()
    assert near(reach=4) == rg.program(near.fn)
    assert "i − j < 4" in near.program.formula()


def test_broken_promise_of_a_variant_is_an_error():
    liar = rg.catalogue.variant.variant("Liar", "Nobody 2026", "2601.00002", ("window <= 2",))
    with pytest.raises(rg.ProgramError, match="near declares 'window <= 2' and breaks it"):
        liar(near.fn).program  # noqa: B018


# ── Finding one ───────────────────────────────────────────────────────────────────────────────
def test_variant_is_found_by_its_name():
    assert rg.catalogue.find("scaled_dot_product") is rg.catalogue.scaled_dot_product
    assert isinstance(rg.catalogue.scaled_dot_product, Variant)
    assert {"scaled_dot_product", "find", "search"} <= set(dir(rg.catalogue))


def test_variants_stand_in_the_order_of_their_families():
    families = [one.family for one in VARIANTS.values()]
    assert families == sorted(families, key=FAMILIES.index)
    assert all(describe_family(family).endswith(".") for family in FAMILIES)


def test_words_are_looked_for_everywhere_and_all_of_them():
    assert search("") == list(VARIANTS.values())
    one = rg.catalogue.scaled_dot_product
    for words in ("scaled_dot_product", "VASWANI 2017", one.says, one.use, "score  vaswani"):
        assert one in search(words), words
    assert search("vaswani no_such_word") == []


def test_absent_mechanisms_are_found_by_words():
    assert search_absent("") == list(ABSENT)
    assert ABSENT[0] in search_absent(ABSENT[0].title.upper())
    assert search_absent("no_such_word") == []


def test_unknown_name_is_an_error_with_the_nearest():
    with pytest.raises(rg.InputError, match="no 'scaled_dot_produkt'; did you mean 'scaled_dot_p"):
        rg.catalogue.find("scaled_dot_produkt")
    with pytest.raises(AttributeError, match="no 'scaled_dot_produkt'; did you mean 'scaled_dot"):
        rg.catalogue.scaled_dot_produkt  # noqa: B018


def test_name_of_an_absent_mechanism_is_answered_with_the_reason():
    one = ABSENT[0]
    with pytest.raises(rg.InputError, match=re.escape(f"not in the catalogue: {one.reason}")):
        rg.catalogue.find(one.name)
    with pytest.raises(AttributeError, match=re.escape(f"not in the catalogue: {one.reason}")):
        getattr(rg.catalogue, one.name)


@pytest.mark.parametrize(
    ("name", "ours"),
    [("rope", "'rotary'?"), ("FoX", "'forgetting' or 'forget_gate_online'?"), ("ssmax", "'scal")],
)
def test_name_that_authors_use_is_answered_with_ours(name, ours):
    with pytest.raises(rg.InputError, match=re.escape(f"no '{name}'; did you mean {ours}")):
        rg.catalogue.find(name)


def test_knob_without_its_name_is_an_error():
    for one, knobs in (
        (rg.catalogue.fixed, "stride=…, summary=…"),
        (rg.catalogue.causal, "it has none"),
    ):
        with pytest.raises(rg.InputError) as error:
            one(64)
        assert str(error.value) == (
            f"{one.name} takes its knobs by name: {knobs}; to compute with it, "
            f"rg.attend(rg.catalogue.{one.name}.program, q, k, v)"
        )


def test_variant_where_a_program_belongs_is_an_error_that_leads_to_its_program(tmp_path):
    one, q = rg.catalogue.causal, torch.zeros(1, 1, 2, 4)
    for use in (
        lambda: rg.attend(one, q, q, q),
        lambda: rg.check(one),
        lambda: rg.draw(one),
        lambda: rg.explain(one, q.shape),
        lambda: rg.guarantee_mass(one, q, 0.1),
        lambda: rg.Mode("mode", decoder=one),
        lambda: rg.nn.Attention(one, width=8, heads=2),
        lambda: rg.save(one, tmp_path / "one.json"),
        lambda: rg.to_flex(one),
    ):
        with pytest.raises(rg.InputError, match=r"causal>, whose program is its \.program$"):
            use()
