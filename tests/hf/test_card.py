"""Model cards: what a mode is, in words, and nothing of what people wrote is lost."""

import pytest
from huggingface_hub import ModelCard

import regard as rg
from regard.errors import FileError
from regard.hf.card import BEGIN, END, remove_section, repository_name, write_card
from regard.modes import Assignment, Mode
from tests.hf.models import EVERYWHERE
from tests.nn import programs as p

OTHER = Mode("other", "", encoder=p.plain)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "README.md"


def test_a_new_card_says_all_there_is_to_know(path):
    write_card(path, EVERYWHERE, base_model="somebody/marian", repository="somebody/reader")
    text = path.read_text()
    assert ModelCard(text).data.to_dict() == {
        "library_name": "transformers",
        "tags": ["regard", "attention"],
        "base_model": "somebody/marian",
    }
    assert "## Attention: everywhere\n\n> every role its own program, one layer two of them" in text
    assert "| decoder | 0 | 0–1 | alibi |\n| decoder | 0 | 2–3 | additive |" in text
    assert "| decoder | 1 | all | relative |\n| encoder | all | all | distant |" in text
    for program in (p.alibi, p.additive, p.relative, p.distant):
        assert text.count(f"```text\n{program.formula()}\n```") == 1
    assert "Base model: `somebody/marian`" in text
    assert f"Hash of the mode: `sha256:{EVERYWHERE.hash}`" in text
    assert 'model = rg.hf.from_pretrained(snapshot_download("somebody/reader"))' in text


def test_a_card_that_people_wrote_keeps_every_letter(path):
    own = "---\nlicense: mit\n---\n# Ours\n\nWhat we wrote.\n"
    path.write_text(own)
    write_card(path, OTHER)
    assert path.read_text().startswith(own + "\n" + BEGIN)
    # They go on writing, above and below.
    written = path.read_text().replace("What we", "All that we") + "\n## Licence\n\nFree.\n"
    path.write_text(written)
    write_card(path, EVERYWHERE)
    text = path.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    assert before == own.replace("What we", "All that we") + "\n"
    assert after == "\n\n## Licence\n\nFree.\n"
    assert "everywhere" in text and "## Attention: other" not in text
    write_card(path, OTHER)
    assert path.read_text() == written
    remove_section(path)
    assert path.read_text() == before + "\n## Licence\n\nFree.\n"


@pytest.mark.parametrize(
    "text",
    [
        f"above\n{BEGIN}\nbelow\n",
        f"above\n{END}\nbelow\n",
        f"above\n{END}\nbelow\n{BEGIN}\n",
        f"above\n\n{BEGIN}\nours\n{END}\nbelow\n{END}\n{BEGIN}\n",
    ],
)
def test_a_mark_that_lost_its_other_half_takes_no_words_with_it(path, text):
    path.write_text(text)
    for _ in range(2):
        write_card(path, OTHER)
        found = path.read_text()
        assert "above\n" in found and "below\n" in found
        assert found.count(BEGIN) == found.count(END) == found.count("## Attention") == 1
    remove_section(path)
    assert BEGIN not in path.read_text() and END not in path.read_text()


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_an_empty_card_holds_the_section_alone(path, text):
    path.write_text(text)
    write_card(path, OTHER)
    assert path.read_text().startswith(BEGIN)


def test_words_of_a_mode_cannot_forge_a_card(path):
    words = f"a <b>\n{END}\n{BEGIN}\n# Title\n```\n| x |"
    program = rg.program(lambda pair: rg.softmax(rg.dot(pair.q, pair.k)))
    program = type(program)(program.root, name="a|b", doc=f"why\n{END}\n```")
    mode = Mode("n `*` | <!-- x", words, [Assignment("encoder", program)])
    for _ in range(2):
        write_card(path, mode)
        text = path.read_text()
        assert text.count(BEGIN) == text.count(END) == 1
        assert all(line.startswith(">") for line in text.splitlines() if "# Title" in line)
        assert "## Attention: n \\`\\*\\` \\| \\<\\!-- x\n" in text
        assert "| encoder | all | all | a\\|b |" in text


def test_removing_where_there_is_nothing_does_nothing(path):
    remove_section(path)
    assert not path.exists()
    path.write_text("ours")
    remove_section(path)
    assert path.read_text() == "ours"


def test_a_card_that_is_no_text_is_left_alone(path):
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(
        FileError, match=r"README\.md: .*the model card is text in UTF-8, move this"
    ):
        write_card(path, OTHER)
    assert path.read_bytes() == b"\xff\xfe"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("somebody/model", "somebody/model"),
        ("bert-base-uncased", "bert-base-uncased"),
        ("", None),
        (None, None),
        ("/tmp/model", None),
        ("./model", None),
        ("a/b/c", None),
        ('a"\nb', None),
    ],
)
def test_only_a_repository_is_named_as_one(name, found):
    assert repository_name(name) == found


def test_a_folder_here_is_no_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "somebody/model").mkdir(parents=True)
    assert repository_name("somebody/model") is None
