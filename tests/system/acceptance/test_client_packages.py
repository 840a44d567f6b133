"""The client packages are small, and a program on them is short."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.serving import ROOT
from tools import reasons

MOST_CODE_LINES = 800
"""Of a package: lines with code, imports included, without comments, generated files and tests."""
MOST_PROGRAM_LINES = 10
"""Of the README's approval, beyond imports and Go's package clause."""

PACKAGES = {"go": ("clients/go", "*.go"), "typescript": ("clients/typescript/src", "*.ts")}
_GENERATED = re.compile(r"// (Code generated|Written) by ")
_TOKENS = re.compile(
    r"""(?P<comment>//[^\n]*|/\*.*?\*/)|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`""", re.DOTALL
)
_IMPORTS = re.compile(r"^(package \w+|import \([^)]*\)|import .*|from .* import .*)$", re.MULTILINE)


def without_comments(source: str) -> str:
    """Return a Go or TypeScript source without comments; what looks like one inside of a text is none."""
    return _TOKENS.sub(lambda found: "" if found["comment"] else found[0], source)


def code_lines(source: str) -> int:
    return sum(bool(line.strip()) for line in without_comments(source).splitlines())


def program_lines(source: str) -> int:
    """Return the lines of a program beyond imports."""
    return code_lines(_IMPORTS.sub("", source))


def sources(package: str) -> list[Path]:
    """Return the files of a package that people write."""
    folder, pattern = PACKAGES[package]
    found = [path for path in (ROOT / folder).glob(pattern) if not path.name.endswith("_test.go")]
    return [path for path in found if not _GENERATED.match(path.read_text("utf-8"))]


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def approval(page: str, language: str) -> str:
    """Return the program of a page that has an expense approved."""
    (found,) = (block for block in blocks(page, language) if "ApprovalQuestion" in block)
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_has_less_than_eight_hundred_lines_of_code(package: str) -> None:
    counted = {path.name: code_lines(path.read_text("utf-8")) for path in sources(package)}
    assert len(counted) > 5
    assert sum(counted.values()) < MOST_CODE_LINES, counted


def test_what_counts_as_a_line_of_code() -> None:
    source = '// one\npackage x\n\nimport (\n\t"http://a" // two\n)\n/* three\n four */ var y = `\n// five\n`\n'
    assert code_lines(source) == 7
    assert program_lines(source) == 3


def test_the_reasons_of_the_packages_are_those_of_the_error_table() -> None:
    for path, written in reasons.FILES.items():
        assert path.read_text("utf-8") == written(), f"run `make protos`: {path.name} is not current"
        assert path not in [*sources("go"), *sources("typescript")]


@pytest.mark.parametrize(
    ("page", "language"),
    [("README.md", "go"), ("clients/go/README.md", "go"), ("README.md", "ts"), ("clients/typescript/README.md", "ts")],
)
def test_the_approval_is_a_program_of_ten_lines(page: str, language: str) -> None:
    program = approval(page, language)
    assert 5 < program_lines(program) <= MOST_PROGRAM_LINES
    assert program == approval("README.md", language), "the package shows the same program"


def test_the_approval_in_python_has_ten_lines() -> None:
    (page,) = (block for block in blocks("docs/python-client.md", "python") if "def approve(" in block)
    assert 5 < program_lines(page) <= MOST_PROGRAM_LINES


@pytest.mark.parametrize("language", ["go", "typescript"])
def test_the_example_is_the_program_of_the_readme_that_asks(language: str) -> None:
    """Every line of the README's loop is in the example, but for the verdict and the address."""
    folder = {"go": "examples/go/main.go", "typescript": "examples/typescript/src/approval.ts"}[language]
    example = (ROOT / folder).read_text("utf-8")
    assert example.count("ask()") == 2, "a call, and the function"
    shown = approval("README.md", "go" if language == "go" else "ts").replace('"approve"', "await ask()")
    for call in re.findall(r"(?:client|run)\.\w+\(", shown):
        assert call in example, call
