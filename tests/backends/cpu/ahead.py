"""Kernels built ahead of the tests that use them, two at a time.

A build is a second in another process, during which this one has nothing to do.
"""

import contextlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from regard.errors import UnsupportedError

AT_ONCE = 2


def build_ahead(calls: Iterable[Callable[[], object]]) -> None:
    """Make calls for the sake of the kernels that they build.

    Args:
        calls: What is called, without arguments; what it returns, or refuses, is for the tests.
    """

    def quietly(call: Callable[[], object]) -> None:
        with contextlib.suppress(UnsupportedError):
            call()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(quietly, calls))
