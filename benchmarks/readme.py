"""The figures of the README, taken from docs/performance.md: `python -m benchmarks.readme` writes them."""

from __future__ import annotations

import re

from benchmarks.report import PAGE, markdown
from tests.serving import ROOT

__all__ = ["rendered", "shown", "write"]

README = ROOT / "README.md"
BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->\n"

OURS = "The engine in process"
OTHER = "The same with llama-index-workflows "
PEER = "Beside the peer, each by its own Python client"
IN_PROCESS = {
    "a step of a chain": "a step of a chain (",
    "fan-out over 8 workers and collect, an event": "fan-out over 8 workers, collected, an event (",
    "a run of one step": "a trivial run, one after the other (",
    "memory of a run that waits": "memory of a parked run",
}
SERVED = {
    "runs of one step, start to result, 64 at a time": "start → result, 64 in flight (SQLite)",
    "events of one run, streamed to a client": "one run's stream (SQLite)",
    "from an answer to the next question, median": "answer → next question, p50 (SQLite)",
}


def rendered(page: str) -> str:
    """Return the README's figures as `page` has them. LookupError when it lacks one."""
    tables = {
        heading.strip(): body.splitlines() for heading, body in re.findall(r"(?ms)^## (.*?)$(.*?)(?=^## |\Z)", page)
    }
    others = [heading for heading in tables if heading.startswith(OTHER)]
    if not others:
        raise LookupError(OTHER)
    names = [f"LlamaIndex Workflows {heading.removeprefix(OTHER)}" for heading in others]
    lines = [
        [title, *(_find(tables[heading], start)[1] for heading in (OURS, *others))]
        for title, start in IN_PROCESS.items()
    ]
    found = {title: _find(tables[PEER], start) for title, start in SERVED.items()}
    served = [[title, row[1], row[2].rpartition(", ")[0]] for title, row in found.items()]
    peer = next(iter(found.values()))[2].rpartition(", ")[2]
    text = markdown(["in process", "Stepwire", *names], lines)
    text += f"\n\n{markdown(['served, on SQLite', 'Stepwire', peer], served)}\n"
    return text.replace(" 1/s", " a second").replace(" events/s", " a second")


def _find(lines: list[str], start: str) -> list[str]:
    for line in lines:
        if line.startswith(f"| {start}"):
            return [cell.strip() for cell in line.strip("|").split("|")]
    raise LookupError(start)


def shown(readme: str) -> str:
    """Return the figures that a README has."""
    return readme.partition(BEGIN)[2].partition(END)[0]


def write() -> None:
    """Put the figures of the page into the README. LookupError when the page lacks one."""
    text = README.read_text(encoding="utf-8")
    README.write_text(text.replace(shown(text), rendered(PAGE.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    write()
