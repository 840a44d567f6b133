"""The console's files: nothing from elsewhere, nothing parsed as HTML, nothing that needs a build."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stepwire.server.rpc import RULES

CONSOLE = Path(__file__).parents[3] / "server" / "stepwire" / "server" / "web" / "console"
FILES = sorted(path.relative_to(CONSOLE).as_posix() for path in CONSOLE.rglob("*") if path.is_file())
MODULES = [name for name in FILES if name.endswith(".js")]

PARSED = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|setHTML|document\.write|DOMParser|createContextualFragment|srcdoc"
    r"|\beval\(|new Function|setTimeout\(\s*[\"'`]|javascript:"
)
"""What would make HTML or code of a text."""
ELSEWHERE = re.compile(r"(?:https?:|[\"'(])//(?!www\.w3\.org/(?:2000/svg|1999/xhtml)\b)")
"""An address of another host; the names of XML namespaces are none."""
IMPORT = re.compile(r"^import .* from \"([^\"]+)\";", re.MULTILINE)


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_loaded_from_elsewhere(name: str) -> None:
    text = (CONSOLE / name).read_text()
    assert ELSEWHERE.findall(text) == []


@pytest.mark.parametrize("name", MODULES)
def test_no_text_becomes_html_or_code(name: str) -> None:
    text = (CONSOLE / name).read_text()
    assert PARSED.findall(text) == []
    # A link is an address of the console, whatever a run is called: a literal that begins with a slash, or made of one.
    for link in re.findall(r"href: (\S+)", text):
        assert link.startswith(('"/', "`/", "address")), link


@pytest.mark.parametrize("name", MODULES)
def test_modules_import_files_that_there_are(name: str) -> None:
    for path in IMPORT.findall((CONSOLE / name).read_text()):
        assert (CONSOLE / name).parent.joinpath(path).resolve().is_file(), path


def test_the_console_is_a_client_of_the_public_contract() -> None:
    called = set()
    for name in MODULES:
        text = (CONSOLE / name).read_text()
        called |= set(re.findall(r"\b(?:call|stream)\([\"`](\w+/\w+)[\"`]", text))
        assert "fetch(" not in text or name == "api.js"
    assert len(called) > 15
    assert {f"/stepwire.v1.{method}" for method in called} <= RULES.keys()
    assert re.findall(r"fetch\((\S+)", (CONSOLE / "api.js").read_text()) == ["`/stepwire.v1.${method}`,"]


def test_the_rules_find_what_they_look_for() -> None:
    assert ELSEWHERE.search('import "https://cdn.example/x.js"')
    assert ELSEWHERE.search("url(//cdn.example/x.woff)")
    assert not ELSEWHERE.search('"http://www.w3.org/2000/svg"')
    assert PARSED.search("element.innerHTML = text")
    assert PARSED.search('setTimeout("go()", 1)')


def test_sizes_are_those_of_one_type_scale_and_one_spacing_scale() -> None:
    style = (CONSOLE / "style.css").read_text()
    said = re.match(r"/\* One type scale \(([\d ]+)\), one spacing scale \(([\d ]+)\)", style)
    assert said is not None
    fonts = re.findall(r"font(?:-size)?: (\d+)px", style)
    assert set(fonts) <= set(said[1].split())
    spaces = [
        size
        for value in re.findall(r"(?:margin|padding|gap)[a-z-]*: ([^;}]+)", style)
        for size in re.findall(r"(?<![\d.])(\d+)px", value)
        if "calc" not in value
    ]
    assert set(spaces) <= set(said[2].split())


def test_the_files_are_served_as_they_are() -> None:
    # No build step: what is in the folder is what the browser gets, and it needs nothing else.
    assert {name.rpartition(".")[2] for name in FILES} == {"js", "css", "html", "svg"}
