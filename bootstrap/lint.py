"""Style, types and import contracts, each in full; exit 1 when any of them fails."""

from __future__ import annotations

import subprocess
import sys

from bootstrap.places import ROOT, venv_python

PACKAGES = ("desktop/facellm", "training/facellm_training", "converters/facellm_converters", "bootstrap", "run.py")
CHECKS: tuple[tuple[str, ...], ...] = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy", *PACKAGES),
    ("lint-imports", "--no-cache"),
)


def main() -> int:
    """Run all checks; the programs are those of the environment that runs this."""
    failed = []
    for check in CHECKS:
        print(f"lint: {' '.join(check)}", flush=True)
        if subprocess.run([venv_python().parent / check[0], *check[1:]], cwd=ROOT, check=False).returncode:
            failed.append(" ".join(check))
    print(f"lint: failed: {'; '.join(failed)}" if failed else "lint: all clean")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
