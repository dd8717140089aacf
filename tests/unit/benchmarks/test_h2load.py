"""What is read from h2load."""

import pytest

from benchmarks.h2load import LoadError, Rate, parse_latencies, parse_rate, quantile

SUMMARY = """\
starting benchmark...
Main benchmark duration is over for thread #0. Stopping all clients.

finished in 2.00s, 19650.50 req/s, 5.62MB/s
requests: 39301 total, 39365 started, 39301 done, {succeeded} succeeded, {failed} failed, \
{failed} errored, 0 timeout
status codes: 39301 2xx, 0 3xx, 0 4xx, 0 5xx
"""


def test_the_rate_and_the_number_of_requests_are_read() -> None:
    """From the two lines of its summary that have them."""
    assert parse_rate(SUMMARY.format(succeeded=39301, failed=0)) == Rate(19650.5, 39301)


@pytest.mark.parametrize(
    "output",
    [
        SUMMARY.format(succeeded=39300, failed=1),
        SUMMARY.format(succeeded=0, failed=0),
        "could not connect to host\n",
        "",
    ],
)
def test_a_run_with_failures_has_no_rate(output: str) -> None:
    """Failing fast is no speed."""
    with pytest.raises(LoadError):
        parse_rate(output)


def test_each_requests_duration_is_read_from_the_log() -> None:
    """The third column, in microseconds."""
    assert parse_latencies("1795401195586542\t200\t1288\n1795401195594334\t200\t1075\n") == [
        1288,
        1075,
    ]


def test_a_failed_request_in_the_log_is_an_error() -> None:
    """It writes -1 in place of the status."""
    with pytest.raises(LoadError, match="1 of 2"):
        parse_latencies("1\t200\t1288\n2\t-1\t9\n")


def test_a_quantile_is_a_value_that_was_measured() -> None:
    """The smallest that the share of all does not exceed."""
    hundred = [float(value) for value in range(100, 0, -1)]
    assert quantile(hundred, 0.99) == 99
    assert quantile(hundred, 0.5) == 50
    assert quantile([7.0], 0.99) == 7
