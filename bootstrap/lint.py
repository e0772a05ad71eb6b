"""Style, types and import contracts, each in full; exit 1 when any of them fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
CHECKS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy", "desktop/facellm", "training/facellm_training", "converters/facellm_converters", "bootstrap", "run.py"),
    ("lint-imports",),
)


def main() -> int:
    failed = [
        " ".join(check) for check in CHECKS if subprocess.run([BIN / check[0], *check[1:]], cwd=ROOT, check=False).returncode
    ]
    print(f"lint: {', '.join(failed)} failed" if failed else "lint: all clean")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
