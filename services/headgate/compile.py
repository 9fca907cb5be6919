"""``python -m headgate.compile``: the scoring path of this installation as machine code.

The modules of :data:`HALVES`, the router's and the worker's, are ordinary Python and stay it; mypyc
makes extension modules of them, which Python then prefers. It needs a C compiler, the extra
``compiled`` and a minute. ``--remove`` goes back.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from headgate.runtime.compiled import HALVES, SUFFIX, Half

ROOT = Path(__file__).resolve().parents[1]  # the folder on the module path
# As the sources are checked everywhere else, but for libraries without types.
_CHECKS = "[mypy]\nplugins = pydantic.mypy\nignore_missing_imports = True\n"


class CompileError(Exception):
    """Why nothing was compiled."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m headgate.compile", description=__doc__)
    parser.add_argument("--remove", action="store_true", help="go back to plain Python")
    chosen = parser.parse_args()
    try:
        if chosen.remove:
            said = f"{remove(ROOT)} compiled files removed"
        else:
            count = compile_into(ROOT)
            said = f"{count} modules compiled; services that run use them after a restart"
    except (CompileError, OSError) as error:
        sys.stderr.write(f"not compiled: {error}\n")
        return 1
    sys.stdout.write(f"{said}\n")
    return 0


def compile_into(root: Path) -> int:
    """Compile the modules under ``root``; how many. Raises CompileError, and then changes nothing.

    The work is done on a copy, so a compilation that fails leaves no half behind.
    """
    if find_spec("mypyc") is None:
        raise CompileError("mypyc is not installed: pip install 'headgate[compiled]'")
    if shutil.which(_compiler()) is None:
        raise CompileError(f"there is no C compiler ({_compiler()}); on Debian: apt install gcc")
    with tempfile.TemporaryDirectory(prefix="headgate-compile-") as name:
        copies = [_compile(half, root, Path(name) / half.package) for half in HALVES]
        remove(root)
        for half, copy in zip(HALVES, copies, strict=True):
            made = list(_compiled(copy))
            for path in made:
                shutil.copy2(path, root / path.relative_to(copy))
            half.write_record(root, next(path.name for path in made if path.parent == copy))
    return sum(len(half.modules) for half in HALVES)


def _compile(half: Half, root: Path, copy: Path) -> Path:
    """Make the extension modules of one half in a copy of its package; the copy."""
    shutil.copytree(root / half.package, copy / half.package, ignore=_no_machine_code)
    (copy / "mypy.ini").write_text(_CHECKS)
    done = subprocess.run(
        [sys.executable, "-m", "mypyc", *half.modules],
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CompileError(f"mypyc ended with\n{(done.stdout + done.stderr)[-2000:]}")
    return copy


def remove(root: Path) -> int:
    """Delete what was compiled before; how many files."""
    records = [root / half.record for half in HALVES]
    found = [*_compiled(root), *(path for path in records if path.exists())]
    for path in found:
        path.unlink()
    return len(found)


def _compiled(root: Path) -> Iterable[Path]:
    yield from root.glob(f"*__mypyc{SUFFIX}")  # what the others share
    for half in HALVES:
        yield from (root / half.package).rglob(f"*{SUFFIX}")  # also of what was listed once


def _compiler() -> str:
    """The program that Python's own extension modules are made with."""
    return (sysconfig.get_config_var("CC") or "cc").split()[0]


def _no_machine_code(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name.endswith((".so", ".pyc"))]


if __name__ == "__main__":
    sys.exit(main())
