import json
import re
from functools import partial

import pytest
from typer.testing import CliRunner

import regard as rg
from regard.catalogue import FAMILIES, VARIANTS, describe_family
from regard.catalogue.absent import ABSENT
from regard.cli.catalogue import list_catalogue
from regard.cli.main import app
from tests.cli.alone import run_alone

run = partial(run_alone, list_catalogue)


def names_in(shown):
    """The names of the list, in its order."""
    return re.findall(r"^  (\w+)  ", shown, flags=re.MULTILINE)


def test_all_are_listed_by_family_and_those_that_are_absent_last():
    shown = run().stdout
    assert names_in(shown) == [*VARIANTS, *(one.name for one in ABSENT)]
    headings = [line for line in shown.splitlines() if re.match(r"\w", line)]
    listed = [family for family in FAMILIES if any(x.family == family for x in VARIANTS.values())]
    wanted = [f"{family}: {describe_family(family)}" for family in listed]
    assert headings == [*wanted, "not in the catalogue, and why:"]
    assert max(map(len, shown.splitlines())) <= 100


def test_variant_is_listed_with_title_source_and_what_it_does():
    one = VARIANTS["scaled_dot_product"]
    shown = " ".join(run("scaled_dot_product").stdout.split())
    assert f"{one.name} {one.title}, {one.source} {one.says}" in shown


def test_words_narrow_the_list_and_may_stand_apart():
    assert names_in(run("vaswani", "DEFAULT").stdout) == ["scaled_dot_product"]


def test_one_family_may_be_listed_alone():
    shown = run("--family", "score").stdout
    assert names_in(shown) == [x.name for x in VARIANTS.values() if x.family == "score"]


def test_absent_mechanism_is_found_with_its_reason():
    one = ABSENT[0]
    shown = " ".join(run(*one.title.split(), *one.source.split()).stdout.split())
    assert "not in the catalogue, and why:" in shown and one.reason in shown


def test_json_holds_all_of_it():
    found = json.loads(run("--json").stdout)
    assert [one["name"] for one in found["variants"]] == list(VARIANTS)
    assert [one["name"] for one in found["absent"]] == [one.name for one in ABSENT]
    assert set(found["absent"][0]) == {"name", "title", "source", "link", "reason"}
    one = VARIANTS["scaled_dot_product"]
    assert found["variants"][0] == {
        "name": one.name, "family": "score", "title": one.title, "source": one.source,
        "link": one.link, "says": one.says, "use": one.use, "knobs": {},
        "contracts": list(one.contracts),
    }  # fmt: skip


def test_nothing_found_says_so_with_the_nearest_and_ends_with_code_one():
    done = run("scaled_dot_produkt")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(
        "nothing in the catalogue speaks of 'scaled_dot_produkt'; did you mean 'scaled_dot_product'"
    )
    assert done.stderr.endswith("? `regard catalogue` lists all\n")
    done = run("qqqq", "--family", "score", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout) == {"variants": [], "absent": []}
    assert done.stderr.startswith("nothing in the family 'score' speaks of 'qqqq'; `regard")


def test_unknown_family_is_an_error():
    with pytest.raises(rg.InputError, match="no family 'scores'; did you mean 'score'"):
        run("--family", "scores")


def test_commands_take_the_name_of_a_variant():
    for words in (["check", "scaled_dot_product"], ["explain", "scaled_dot_product", "--quick"]):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0 and "scaled_dot_product" in done.stdout, done.output


@pytest.mark.parametrize("command", ["show", "check", "explain"])
def test_absent_mechanism_is_answered_with_the_reason(command):
    one = ABSENT[0]
    done = CliRunner().invoke(app, [command, one.name])
    assert done.exit_code == 2
    assert done.stderr == (
        f"error: {one.title} ({one.source}) is not in the catalogue: {one.reason}\n  {one.link}\n"
    )
