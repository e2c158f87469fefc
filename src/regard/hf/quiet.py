"""Silence for what transformers says of settings that are chosen on purpose."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import transformers


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from remarks, warnings and progress bars for a while.

    Yields:
        Nothing.
    """
    logger: Any = transformers.logging
    level, bars = logger.get_verbosity(), logger.is_progress_bar_enabled()
    logger.set_verbosity(logging.ERROR)
    logger.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.set_verbosity(level)
        if bars:
            logger.enable_progress_bar()
