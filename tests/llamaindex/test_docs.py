"""The five minutes of docs/llamaindex.md: what it tells to save is saved, served and talked to, through a kill."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.serving import ROOT, ServerProcess

PAGE = (ROOT / "docs" / "llamaindex.md").read_text(encoding="utf-8")


def save(name: str, folder: Path) -> str:
    """Save the file that the page tells to save under this name."""
    found = re.search(rf"```python\n(# {re.escape(name)}\n.*?)```", PAGE, re.DOTALL)
    assert found is not None
    (folder / name).write_text(found[1], encoding="utf-8")
    return found[1]


@pytest.mark.timeout(300)
def test_what_the_page_tells_to_do(tmp_path: Path) -> None:
    save("agents.py", tmp_path)
    talk = save("talk.py", tmp_path)
    with ServerProcess(tmp_path / "data", [f"{tmp_path / 'agents.py'}:agent"], timeout=120) as server:
        assert "127.0.0.1:50051" in talk
        (tmp_path / "talk.py").write_text(talk.replace("127.0.0.1:50051", server.address), encoding="utf-8")
        client = subprocess.Popen(
            [sys.executable, "talk.py"], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert client.stdin is not None
        assert client.stdout is not None
        asked = client.stdout.read(len("Refund A-17? "))
        server.kill()
        server.start()
        said, _ = client.communicate("yes\n", timeout=120)
    assert asked == "Refund A-17? "
    assert said == "Done. A-17: yes\n"
