"""Generate and check the contract: `python tools/protos.py generate | deps | check | breaking`."""

from __future__ import annotations

import filecmp
import io
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.metadata import files as distribution_files
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
CLIENT = ROOT / "client"
DEPS = ".deps"
BUF = Path(sys.prefix) / "bin" / "buf"


def common_protos() -> Path:
    """Return the include directory of the installed googleapis-common-protos."""
    for file in distribution_files("googleapis-common-protos") or ():
        if file.as_posix() == "google/rpc/status.proto":
            return Path(str(file.locate())).parents[2]
    sys.exit("googleapis-common-protos is not installed: run `make venv`")


def generate(out: Path) -> None:
    """Write the Python modules of every proto file below `out`."""
    sources = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.glob("stepwire/v1/*.proto"))
    if not sources:
        sys.exit("protos/stepwire/v1 holds no proto files")
    outputs = [f"--{kind}_out={out}" for kind in ("python", "pyi", "grpc_python")]
    includes = [f"-I{PROTOS}", f"-I{common_protos()}"]
    command = [sys.executable, "-m", "grpc_tools.protoc", *includes, *outputs, *sources]
    if (code := subprocess.run(command, cwd=PROTOS, check=False).returncode) != 0:
        sys.exit(code)


def generated(root: Path) -> dict[str, Path]:
    """Map the name of every generated module below `root` to its path."""
    found = (path for path in root.glob("stepwire/v1/*_pb2*") if path.suffix in {".py", ".pyi"})
    return {path.name: path for path in found}


def regenerate() -> None:
    """Generate into client/, without modules of proto files that are gone."""
    with tempfile.TemporaryDirectory() as temporary:
        generate(Path(temporary))
        fresh = generated(Path(temporary))
        target = CLIENT / "stepwire" / "v1"
        target.mkdir(parents=True, exist_ok=True)
        for name, path in generated(CLIENT).items():
            if name not in fresh:
                path.unlink()
        for name, path in fresh.items():
            shutil.copyfile(path, target / name)


def check() -> None:
    """Exit with a message unless the committed code is what the protos generate."""
    with tempfile.TemporaryDirectory() as temporary:
        generate(Path(temporary))
        fresh, committed = generated(Path(temporary)), generated(CLIENT)
        stale = sorted(
            name
            for name in fresh.keys() | committed.keys()
            if name not in fresh
            or name not in committed
            or not filecmp.cmp(fresh[name], committed[name], shallow=False)
        )
    if stale:
        sys.exit(f"client/stepwire/v1 differs from protos ({', '.join(stale)}): run `make protos`")
    print("generated code is up to date")


def copy_deps(protos: Path) -> None:
    """Put the google/rpc protos where buf.yaml looks for them."""
    target = protos / DEPS / "google" / "rpc"
    target.mkdir(parents=True, exist_ok=True)
    for path in (common_protos() / "google" / "rpc").glob("*.proto"):
        shutil.copyfile(path, target / path.name)


def git(*arguments: str) -> bytes | None:
    """Return what git prints, or None when it fails."""
    run = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=False)
    return run.stdout if run.returncode == 0 else None


def base_ref() -> str | None:
    """Return the ref to stay compatible with: the last tag, else main, that holds protos."""
    tag = (git("describe", "--tags", "--abbrev=0") or b"").decode().strip()
    for ref in filter(None, (tag, "main", "origin/main")):
        if git("ls-tree", "-r", "--name-only", ref, "protos/stepwire"):
            return ref
    return None


def breaking() -> None:
    """Compare the contract with the base ref; exit with buf's code when it breaks clients."""
    ref = base_ref()
    if ref is None:
        print("no tag or main branch holds protos yet: nothing to break")
        return
    archive = git("archive", "--format=zip", ref, "protos")
    if archive is None:
        sys.exit(f"git cannot read protos at {ref}")
    with tempfile.TemporaryDirectory() as temporary:
        with zipfile.ZipFile(io.BytesIO(archive)) as packed:
            packed.extractall(temporary)
        base = Path(temporary) / "protos"
        # Today's rules read both sides; the base may have had others, or none.
        shutil.copyfile(PROTOS / "buf.yaml", base / "buf.yaml")
        copy_deps(base)
        command = [str(BUF), "breaking", str(PROTOS), "--against", str(base)]
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
    if code != 0:
        sys.exit(code)
    print(f"the contract is compatible with {ref}")


def main() -> None:
    """Run the command that the first argument names."""
    commands = {
        "generate": regenerate,
        "deps": lambda: copy_deps(PROTOS),
        "check": check,
        "breaking": breaking,
    }
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        sys.exit(f"usage: protos.py {'|'.join(commands)}")
    commands[sys.argv[1]]()


if __name__ == "__main__":
    main()
