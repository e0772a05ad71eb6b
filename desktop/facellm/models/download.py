"""Fetches one address into one file: resumes, retries, reports progress, gives up soon where nothing answers."""

from __future__ import annotations

import http.client
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from typing import IO

from facellm import __version__
from facellm.core.errors import FaceLLMError

Progress = Callable[[float], None]

#: Seconds for name lookup and connection together. Walled-off networks either refuse at once (0.01 s
#: measured) or swallow packets, where the system's own limits are minutes; reachable hosts answer in well under 1 s.
CONNECT_S = 2.0
#: Seconds a host stays known as unreachable, so that a run pays ``CONNECT_S`` once and not once an asset.
REMEMBER_S = 60.0
#: Seconds without a byte before the connection counts as broken.
SILENCE_S = 20.0
#: Attempts after a broken connection; each goes on where the last one ended.
ATTEMPTS = 4
CHUNK = 1 << 18
#: Answers of a server that may differ in a moment: too many requests, and its own failures.
_PASSING = (429, 500, 502, 503, 504)

_unreachable: dict[tuple[str, int], float] = {}


class DownloadError(FaceLLMError):
    """An address could not be fetched. Where the server refused: its ``status`` and its answer's ``headers``."""

    status: int | None = None
    headers: Message | None = None


class _Broken(Exception):
    """The connection ended early or the server failed for the moment: worth another attempt."""


def download(url: str, part: Path, size: int, on_progress: Progress | None = None, *, token: str | None = None) -> None:
    """Fetch ``url`` into ``part``, going on after the bytes that are there. ``size``: bytes expected.

    ``token``: a log-in at the address's host; another one that the server sends us on to is not told it.

    Raises ``DownloadError`` when the server cannot be reached, refuses, offers another size, or the
    connection breaks ``ATTEMPTS`` times; what has arrived stays in ``part`` for the next call.
    """
    check_reachable(url)
    for attempt in range(ATTEMPTS):
        try:
            _go_on(_request(url, token), part, size, on_progress)
            return
        except _Broken as error:
            if attempt + 1 == ATTEMPTS:
                raise DownloadError(f"the connection broke {ATTEMPTS} times: {error}") from error
            time.sleep(0.2 * 2**attempt)


def check_reachable(url: str) -> None:
    """Raise ``DownloadError`` when nobody answers at the address, or at its proxy, within ``CONNECT_S``.

    In a thread, because no timeout ends a name lookup.
    """
    place = _place_to_connect(url)
    if time.monotonic() - _unreachable.get(place, -REMEMBER_S) < REMEMBER_S:
        raise DownloadError(f"{place[0]} did not answer a moment ago")
    outcome: list[OSError | None] = []

    def knock() -> None:
        try:
            socket.create_connection(place, CONNECT_S).close()
            outcome.append(None)
        except OSError as error:
            outcome.append(error)

    thread = threading.Thread(target=knock, name="facellm-knock", daemon=True)
    thread.start()
    thread.join(CONNECT_S)
    if not outcome or outcome[0] is not None:
        _unreachable[place] = time.monotonic()
        reason = outcome[0] if outcome else f"no answer within {CONNECT_S:.0f} s"
        raise DownloadError(f"{place[0]} cannot be reached: {reason}")


def _place_to_connect(url: str) -> tuple[str, int]:
    """Host and port of the address, or of the proxy that stands before it."""
    parts = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.netloc):
        parts = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    try:
        return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise DownloadError(f"{url} is no usable address: {error}") from error


class _SameHost(urllib.request.HTTPRedirectHandler):
    """Keeps the log-in where a server sends us on to itself, as the hub does where a model was renamed."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        sent_on = super().redirect_request(req, fp, code, msg, headers, newurl)
        log_in = req.unredirected_hdrs.get("Authorization")
        # Not by the requests' own host: behind a proxy that is the proxy.
        before, now = urllib.parse.urlsplit(req.full_url), urllib.parse.urlsplit(newurl)
        if sent_on and log_in and (before.scheme, before.netloc) == (now.scheme, now.netloc):
            sent_on.add_unredirected_header("Authorization", log_in)
        return sent_on


def _request(url: str, token: str | None) -> urllib.request.Request:
    agent = f"facellm/{__version__}"
    request = urllib.request.Request(url, headers={"User-Agent": agent})  # noqa: S310 - from our manifest or HF_ENDPOINT
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    return request


def _go_on(request: urllib.request.Request, part: Path, size: int, on_progress: Progress | None) -> None:
    have = part.stat().st_size if part.exists() else 0
    if have >= size:  # whole or too long, and yet not accepted: begin anew
        part.unlink(missing_ok=True)
        have = 0
    if have:
        request.add_header("Range", f"bytes={have}-")
    with _answer(request, part) as answer:
        resumed = have > 0 and answer.status == 206
        _check_size(answer, have if resumed else 0, size)
        _receive(answer, part, have if resumed else 0, size, on_progress)


def _answer(request: urllib.request.Request, part: Path) -> http.client.HTTPResponse:
    try:
        # An opener of its own: the shared one keeps the proxies of its first use.
        answer: http.client.HTTPResponse = urllib.request.build_opener(_SameHost).open(request, timeout=SILENCE_S)
        return answer
    except urllib.error.HTTPError as error:
        if error.code == 416:
            part.unlink(missing_ok=True)
            raise _Broken("the server could not go on from there") from error
        if error.code in _PASSING:
            raise _Broken(f"the server answered {error.code}") from error
        refusal = DownloadError(f"the server answered {error.code} {error.reason}")
        refusal.status, refusal.headers = error.code, error.headers
        raise refusal from error
    except urllib.error.URLError as error:
        raise DownloadError(f"not reachable: {error.reason}") from error
    except (http.client.HTTPException, OSError) as error:
        raise _Broken(str(error) or type(error).__name__) from error


def _read(answer: http.client.HTTPResponse) -> bytes:
    """The next bytes. What fails here is the network's (TLS and routing errors too), never the disk's."""
    try:
        return answer.read(CHUNK)
    except (http.client.HTTPException, OSError) as error:
        raise _Broken(str(error) or type(error).__name__) from error


def _check_size(answer: http.client.HTTPResponse, start: int, size: int) -> None:
    """A log-in page or another file has another size: say so before it is taken for a beginning of ours."""
    length = answer.headers.get("Content-Length")
    if length is not None and start + int(length) != size:
        raise DownloadError(f"the server offers {start + int(length):,} bytes where {size:,} are expected")
    told = answer.headers.get("Content-Range", "")
    if start and not told.startswith(f"bytes {start}-"):
        raise DownloadError(f"the server goes on from elsewhere ({told or 'no Content-Range'})")


def _receive(answer: http.client.HTTPResponse, part: Path, have: int, size: int, on_progress: Progress | None) -> None:
    with part.open("ab" if have else "wb") as file:
        while chunk := _read(answer):
            file.write(chunk)
            have += len(chunk)
            if have > size:
                raise DownloadError(f"the server sends more than the {size:,} bytes expected")
            if on_progress:
                on_progress(have / size)
    if have < size:
        raise _Broken(f"{have:,} of {size:,} bytes arrived")
