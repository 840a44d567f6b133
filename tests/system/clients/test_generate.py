"""`stepwire generate`: what it writes compiles, and starts runs with typed input and typed events."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tests.serving import COMMAND, ROOT
from tests.system.clients.odd_flows import OrderFlow
from tests.system.clients.programs import go_module, run

from stepwire.cli.generating.python import GENERATOR
from stepwire.server.testing import serve

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SPEC = "tests/system/clients/odd_flows.py:OrderFlow=orders"


def generate(language: str, out: Path, workflow: str = SPEC, *options: str, path: str = "") -> None:
    environment = {**os.environ, "PATH": os.pathsep.join(filter(None, [path, os.environ.get("PATH", "")]))}
    command = [str(COMMAND), "generate", workflow, str(out), "--language", language, *options]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr


def test_python(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    subprocess.run([sys.executable, "-m", "venv", tools], check=True)
    pip = [str(tools / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, GENERATOR], check=True)
    program = """
        import asyncio, sys
        from orders import EVENTS, BoxLine, Line, Order, OrderState, Packed, result, start_run
        from stepwire.client import Client

        async def main():
            async with Client(sys.argv[1]) as client:
                run = await start_run(client, Order(lines=[Line(total="1.50", colour="blue")], orderId="o1"))
                async for event in run.events():
                    if isinstance(event, Packed):
                        assert isinstance(event.box, BoxLine) and event.box.inside.colour == "blue", event
                assert (await result(run)).result == {"lines": 1, "seconds": 90}
                assert (await run.context.store.get_state(as_=OrderState)).seen == 0
                assert Packed in EVENTS

        asyncio.run(main())
    """
    (tmp_path / "use.py").write_text(textwrap.dedent(program))
    with serve(orders=OrderFlow) as server:
        generate("python", tmp_path / "orders.py", "orders", "--server", server.address, path=str(tools / "bin"))
        run([sys.executable, "use.py", server.address], tmp_path)
    source = (tmp_path / "orders.py").read_text()
    assert "class BoxInt(" in source
    assert "Total" not in source


@pytest.mark.skipif(shutil.which("go") is None, reason="go is not installed")
def test_go(tmp_path: Path) -> None:
    program = """
        package main

        import (
            "context"
            "encoding/json"
            "fmt"
            "os"

            "example.com/use/orders"
            stepwire "github.com/stepwire/stepwire/clients/go"
        )

        func main() {
            ctx := context.Background()
            client := stepwire.Must(stepwire.New(os.Args[1], stepwire.Options{}))
            blue := orders.ColourBlue
            line := orders.Line{Total: "1.50", Colour: &blue}
            day, lasts := "2027-01-31", "PT1M"
            order := orders.Order{Lines: []orders.Line{line}, OrderID: "o1", Day: &day, Lasts: &lasts}
            for _, text := range []string{`"2027-01-31T10:00:00.5"`, `"2027-01-31T10:00:00+01:00"`, `null`} {
                order.Due = nil
                stepwire.Must(0, json.Unmarshal([]byte(text), &order.Due))
                run := stepwire.Must(orders.StartRun(ctx, client, order))
                for event, err := range run.Events(ctx) {
                    if packed, ok := stepwire.Must(orders.Decode(stepwire.Must(event, err))).(orders.Packed); ok {
                        due := string(stepwire.Must(json.Marshal(packed.Due)))
                        fmt.Println(*packed.Box.Inside.Colour, packed.Count, due)
                    }
                }
                fmt.Println(stepwire.Must(orders.WaitResult(ctx, run)).Result)
            }
            fmt.Println(json.Unmarshal([]byte(`"tomorrow"`), &order.Due) != nil)
        }
    """
    (tmp_path / "main.go").write_text(textwrap.dedent(program))
    generate("go", tmp_path / "orders" / "types.go")
    go_module(tmp_path)
    assert run(["gofmt", "-l", "orders"], tmp_path) == ""
    run(["go", "vet", "./orders"], tmp_path, GOFLAGS="-mod=mod")
    with serve(orders=OrderFlow) as server:
        output = run(["go", "run", ".", server.address], tmp_path, GOFLAGS="-mod=mod")
    result = "map[lines:1 seconds:60]"
    assert output.splitlines() == [
        'blue 1 "2027-01-31T10:00:00.5"',
        result,
        'blue 1 "2027-01-31T10:00:00+01:00"',
        result,
        "blue 1 null",
        result,
        "true",
    ]


@pytest.mark.skipif(shutil.which("npx") is None, reason="npx is not installed")
def test_typescript(tmp_path: Path) -> None:
    package = ROOT / "clients" / "typescript"
    if not (package / "dist" / "node.js").exists():
        pytest.skip("clients/typescript was not built: make clients")
    (tmp_path / "node_modules" / "@stepwire").mkdir(parents=True)
    (tmp_path / "node_modules" / "@stepwire" / "client").symlink_to(package)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    generate("typescript", tmp_path / "orders.ts")
    program = """
        import { connect } from "@stepwire/client";
        import { type Colour, type Line, type Part, startRun } from "./orders.js";

        const client = connect(ADDRESS);
        const line: Line = { total: "1.50", colour: "blue" };
        const hidden: Part = { colour: "red" satisfies Colour, parts: [{}] };
        const run = await startRun(client, { lines: [line], orderId: "o1", lasts: "PT1M", hidden });
        for await (const event of run.events()) {
          if (event.type === "Packed") console.log(event.data.box.inside.colour, event.data.count);
        }
        const shipped = await run.result();
        console.log(shipped.result.lines, shipped.result.seconds);
        client.close();
    """
    tsc = str(package / "node_modules" / ".bin" / "tsc")
    compiler = [tsc, "--strict", "--target", "es2022", "--module", "nodenext", "--skipLibCheck"]
    with serve(orders=OrderFlow) as server:
        (tmp_path / "use.ts").write_text(textwrap.dedent(program).replace("ADDRESS", f'"{server.address}"'))
        run([*compiler, "use.ts"], tmp_path)
        assert run(["node", "use.js"], tmp_path).splitlines() == ["blue 1", "1 60"]
    source = (tmp_path / "orders.ts").read_text()
    assert re.findall(r"(?:interface|type) (\w*[A-Za-z]\d)\b", source) == []
    assert "colour?: Colour;" in source
    for wrong in ('{ lines: [], size: "huge" }', "{ lines: [], sise: 1 }", "{}"):
        (tmp_path / "use.ts").write_text(
            'import { connect } from "@stepwire/client";\nimport { startRun } from "./orders.js";\n'
            f'await startRun(connect("127.0.0.1:1"), {wrong});\n'
        )
        checker = [*compiler, "--noEmit", "use.ts"]
        done = subprocess.run(checker, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode != 0, wrong
        assert "use.ts(3," in done.stdout, done.stdout
