"""What runs of the scripted agents are told, and what they tell."""

import json
from collections import Counter
from pathlib import Path


def calls(*wanted: tuple[str, dict]) -> str:
    return json.dumps(wanted)


def told(result) -> str:
    return result["response"]["blocks"][0]["text"]


def log_of(folder: Path) -> Counter[str]:
    return Counter((folder / "tools").read_text().splitlines())
