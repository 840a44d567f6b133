"""Review a package that Python ships: fan out, collect, ask a human, write a report.

    stepwire serve examples/code_review.py:CodeReview=code_review

Every module of the package becomes an event; several workers parse and measure them at the same time. When all are
in, a human decides about the worst findings, and the decision goes into a Markdown report.
"""

import ast
import importlib.util
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, field_validator

from stepwire.workflow import (
    Context,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)

MAX_COMPLEXITY = 10
MAX_LINES = 60
MAX_ARGUMENTS = 7
ASKED_ABOUT = 3
"""How many of the worst findings the human is asked about."""

_PARSING = threading.Lock()
"""CPython 3.11, for one, counts the depth of its parser for all threads together: two at once can fail each other."""

FunctionDef = ast.FunctionDef | ast.AsyncFunctionDef
Decision = Literal["ignore", "ticket", "block"]


class Finding(BaseModel):
    """Something that a reviewer would remark on; the higher the score, the worse."""

    module: str
    line: int
    kind: str
    what: str
    score: int

    def __str__(self) -> str:
        return f"{self.module}:{self.line}: {self.what}"


class ReviewRequest(StartEvent):
    """Begin with a package and where to write: the report, and a line for each module reviewed."""

    package: str = "email"
    report: str
    work_log: str

    @field_validator("package")
    @classmethod
    def _ships_with_python(cls, name: str) -> str:
        if name not in sys.stdlib_module_names:
            raise ValueError("not a package of the standard library")
        return name


class ModuleToReview(Event):
    """Have a worker review a module."""

    name: str
    path: str
    work_log: str


class ModuleReviewed(Event):
    """Report what a worker found in a module."""

    name: str
    lines: int
    functions: int
    findings: list[Finding]


class Progress(Event):
    """Tell the stream how far the review is."""

    name: str
    findings: int
    reviewed: int
    total: int


class AllReviewed(Event):
    """Hand over everything once all modules are in, the worst first."""

    findings: list[Finding]


class ReviewQuestion(InputRequiredEvent):
    """Ask what to do about the worst findings."""

    text: str
    worst: list[Finding]


class ReviewDecision(HumanResponseEvent):
    """Answer a ReviewQuestion."""

    decision: Decision
    by: str = ""


class Decided(Event):
    """Hand the decision to the report."""

    decision: Decision
    by: str
    findings: list[Finding]


class ReviewResult(StopEvent):
    """End the review."""

    package: str
    modules: int
    findings: int
    decision: Decision
    report: str


class ReviewState(BaseModel):
    """Keep the counts of a review, and what a client may change while it runs: `reviewer` and `report`."""

    package: str = ""
    total: int = 0
    reviewed: int = 0
    lines: int = 0
    by_module: dict[str, int] = Field(default_factory=dict)
    by_kind: dict[str, int] = Field(default_factory=dict)
    reviewer: str = ""
    report: str = ""


class CodeReview(Workflow):
    """Review every module of a package and let a human decide about the worst findings."""

    @step
    async def plan(self, ctx: Context[ReviewState], ev: ReviewRequest) -> list[ModuleToReview]:
        """Find the modules and send each to a worker."""
        modules = dict(find_modules(ev.package))
        async with ctx.store.edit_state() as state:
            state.package = ev.package
            state.total = len(modules)
            state.report = ev.report
        return [ModuleToReview(name=name, path=str(path), work_log=ev.work_log) for name, path in modules.items()]

    @step(num_workers=4)
    def review(self, ev: ModuleToReview) -> ModuleReviewed:
        """Review one module, in a thread; leave a line in the work log, so that each time it ran can be seen."""
        source = Path(ev.path).read_text(encoding="utf-8")
        with open(ev.work_log, "a", encoding="utf-8") as log:
            log.write(f"{ev.name} pid={os.getpid()}\n")
        with _PARSING:
            tree = ast.parse(source, ev.path)
        functions = sum(isinstance(node, FunctionDef) for node in ast.walk(tree))
        return ModuleReviewed(
            name=ev.name,
            lines=source.count("\n"),
            functions=functions,
            findings=sorted(findings_in(ev.name, tree), key=lambda finding: finding.line),
        )

    @step(num_workers=1)
    async def gather(self, ctx: Context[ReviewState], ev: ModuleReviewed) -> AllReviewed | None:
        """Count a module, tell of the progress, and go on when it was the last one."""
        async with ctx.store.edit_state() as state:
            # A step may run twice after a crash: counted is who is in the dict, not how often we came by.
            if ev.name not in state.by_module:
                state.by_module[ev.name] = len(ev.findings)
                state.lines += ev.lines
                state.by_kind = dict(Counter(state.by_kind) + Counter(found.kind for found in ev.findings))
            state.reviewed = reviewed = len(state.by_module)
            total = state.total
        ctx.write_event_to_stream(Progress(name=ev.name, findings=len(ev.findings), reviewed=reviewed, total=total))
        everything = ctx.collect_events(ev, [ModuleReviewed] * total)
        if everything is None:
            return None
        findings = [found for module in everything for found in module.findings]
        return AllReviewed(findings=sorted(findings, key=lambda found: (-found.score, found.module, found.line)))

    @step
    async def decide(self, ctx: Context[ReviewState], ev: AllReviewed) -> Decided:
        """Ask the human, however long that takes."""
        worst = ev.findings[:ASKED_ABOUT]
        if not worst:
            return Decided(decision="ignore", by="nobody", findings=[])
        package = await ctx.store.get("package")
        answer = await ctx.wait_for_event(
            ReviewDecision,
            waiter_event=ReviewQuestion(
                text=f"Findings in {package}: {len(ev.findings)}. What about the worst?", worst=worst
            ),
            waiter_id="decision",
            timeout=None,
        )
        by = answer.by or await ctx.store.get("reviewer") or "somebody"
        return Decided(decision=answer.decision, by=by, findings=ev.findings)

    @step
    def write_report(self, ctx: Context[ReviewState], ev: Decided) -> ReviewResult:
        """Write the report and end the run."""
        state = ctx.blocking.store.get_state()
        Path(state.report).write_text(render(state, ev), encoding="utf-8")
        return ReviewResult(
            package=state.package,
            modules=state.reviewed,
            findings=len(ev.findings),
            decision=ev.decision,
            report=state.report,
        )


def find_modules(package: str) -> Iterator[tuple[str, Path]]:
    """Give name and file of every module of a package, without importing any; a plain module is its own only one."""
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or []) if spec is not None else []
    if spec is not None and not folders and spec.origin is not None and spec.origin.endswith(".py"):
        yield package, Path(spec.origin)
        return
    for folder in folders:
        for path in sorted(Path(folder).rglob("*.py")):
            parts = [package, *path.relative_to(folder).with_suffix("").parts]
            if not {"test", "tests", "idle_test"} & set(parts):
                yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path
    if not folders:
        raise ValueError("the package has no Python source")


def findings_in(module: str, tree: ast.Module) -> Iterator[Finding]:
    """Give what a reviewer would remark on in a module."""

    def found(node: ast.AST, kind: str, what: str, score: int) -> Finding:
        return Finding(module=module, line=getattr(node, "lineno", 1), kind=kind, what=what, score=score)

    if ast.get_docstring(tree) is None and tree.body:
        yield found(tree, "docstring", "the module has no docstring", 2)
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield found(node, "bare except", "a bare except catches even SystemExit", 15)
        elif isinstance(node, ast.ClassDef):
            if not node.name.startswith("_") and ast.get_docstring(node) is None:
                yield found(node, "docstring", f"class {node.name} has no docstring", 1)
        elif isinstance(node, FunctionDef):
            if not node.name.startswith("_") and ast.get_docstring(node) is None:
                yield found(node, "docstring", f"{node.name}() has no docstring", 1)
            complexity = complexity_of(node)
            if complexity > MAX_COMPLEXITY:
                yield found(node, "complexity", f"{node.name}() has complexity {complexity}", complexity)
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MAX_LINES:
                yield found(node, "length", f"{node.name}() is {lines} lines long", lines // 10)
            count = len(node.args.posonlyargs) + len(node.args.args) + len(node.args.kwonlyargs)
            if count > MAX_ARGUMENTS:
                yield found(node, "arguments", f"{node.name}() takes {count} arguments", count)
            for default in [*node.args.defaults, *node.args.kw_defaults]:
                if isinstance(default, ast.List | ast.Dict | ast.Set):
                    yield found(default, "mutable default", f"{node.name}() has a mutable default", 12)


def complexity_of(function: FunctionDef) -> int:
    """Return McCabe's number: one more than the decisions, those of nested functions left out."""
    decisions = 1
    nodes: list[ast.AST] = list(ast.iter_child_nodes(function))
    while nodes:
        node = nodes.pop()
        if isinstance(node, FunctionDef | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(node, ast.BoolOp):
            decisions += len(node.values) - 1
        elif isinstance(node, ast.comprehension):
            decisions += 1 + len(node.ifs)
        elif isinstance(
            node,
            ast.If | ast.IfExp | ast.For | ast.AsyncFor | ast.While | ast.ExceptHandler | ast.Assert | ast.match_case,
        ):
            decisions += 1
        nodes.extend(ast.iter_child_nodes(node))
    return decisions


def render(state: ReviewState, ev: Decided) -> str:
    """Return the report as Markdown."""
    verdict = {
        "ignore": "The worst findings are accepted as they are.",
        "ticket": "The worst findings get a ticket each.",
        "block": "The worst findings block the release.",
    }[ev.decision]
    kinds = sorted(state.by_kind.items(), key=lambda item: (-item[1], item[0]))
    busiest = sorted(state.by_module.items(), key=lambda item: (-item[1], item[0]))[:10]
    lines = [
        f"# Review of `{state.package}`",
        "",
        f"{state.reviewed} modules, {state.lines} lines, {len(ev.findings)} findings.",
        "",
        f"**{ev.decision}** (by {ev.by}): {verdict}",
        "",
        "## The worst",
        "",
        *(f"{number}. `{found}`" for number, found in enumerate(ev.findings[:ASKED_ABOUT], 1)),
        "",
        "## By kind",
        "",
        "| kind | findings |",
        "| --- | ---: |",
        *(f"| {kind} | {count} |" for kind, count in kinds),
        "",
        "## By module",
        "",
        "| module | findings |",
        "| --- | ---: |",
        *(f"| `{name}` | {count} |" for name, count in busiest),
    ]
    return "\n".join(lines) + "\n"
