"""The one stand-in for a paid service: a real HTTP server that speaks enough of OpenAI's API, and counts what it bills.

Its answers depend on the request alone, so that a disturbed run and an undisturbed one can be compared. What goes wrong
is drawn from ``faults`` for each request and try: throttle, busy, drop early, drop late, hang, broken, reject.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from threading import Lock, Thread
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

KEY, MODEL = "a-key-for-tests", "teacher-1"

_HAIR = ("black", "brown", "blond", "dark", "light", "red", "auburn")
_FORM = ("short", "long", "wavy", "curly", "straight", "tied back", "combed to one side", "loose")
_LIGHT = ("soft light from the left", "bright daylight", "dim light indoors", "a flash", "even light", "strong shadows")
_MOUTH = ("closed lips", "a broad smile with teeth", "a slight smile", "parted lips", "an open mouth", "pressed lips")
_POSE = ("turned to the left", "turned to the right", "frontal", "tilted", "slightly lowered", "raised")
_SCENE = ("a plain wall", "trees", "a street", "a curtain", "shelves", "a crowd", "the sky", "a dark room")


class TeacherServer(ThreadingHTTPServer):
    """A context manager that serves on loopback.

    ``paid``: how often each request was answered, and so billed; ``seconds``: how long an answer takes.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.faults: Callable[[str, int], str] = lambda _digest, _number: ""
        self.seconds = 0.0
        self.hang = 1.2
        self.retry_after = "0.05"
        self.schema = True
        self.stores = self.knows_store = True
        self.models = [MODEL]
        self.paid: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.running = self.most_running = 0
        self.stored: dict[str, dict[str, Any]] = {}
        self.files: dict[str, str] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        #: Of batches: how often one is looked at until it ends, and what becomes of its lines.
        self.looks = 2
        self.line_fault: Callable[[str, int], str] = lambda _key, _number: ""
        self.batch_end = "completed"
        self.drop_after_create = 0
        self.redirect = ""
        self.lock = Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def __enter__(self) -> Self:
        Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, _request: Any, _client: Any) -> None:
        """A client that was killed is no error of the server's."""

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """Bill one completion."""
        text = answer_to(body["messages"])
        with self.lock:
            self.paid[digest_of(body)] += 1
            number = self.paid.total()
        completion = {
            "id": f"chatcmpl-{number}", "object": "chat.completion", "created": 1, "model": MODEL,
            "choices": [{"index": 0, "finish_reason": "stop", "logprobs": None,
                         "message": {"role": "assistant", "content": text, "refusal": None}}],
            "usage": {"prompt_tokens": 400, "completion_tokens": 40, "total_tokens": 440},
        }  # fmt: skip
        if body.get("store") and self.stores:
            with self.lock:
                self.stored[body["metadata"]["facellm_request"]] = completion
        return completion

    def finish_batch(self, batch: dict[str, Any]) -> None:
        """Answer the lines of a batch, some of them not."""
        output, errors = [], []
        for line in self.files[batch["input_file_id"]].splitlines():
            row = json.loads(line)
            digest = digest_of(row["body"])
            with self.lock:
                number = self.asked[digest]
                self.asked[digest] += 1
            fault = self.line_fault(digest, number)
            made = {"id": "r", "custom_id": row["custom_id"], "error": None}
            if fault == "missing":
                continue
            if fault:
                error = {"error": {"message": f"line {fault}"}}
                errors.append(json.dumps(made | {"response": {"status_code": int(fault), "body": error}}))
            else:
                output.append(json.dumps(made | {"response": {"status_code": 200, "body": self.answer(row["body"])}}))
        for name, lines in (("output_file_id", output), ("error_file_id", errors)):
            if lines:
                batch[name] = f"file-{len(self.files)}"
                self.files[batch[name]] = "\n".join([*lines, '{"custom_id": "bro'])
        batch["status"] = self.batch_end


class _Handler(BaseHTTPRequestHandler):
    server: TeacherServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if not self._let_in():
            return
        parts = urlsplit(self.path)
        where = parts.path.removeprefix("/v1/").split("/")
        if where[0] == "models":
            self._list([{"id": name, "object": "model", "created": 1, "owned_by": "me"} for name in self.server.models])
        elif where[0] == "chat" and self.server.stores:
            key = parse_qs(parts.query).get("metadata[facellm_request]", [""])[0]
            with self.server.lock:
                found = self.server.stored.get(key)
            self._list([found] if found else [])
        elif where[0] == "files":
            self._send(200, self.server.files[where[1]].encode())
        elif where[0] == "batches" and len(where) == 1:
            self._list(list(self.server.batches.values()))
        elif where[0] == "batches":
            batch = self.server.batches[where[1]]
            batch["looks"] += 1
            if batch["looks"] == self.server.looks and batch["status"] == "in_progress":
                self.server.finish_batch(batch)
            self._json(200, batch)
        else:
            self._error(404, "no such thing")

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if not self._let_in():
            return
        if self.path == "/v1/files":
            self._upload(content)
        elif self.path == "/v1/batches":
            self._create(json.loads(content))
        elif self.path == "/v1/chat/completions":
            self._chat(json.loads(content))
        else:
            self._error(404, "no such thing")

    def _let_in(self) -> bool:
        if self.headers.get("Authorization") != f"Bearer {KEY}":
            self._error(401, "Incorrect API key provided")
            return False
        return True

    def _chat(self, body: dict[str, Any]) -> None:
        server = self.server
        digest = digest_of(body)
        with server.lock:
            server.bodies.append(body)
            number = server.asked[digest]
            server.asked[digest] += 1
            server.running += 1
            server.most_running = max(server.most_running, server.running)
        try:
            self._answer(body, server.faults(digest, number))
        finally:
            with server.lock:
                server.running -= 1

    def _answer(self, body: dict[str, Any], fault: str) -> None:
        server = self.server
        if body["model"] not in server.models:
            self._error(404, "The model does not exist")
        elif "response_format" in body and not server.schema:
            self._error(400, "response_format is not supported here")
        elif "store" in body and not server.knows_store:
            self._error(400, "Unrecognized request argument supplied: store")
        elif server.redirect:
            self._json(307, {}, {"Location": f"{server.redirect}/chat/completions"})
        elif fault == "throttle":
            self._error(429, "Rate limit reached", {"Retry-After": server.retry_after})
        elif fault == "quota":
            self._error(429, "You exceeded your current quota", code="insufficient_quota")
        elif fault == "busy":
            self._error(503, "overloaded")
        elif fault == "reject":
            self._error(400, "Your image was rejected by our safety system")
        elif fault == "drop early":
            self.close_connection = True
            self.connection.close()
        else:
            time.sleep(server.seconds)
            self._deliver(json.dumps(server.answer(body)).encode(), fault)

    def _deliver(self, answer: bytes, fault: str) -> None:
        """What is paid for, and may still get lost on its way."""
        if fault == "hang":
            time.sleep(self.server.hang)
        if fault == "broken":
            answer = answer[: len(answer) // 2]
        if fault == "drop late":
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer[:20])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
            return
        self._send(200, answer)

    def _upload(self, content: bytes) -> None:
        found = re.search(rb'name="file".*?\r\n\r\n(.*?)\r\n--', content, re.DOTALL)
        assert found
        key = f"file-{len(self.server.files)}"
        self.server.files[key] = found[1].decode()
        self._json(200, {"id": key, "object": "file", "bytes": 1, "created_at": 1, "filename": "a", "purpose": "batch",
                         "status": "processed"})  # fmt: skip

    def _create(self, wanted: dict[str, Any]) -> None:
        server = self.server
        key = f"batch-{len(server.batches)}"
        server.batches[key] = {
            "id": key, "object": "batch", "endpoint": wanted["endpoint"], "input_file_id": wanted["input_file_id"],
            "completion_window": "24h", "status": "in_progress", "created_at": 1, "metadata": wanted["metadata"],
            "looks": 0,
        }  # fmt: skip
        if server.drop_after_create:
            server.drop_after_create -= 1
            self.close_connection = True
            self.connection.close()
            return
        self._json(200, server.batches[key])

    def _list(self, rows: list[Any]) -> None:
        self._json(200, {"object": "list", "data": rows, "has_more": False})

    def _error(self, status: int, message: str, headers: dict[str, str] | None = None, code: str = "") -> None:
        self._json(status, {"error": {"message": message, "code": code, "type": "e", "param": None}}, headers)

    def _json(self, status: int, row: Any, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(row).encode(), headers)

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)
        except OSError:
            self.close_connection = True  # the client is gone

    def log_message(self, _format: str, *args: object) -> None:
        """Quiet: the test prints what matters."""


def digest_of(body: dict[str, Any]) -> str:
    """The same for the same question, whatever surrounds it."""
    return hashlib.sha256(json.dumps(body["messages"]).encode()).hexdigest()


def prompt_of(messages: list[dict[str, Any]]) -> str:
    return next(str(part["text"]) for part in messages[-1]["content"] if part["type"] == "text")


def answer_to(messages: list[dict[str, Any]]) -> str:
    """Mostly a fitting description; sometimes one that a filter must find; broken JSON for one object in two."""
    prompt = prompt_of(messages)
    rng = Random(json.dumps(messages))
    if "JSON object" in prompt:
        if "could not be read" not in prompt and rng.random() < 0.5:
            return '{"glasses": "monocle"'
        return json.dumps(facts(rng))
    found = re.search(r"this is (.*?)\. Describe", prompt)
    who, years = (found[1].rsplit(", ", 1)) if found else ("a person", "years")
    female = "woman" in who or "girl" in who or "female" in who
    name = {"0 to 2 years": "baby", "3 to 9 years": "child", "10 to 19 years": "young person"}.get(
        years, "woman" if female else "man"
    )
    bad = rng.random()
    if bad < 0.06:
        return "I'm sorry, but I can't help with describing this person."
    if bad < 0.12:
        return f"As provided, this {name} has {rng.choice(_HAIR)} hair."
    if bad < 0.18:
        return "The baby has a full beard." if name == "baby" else f"The {'man' if female else 'woman'} looks ahead."
    return (
        f"The {name} has {rng.choice(_FORM)} {rng.choice(_HAIR)} hair and shows {rng.choice(_MOUTH)}. The head is "
        f"{rng.choice(_POSE)}, in {rng.choice(_LIGHT)}, before {rng.choice(_SCENE)}."
    )


def facts(rng: Random) -> dict[str, str]:
    """A valid object, of the classes that fit every age."""
    return {
        "glasses": rng.choice(["none", "eyeglasses"]), "facial_hair": "none",
        "smile": rng.choice(["none", "slight", "broad"]), "mouth": rng.choice(["closed", "teeth", "open"]),
        "hair_color": rng.choice(["black", "brown", "blond", "red"]), "hair_length": rng.choice(["short", "long"]),
        "headwear": "none", "expression": rng.choice(["neutral", "happy"]), "background": "cannot tell",
        "eyes": "open", "brightness": "normal", "sharpness": rng.choice(["sharp", "soft"]),
    }  # fmt: skip
