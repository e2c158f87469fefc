"""The model of a task: its shape, its seed, and that it comes back from its folder."""

import pytest
import torch

from regard.errors import FileError
from regard.learners import learner_class
from regard.learners.tokenizer import train_tokenizer
from regard.train import load_model, save_model
from regard.train import model as models
from tests.train.tiny import WORDS, make_task


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([*WORDS, *WORDS.values()], 60)


def build_model(task, tokenizer):
    return models.build_model(learner_class(task)(task, tokenizer))


def test_model_has_the_shape_of_the_task(tmp_path, tokenizer):
    config = build_model(make_task(tmp_path), tokenizer).config
    assert (config.d_model, config.encoder_layers, config.decoder_layers) == (16, 1, 1)
    assert (config.encoder_attention_heads, config.decoder_ffn_dim) == (2, 16)
    assert config.vocab_size == len(tokenizer)
    assert (config.pad_token_id, config.eos_token_id, config.decoder_start_token_id) == (0, 1, 0)


def test_seed_decides_the_weights(tmp_path, tokenizer):
    task = make_task(tmp_path)
    other = make_task(tmp_path, training={"seed": 9})
    first, again, third = (
        build_model(one, tokenizer).model.shared.weight for one in (task, task, other)
    )
    assert torch.equal(first, again) and not torch.equal(first, third)


def test_model_comes_back_from_its_folder(tmp_path, tokenizer):
    model = build_model(make_task(tmp_path), tokenizer)
    save_model(model, tokenizer, tmp_path / "model")
    loaded, words = load_model(tmp_path / "model")
    ids = torch.tensor([words("one two three")["input_ids"]])
    with torch.no_grad():
        expected = model.eval()(input_ids=ids, decoder_input_ids=ids).logits
        assert torch.equal(loaded(input_ids=ids, decoder_input_ids=ids).logits, expected)
    assert words.get_vocab() == tokenizer.get_vocab()


def test_folder_without_a_tokenizer_is_refused(tmp_path, tokenizer):
    save_model(build_model(make_task(tmp_path), tokenizer), tokenizer, tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").unlink()
    with pytest.raises(FileError, match=r"model: no tokenizer\.json; is this the folder of a m"):
        load_model(tmp_path / "model")


def test_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(FileError, match=r"no config\.json; is this a folder"):
        load_model(tmp_path)
