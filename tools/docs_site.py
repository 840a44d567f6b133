"""Complete the documentation site: hooks of mkdocs (see mkdocs.yml).

Adds pages that are kept elsewhere in the repository, the reference of the contract from the protos' comments, and the
API reference. Links from a page to a file that is not on the site become its name; a link to a file that does not exist
fails the build.
"""

from __future__ import annotations

import posixpath
import re
import tempfile
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2
from grpc_tools import protoc
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
COPIED = {"README.md": "index.md", "SECURITY.md": "SECURITY.md", "CONTRIBUTING.md": "CONTRIBUTING.md"}
COPIED["CHANGELOG.md"] = "CHANGELOG.md"
"""Pages at the root of the repository, and their names on the site."""

MODULES = {
    "workflow": ("stepwire.workflow", "What authors of workflows import."),
    "hosting": ("stepwire.workflow.hosting", "What authors of hosts import."),
    "client": ("stepwire.client", "What callers in Python import."),
}
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_SCALARS = {
    descriptor_pb2.FieldDescriptorProto.Type.Value(name): name.removeprefix("TYPE_").lower()
    for name in descriptor_pb2.FieldDescriptorProto.Type.keys()  # noqa: SIM118 (an enum wrapper, not a dict)
}


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are not in docs/."""
    for source, target in COPIED.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, target, content=_LINK.sub(lambda link: _moved(link[1]), text)))
    for name, (module, about) in MODULES.items():
        page = f"# {module}\n\n{about}\n\n::: {module}\n    options:\n      show_root_heading: false\n"
        files.append(File.generated(config, f"reference/{name}.md", content=page))
    files.append(File.generated(config, "reference/contract.md", content=contract()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Point links at the site; name files that are not on it."""

    def on_site(link: re.Match[str]) -> str:
        target, _, anchor = link[2].partition("#")
        if not target or re.match(r"https?:|mailto:", target) or page.file.src_uri in COPIED.values():
            return link[0] if not target.startswith("../") else f"`{target.removeprefix('../')}`"
        here = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page.file.src_uri), target))
        if here in COPIED:
            return f"[{link[1]}]({COPIED[here]}{'#' + anchor if anchor else ''})"
        if here.startswith("docs/"):
            return link[0]
        if not (ROOT / here).exists():
            raise PluginError(f"{page.file.src_uri} links to {target}, which does not exist")
        return f"{link[1]} (`{here}`)"

    return re.sub(r"\[([^\]]*)\]\(([^)\s]+)\)", on_site, markdown)


def _moved(target: str) -> str:
    """Rewrite a link of a page at the root as one of a page in docs/."""
    if re.match(r"https?:|mailto:|#", target):
        return f"]({target})"
    path, _, anchor = target.partition("#")
    moved = COPIED.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else f"../{path}")
    return f"]({moved}{'#' + anchor if anchor else ''})"


def contract() -> str:
    """Return the reference of the protos as Markdown: services with their methods, then messages and enums."""
    folder = ROOT / "protos"
    with tempfile.NamedTemporaryFile(suffix=".binpb") as out:
        deps = folder / ".deps"
        command = ["protoc", f"-I{folder}", f"-I{deps}", f"-I{Path(protoc.__file__).parent / '_proto'}"]
        command += ["--include_source_info", f"--descriptor_set_out={out.name}"]
        command += sorted(str(path.relative_to(folder)) for path in (folder / "stepwire").rglob("*.proto"))
        if protoc.main(command) != 0:
            raise PluginError("the protos do not compile")
        found = descriptor_pb2.FileDescriptorSet.FromString(Path(out.name).read_bytes())
    lines = ["# The contract", "", "Package `stepwire.v1`, from the comments of `protos/stepwire/v1`.", ""]
    for file in found.file:
        comments = {tuple(place.path): place.leading_comments.strip() for place in file.source_code_info.location}
        for number, service in enumerate(file.service):
            lines += [f"## {service.name}", "", comments.get((6, number), ""), ""]
            for index, method in enumerate(service.method):
                lines += [f"### {service.name}.{method.name}", "", _signature(method), ""]
                lines += [comments.get((6, number, 2, index), ""), ""]
        for number, message in enumerate(file.message_type):
            lines += _message(message, (4, number), comments, message.name)
        for number, enum in enumerate(file.enum_type):
            lines += _enum(enum, (5, number), comments, enum.name)
    return "\n".join(lines)


def _signature(method: descriptor_pb2.MethodDescriptorProto) -> str:
    request = ("stream " if method.client_streaming else "") + method.input_type.rpartition(".")[2]
    response = ("stream " if method.server_streaming else "") + method.output_type.rpartition(".")[2]
    return f"`{method.name}({request}) → {response}`"


def _message(
    message: descriptor_pb2.DescriptorProto, place: tuple[int, ...], comments: dict[tuple[int, ...], str], name: str
) -> list[str]:
    """Return a message's section, nested messages and enums after it."""
    lines = [f"## {name}", "", comments.get(place, ""), ""]
    if message.field:
        lines += ["| field | type | meaning |", "| --- | --- | --- |"]
    for index, field in enumerate(message.field):
        kind = field.type_name.rpartition(".")[2] or _SCALARS[field.type]
        if field.label == field.LABEL_REPEATED:
            kind = f"repeated {kind}"
        meaning = " ".join(comments.get((*place, 2, index), "").split()).replace("|", "\\|")
        lines.append(f"| `{field.name}` | {kind} | {meaning} |")
    lines.append("")
    for index, nested in enumerate(message.nested_type):
        if not nested.options.map_entry:
            lines += _message(nested, (*place, 3, index), comments, f"{name}.{nested.name}")
    for index, enum in enumerate(message.enum_type):
        lines += _enum(enum, (*place, 4, index), comments, f"{name}.{enum.name}")
    return lines


def _enum(
    enum: descriptor_pb2.EnumDescriptorProto, place: tuple[int, ...], comments: dict[tuple[int, ...], str], name: str
) -> list[str]:
    """Return an enum's section."""
    lines = [f"## {name}", "", comments.get(place, ""), "", "| value | meaning |", "| --- | --- |"]
    for index, value in enumerate(enum.value):
        lines.append(f"| `{value.name}` | {' '.join(comments.get((*place, 2, index), '').split())} |")
    return [*lines, ""]
