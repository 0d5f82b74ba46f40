#!/usr/bin/env python3
"""Set up and run: `python3 make.py demo`, `test` or `docs`. Needs Python 3.11 and nothing else.

It makes `.venv` beside this file, installs the set in constraints.txt, and does the task in there. Anything after
`demo` goes to `live-bcdi demo`, anything after `test` to pytest; `docs` are then in build/docs.
"""

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
VENV = HERE / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
INSTALLED = VENV / "installed"
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS", "NUMBA")}

# Most tests with real processes wait for each other; a file's tests share what they start. The slow ones go first.
IN_TWO = ("--numprocesses", "2", "--dist", "loadfile", "--no-loadscope-reorder")
# Everything anew: a warning of a page that did not change would be told once and then forgotten.
DOCS = ("sphinx-build", "--fail-on-warning", "--fresh-env", "--quiet", "docs", "build/docs")
CHECKS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy",),
    ("lint-imports",),
    DOCS,
)


def set_up() -> None:
    """Make the virtual environment and install into it, unless that was done for these very files."""
    wanted = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in ("pyproject.toml", "constraints.txt")))
    if INSTALLED.exists() and INSTALLED.read_text() == wanted.hexdigest():
        return
    if sys.version_info < (3, 11):
        sys.exit(f"live_bcdi needs Python 3.11 or newer; this is {sys.version.split()[0]}")
    print("setting up .venv (a few minutes the first time)", flush=True)
    if not (BIN / "pip").exists() and not (BIN / "pip.exe").exists():
        venv.create(VENV, with_pip=True)
    run("python", "-m", "pip", "install", "--quiet", "--editable", ".[dev]", "--constraint", "constraints.txt")
    INSTALLED.write_text(wanted.hexdigest())


def run(command: str, *arguments: str) -> None:
    """Run a command of the virtual environment here; leave with its status where it fails."""
    result = subprocess.run([str(BIN / command), *arguments], cwd=HERE, env={**os.environ, **ONE_THREAD})
    if result.returncode:
        sys.exit(result.returncode)


def main() -> None:
    task, *rest = sys.argv[1:] or ["help"]
    if task == "demo":
        set_up()
        run("live-bcdi", "demo", *rest)
    elif task == "test":
        set_up()
        for check in CHECKS if not rest else ():
            run(*check)
        run("pytest", *(rest or IN_TWO))
    elif task == "docs":
        set_up()
        run(*DOCS)
    else:
        sys.exit(f"usage: python3 {Path(__file__).name} demo | test | docs")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
