"""Fetches one address to one file: resumes, retries, reports progress, leaves nothing half-written."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from facellm.core.errors import FaceLLMError

Progress = Callable[[float], None]

#: Seconds to connect or to wait for data. A wall that drops packets costs this much once a source.
TIMEOUT_S = 10.0
#: Attempts after a broken connection; each goes on where the last one ended.
ATTEMPTS = 4
CHUNK = 1 << 18


class DownloadError(FaceLLMError):
    """An address could not be fetched."""


def download(url: str, part: Path, size: int, on_progress: Progress | None = None) -> None:
    """Fetch ``url`` into ``part`` (appending to what is there). ``size``: bytes expected.

    Raises ``DownloadError`` when the server refuses or the connection breaks ``ATTEMPTS`` times;
    what has arrived stays in ``part`` for the next try.
    """
    for attempt in range(ATTEMPTS):
        try:
            _continue(url, part, size, on_progress)
            return
        except urllib.error.HTTPError as error:
            if error.code == 416:
                part.unlink(missing_ok=True)
                continue
            raise DownloadError(f"the server answered {error.code} {error.reason}") from error
        except urllib.error.URLError as error:
            raise DownloadError(f"not reachable: {error.reason}") from error
        except (OSError, EOFError) as error:
            if attempt + 1 == ATTEMPTS:
                raise DownloadError(f"the connection broke {ATTEMPTS} times: {error}") from error
            time.sleep(0.2 * 2**attempt)


def _continue(url: str, part: Path, size: int, on_progress: Progress | None) -> None:
    have = part.stat().st_size if part.exists() else 0
    if have >= size:
        part.unlink()
        have = 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - addresses come from our manifest
        resumed = have > 0 and answer.status == 206
        have = have if resumed else 0
        with part.open("ab" if resumed else "wb") as file:
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                have += len(chunk)
                if have > size:
                    raise DownloadError(f"the server sends more than the {size:,} bytes expected")
                if on_progress:
                    on_progress(have / size)
    if have < size:
        raise EOFError(f"{have:,} of {size:,} bytes")
