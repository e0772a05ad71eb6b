"""Where a checkpoint comes from: a folder as it is, or a model of the hub, fetched first."""

from __future__ import annotations

import os
from pathlib import Path

from facellm.models.download import DownloadError
from facellm.models.hub_id import BadRevision, HubId, read_hub_id
from facellm_converters.checkpoint.hub import ADAPTER, CONFIGURATION, Fetch
from facellm_converters.checkpoint.hub_pair import PairKinds, PairNames, pick_pair
from facellm_converters.checkpoint.tensors import INDEX, some, weight_map
from facellm_converters.errors import BadCheckpoint, ConversionError
from facellm_converters.progress import Tell

#: Any of them set: nothing is asked of the network.
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "FACELLM_OFFLINE")
_LOCALLY = "or get its *.safetensors, *.json, *.jinja and tokenizer files in another way, and give their folder."
_LOG_IN = "with `hf auth login`, or set HF_TOKEN"


def resolve(name: str, *, revision: str | None, cache: Path | None, tell: Tell) -> Path:
    """The checkpoint's folder: ``name`` itself, or where the files of the hub's ``owner/name[@revision]`` now are.

    ``cache``: a folder laid out as the hub's cache; ``None``: the one that all programs of this user share. Told are
    bytes that are there, and bytes in all, of the configuration and then of the weights. Files that are in the cache
    are taken by their size; what arrives is compared by hash. When a fetch ends early, what has come is kept for the
    next one. ``HF_ENDPOINT``, ``HF_TOKEN`` and ``HF_HUB_OFFLINE`` are respected.

    Raises ``ConversionError`` where there is no such folder or model, where the hub refuses or cannot be reached, and
    where the disk has no room, which is found out before the weights are fetched; ``BadCheckpoint`` where what
    arrives is not what the hub lists, or the model has no safetensors.
    """
    hub = hub_id(name, revision)
    return Path(name).expanduser() if hub is None else _resolve(hub, cache, tell, None)[0]


def resolve_hub(hub: HubId, kinds: PairKinds, tell: Tell) -> tuple[Path, PairNames | None]:
    """As ``resolve``; where the model holds no safetensors but GGUF files, the pair of these kinds is fetched.

    The folder, and the pair's names in it. Raises ``ConversionError`` also where it has no such pair.
    """
    return _resolve(hub, None, tell, kinds)


def _resolve(hub: HubId, cache: Path | None, tell: Tell, kinds: PairKinds | None) -> tuple[Path, PairNames | None]:
    try:
        from huggingface_hub import constants
    except ImportError as error:
        raise ConversionError(
            f"Fetching {hub.repo} needs the package huggingface_hub, which is not installed.",
            "From a checkout run: python3 run.py setup training; elsewhere: pip install huggingface_hub.",
        ) from error
    root = Path(cache or constants.HF_HUB_CACHE).expanduser()
    if any(os.environ.get(each, "").upper() in ("1", "ON", "YES", "TRUE") for each in _OFFLINE):
        return _fetched_before(hub, root, kinds)
    # Read now, not when the library was imported.
    endpoint = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
    return _fetch(hub, root, endpoint, tell, kinds)


def hub_id(name: str, revision: str | None = None) -> HubId | None:
    """The model of the hub that ``name`` means; ``None`` for a folder. Raises ``ConversionError`` for neither."""
    path = Path(name).expanduser()
    if name and path.is_dir():
        if revision:
            raise ConversionError(f"{name} is a folder; it has no revision {revision}.", "Leave the revision out.")
        return None
    if name and path.exists():
        raise ConversionError(f"{name} is a file.", "Give the folder of the checkpoint.")
    try:
        found = read_hub_id(name, revision or "")
    except BadRevision as error:
        raise ConversionError(str(error), error.hint) from error
    if found is None:
        raise ConversionError(
            f"There is no folder {name!r}.",
            "Give the folder that save_pretrained wrote, or a model of the hub as owner/name.",
        )
    return found


def _fetch(hub: HubId, root: Path, endpoint: str, tell: Tell, kinds: PairKinds | None) -> tuple[Path, PairNames | None]:
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    # The base of what the library's HTTP client raises, whichever client that is.
    network: type[Exception] = HfHubHTTPError.__bases__[0]
    try:
        fetch = Fetch(hub, root, endpoint, tell, kinds)
        return fetch.run(), fetch.pair
    except DownloadError as error:
        said = error.headers.get("X-Error-Code", "") if error.headers else ""
        if error.status in (401, 403, 404):
            raise _refused(error.status, said, hub, endpoint) from error
        raise _unreachable(f" from {endpoint}: {error}", hub, root, kinds) from error
    except HfHubHTTPError as error:
        absent = isinstance(error, RepositoryNotFoundError)  # which the library reads from more than this header
        said = "RepoNotFound" if absent else error.response.headers.get("X-Error-Code", "")
        raise _refused(error.response.status_code, said, hub, endpoint) from error
    except (network, OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
            raise ConversionError(
                f"{error.filename or root} cannot be written: {error.strerror}.",
                "Make room or set HF_HUB_CACHE to another folder; what has arrived is kept.",
            ) from error
        if isinstance(error, network | OSError):
            reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
            raise _unreachable(f", the connection to {endpoint} failed: {reason}", hub, root, kinds) from error
        raise ConversionError(
            f"{endpoint} does not answer as the hub does: {str(error).splitlines()[0] if str(error) else error!r}.",
            f"Check HF_ENDPOINT and the network (is there a log-in page?), {_LOCALLY}",
        ) from error


def _refused(status: int, said: str, hub: HubId, endpoint: str) -> ConversionError:
    """What an answer other than success means. ``said``: its ``X-Error-Code``, empty where it has none."""
    page = f"{endpoint}/{hub.repo}"
    if said == "GatedRepo":
        return ConversionError(
            f"{hub.repo} is given only to those who have accepted its licence ({status}).",
            f"Accept it at {page}, then log in {_LOG_IN}.",
        )
    if said == "RevisionNotFound":
        return ConversionError(f"{hub.repo} has no revision {hub.revision}.", f"See {page}/commits for those it has.")
    if said == "RepoNotFound" or status == 404:
        return ConversionError(
            f"There is neither a folder {hub.repo} nor a model of that name at {endpoint}, or the model is private.",
            f"Check the name; for a private model log in {_LOG_IN}.",
        )
    if status in (401, 403):
        return ConversionError(
            f"{endpoint} does not let you read {hub.repo} ({status}).",
            f"Check the name, accept its licence at {page} if there is one to accept, and log in {_LOG_IN}.",
        )
    return ConversionError(
        f"{endpoint} answered {status} when asked for {hub.repo}.", "Try again later; what has arrived is kept."
    )


def _unreachable(how: str, hub: HubId, root: Path, kinds: PairKinds | None) -> ConversionError:
    try:
        _fetched_before(hub, root, kinds)
    except ConversionError:
        hint = f"Check the network and HF_ENDPOINT and try again (what has arrived is kept), {_LOCALLY}"
    else:
        hint = "Try again, or set HF_HUB_OFFLINE=1 to use what was fetched before."
    return ConversionError(f"{hub.repo} cannot be fetched{how}.", hint)


def _fetched_before(hub: HubId, root: Path, kinds: PairKinds | None) -> tuple[Path, PairNames | None]:
    """The model's folder in the cache, without asking the network, and the pair in it where it is one.

    Raises ``ConversionError`` where it is not whole.
    """
    commit = hub.commit_in(root)
    folder = hub.storage(root) / "snapshots" / commit
    if not commit or not folder.is_dir():
        raise ConversionError(
            f"{hub.repo} at {hub.revision} was not fetched before, and the network is not to be used.",
            f"Unset {', '.join(each for each in _OFFLINE if os.environ.get(each)) or 'HF_HUB_OFFLINE'}, {_LOCALLY}",
        )
    gguf = [file.name for file in folder.glob("*.gguf") if file.is_file()]
    if kinds and gguf and not any(folder.glob("*.safetensors")):
        return folder, pick_pair(hub.repo, gguf, kinds)
    wanted = set(weight_map(folder / INDEX).values()) if (folder / INDEX).is_file() else set()
    missing = sorted(name for name in wanted if not (folder / name).is_file())
    if not wanted and not any(file.is_file() for file in folder.glob("*.safetensors")):
        missing = ["*.safetensors"]
    if not (folder / CONFIGURATION).is_file() and not (folder / ADAPTER).is_file():
        missing.append(CONFIGURATION)
    if missing:
        raise BadCheckpoint(
            f"Of {hub.repo} only a part was fetched before; missing: {some(missing)}.",
            f"Fetch it with the network, {_LOCALLY}",
        )
    return folder, None
