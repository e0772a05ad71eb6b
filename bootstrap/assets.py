"""Face models and the embedded model: fetched and built at the first start, glanced at by the next ones."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from bootstrap.console import SetupError
from bootstrap.places import ROOT, VENV, inner_environment, venv_python

#: What the program found when it last looked itself. It takes 0.2 s to look, these files' times and sizes none.
STAMP = VENV / ".assets.stamp"
#: Where the user's data are depends on these.
VARIABLES = ("FACELLM_HOME", "XDG_DATA_HOME", "HOME", "LOCALAPPDATA")
#: What decides which bytes the models must have.
INPUTS = ("desktop/facellm/models/*.*", "desktop/facellm/models/nano/*.*", "desktop/facellm/resources/nano/*.*")

FILES = """
import json
from facellm.models.packages import find_package
from facellm.models.store import AssetStore
store = AssetStore()
nano = find_package("nano", store)
print(json.dumps([str(file) for file in (store.path("face-landmarker"), store.path("yunet"), nano.llm, nano.mmproj)]))
"""


def ensure_assets() -> None:
    """Whatever is missing or out of date is fetched and built. Raises ``SetupError``."""
    if looked_at():
        return
    python, env = [str(venv_python()), "-P"], inner_environment()
    if subprocess.run([*python, "-m", "facellm.models.ensure"], env=env, check=False).returncode:
        raise SetupError("The models could not be made ready; the reason stands above.")
    told = subprocess.run([*python, "-c", FILES], env=env, stdout=subprocess.PIPE, encoding="utf-8", check=True).stdout
    files = [Path(file) for file in json.loads(told)]
    STAMP.write_text(json.dumps({"files": [str(file) for file in files], "state": _state(files)}), encoding="utf-8")


def looked_at() -> bool:
    """Whether all is as it was when the program itself last looked."""
    try:
        stamp = json.loads(STAMP.read_text("utf-8"))
        return bool(stamp["state"] == _state([Path(file) for file in stamp["files"]]))
    except (OSError, ValueError, KeyError):
        return False


def _state(files: list[Path]) -> list[object]:
    """Names, sizes and times, as JSON gives them back. Raises ``OSError`` when one of the files is gone."""
    inputs = sorted(path for pattern in INPUTS for path in ROOT.glob(pattern))
    seen = [(path, path.stat()) for path in (*inputs, *files)]
    places: list[object] = [os.environ.get(name) for name in VARIABLES]
    return places + [[str(path), stat.st_size, stat.st_mtime_ns] for path, stat in seen]
