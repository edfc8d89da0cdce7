"""The one error of bad input, for every room."""


class DataError(Exception):
    """Bad user input (an unknown task, a foreign or truncated file); the message is the one line a user sees."""
