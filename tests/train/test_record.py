"""Who watches a run: the log's clock, the bar, and the one who listens for Ctrl-C."""

import io
import json
import signal
import threading

import pytest
from rich.console import Console
from transformers import TrainerControl, TrainerState

from regard.train.record import LogFile, ProgressBar, StopWhenAsked


def test_log_drops_what_comes_after_the_checkpoint_and_its_clock_goes_on(tmp_path):
    path = tmp_path / "log.jsonl"
    lines = [{"step": step, "seconds": step * 10.0, "loss": 1.0} for step in (1, 2, 3)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    log = LogFile(path, step=2)
    log.on_train_begin()
    log.on_log(None, TrainerState(global_step=3), None, {"loss": 0.5, "epoch": 1.0})
    log.on_log(None, TrainerState(global_step=3), None, {"train_runtime": 7})
    kept = [json.loads(line) for line in path.read_text().splitlines()]
    assert kept[:2] == lines[:2] and len(kept) == 3
    assert kept[2]["loss"] == 0.5 and 20 <= kept[2]["seconds"] < 25


def test_bar_shows_the_step_the_loss_and_the_score():
    text = io.StringIO()
    bar = ProgressBar(Console(file=text, width=120, force_terminal=True))
    state = TrainerState(global_step=3, max_steps=12)
    bar.on_train_begin(None, state, None)
    bar.on_step_end(None, state, None)
    bar.on_log(None, state, None, {"loss": 2.345})
    bar.on_log(None, state, None, {"eval_loss": 1.5, "eval_BLEU": 17.21})
    bar.on_train_end(None, state, None)
    assert "3/12" in text.getvalue()
    assert "loss 2.35" in text.getvalue() and "validation BLEU 17.21" in text.getvalue()


@pytest.mark.parametrize("before", [signal.default_int_handler, signal.SIG_IGN])
def test_second_ctrl_c_ends_everything_at_once(before):
    given = signal.signal(signal.SIGINT, before)
    stop, control = StopWhenAsked(), TrainerControl()
    with stop.listen():
        signal.raise_signal(signal.SIGINT)
        stop.on_step_end(None, None, control)
        assert control.should_training_stop and control.should_save
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.signal(signal.SIGINT, given) is before


def test_thread_that_is_not_the_main_one_listens_to_nothing():
    before, seen = signal.getsignal(signal.SIGINT), []

    def listen():
        with StopWhenAsked().listen():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert seen == [before]
