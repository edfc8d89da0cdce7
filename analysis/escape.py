"""What people wrote, in the languages of our outputs: each escapes for itself, as it is written."""

import re
import shlex

_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "[": "{[}",  # after the \\ of the row before it would be an argument
        **{character: f"\\{character}" for character in "&%$#_{}"},
    }
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def latex(text: str) -> str:
    """Text as LaTeX prints it: no command, mathematics, comment or column."""
    return text.translate(_LATEX)


def markdown(text: str) -> str:
    """Text as Markdown shows it, in a cell of a table, too: no markup, HTML, mathematics or column."""
    text = text.replace("\\", "\\\\").replace("&", "&amp;").replace("<", "&lt;")
    text = re.sub(r"([`*|\[\]~$])", r"\\\1", text)
    text = re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)  # inside a word it is no emphasis
    text = re.sub(r"^([#+=>-])", r"\\\1", text)
    return re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", text)


def spreadsheet(text: str) -> str:
    """A text cell of a CSV file that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def shell(command: str) -> str:
    """A recorded command, to be pasted: its words quoted, so that none of them is another command."""
    try:
        return shlex.join(shlex.split(command))
    except ValueError:  # a quote without its end
        return shlex.quote(command)
