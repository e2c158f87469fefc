"""The search finds the fastest, tries each candidate once, and ends when time is over."""

from regard.backends.measured.search import search


class Clock:
    """A clock that measuring moves."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def ms(place):
    """Fall towards place 7, with 3 not running."""
    return None if place == 3 else 1.0 + abs(place - 7)


def neighbours(place):
    return [one for one in (place - 1, place + 1, place + 2) if one >= 0]


def run(first=0, seconds=1e9, each=1.0, measure=ms):
    clock, tried = Clock(), []

    def timed(place):
        clock.now += each
        tried.append(place)
        return measure(place)

    return search(first, neighbours, timed, seconds, clock), tried, clock.now


def test_search_walks_to_the_fastest_past_one_that_does_not_run():
    found, tried, _ = run()
    assert min(found, key=found.get) == 7
    assert 3 in tried and 3 not in found
    assert len(tried) == len(set(tried))


def test_search_ends_where_no_neighbour_is_faster():
    found, tried, _ = run(first=7)
    assert sorted(tried) == [6, 7, 8, 9] and set(found) == set(tried)


def test_no_candidate_is_begun_when_time_is_over():
    found, tried, ended = run(seconds=2.5)
    assert tried == [0, 1, 2] and ended == 3.0 and set(found) == {0, 1, 2}


def test_the_first_is_timed_however_short_time_is():
    assert run(seconds=0.0)[1] == [0]


def test_search_goes_on_behind_a_first_that_does_not_run():
    found, _, _ = run(first=3)
    assert 3 not in found and min(found, key=found.get) == 7


def test_nothing_is_found_where_nothing_runs():
    assert run(measure=lambda place: None)[0] == {}
