"""Flags, numbers and names of all verbs: what a person writes is read, anything else is one line."""

import argparse

import pytest

from dpft.arguments import Parser, count, plain_name, positive, seed_number
from dpft.envs import DataError


@pytest.mark.parametrize(
    ("text", "number"), [("1e6", 1_000_000), ("1_000", 1000), ("5.0", 5), ("010", 10), ("999999999999999", 10**15 - 1)]
)
def test_whole_numbers_as_people_write_them(text, number):
    assert count(text) == number


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "nan", "inf", "1e30", "1e999999999", "1k", "0x10", "True"])
def test_no_counts(text):
    with pytest.raises(argparse.ArgumentTypeError, match="input"):
        count(text)


def test_ranges():
    assert seed_number("0") == 0
    for text in ("0", "nan", "inf", "1e999", "x"):
        with pytest.raises(argparse.ArgumentTypeError):
            positive(text)


@pytest.mark.parametrize("text", ["", ".hidden", "..", "../up", "=1+1", "+1", "-x", "a b", "a/b", "a\n", "é" * 51])
def test_no_names(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected at most 100"):
        plain_name(text)


def test_a_flag_is_given_by_its_whole_name():
    parser = Parser(prog="dpft x")
    parser.add_argument("--episodes", type=count)
    with pytest.raises(DataError, match=r"unrecognized arguments: --ep 3; see dpft x --help"):
        parser.parse_args(["--ep", "3"])
