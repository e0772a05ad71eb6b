"""What a client is told when something goes wrong: an HTTP status, and OpenAI's form of an error."""

from __future__ import annotations

from typing import Any

from facellm.conversation.session import QuestionError
from facellm.core.errors import FaceLLMError
from facellm.engine.errors import BadPicture, QuestionTooLong
from facellm.vision.decode import PhotoError


class ApiError(FaceLLMError):
    """An answer that is no answer. ``param`` names the field it is about; ``retry_after``: seconds, 0 for none."""

    def __init__(
        self, message: str, hint: str = "", *, status: int = 400, code: str = "", param: str = "", retry_after: int = 0
    ) -> None:
        super().__init__(message, hint)
        self.status = status
        self.code = code or ("invalid_request" if status < 500 else "engine_error")
        self.param = param
        self.retry_after = retry_after

    def body(self) -> dict[str, Any]:
        """``{"error": {"message", "type", "param", "code"}}``."""
        kind = _KINDS.get(self.status) or ("invalid_request_error" if self.status < 500 else "server_error")
        message = f"{self} {self.hint}".strip()
        return {"error": {"message": message, "type": kind, "param": self.param or None, "code": self.code}}


class ClientGone(Exception):
    """Whoever asked has hung up: nobody is to be told anything."""


_KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def closing() -> ApiError:
    """The server ends: what runs is stopped, what waits is sent away."""
    return ApiError("The server is closing.", "Ask again when it runs.", status=503, code="closing", retry_after=5)


def as_api_error(error: Exception) -> ApiError:
    """Any error as one that can be sent: the client's own mistakes as 400, everything else as 500."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, QuestionTooLong):
        return ApiError(str(error), error.hint, code="context_length_exceeded", param="messages")
    if isinstance(error, PhotoError | BadPicture):
        return ApiError(str(error), error.hint, code="invalid_image", param="messages")
    if isinstance(error, QuestionError):
        return ApiError(str(error), error.hint, param="messages")
    if isinstance(error, FaceLLMError):
        return ApiError(str(error), error.hint, status=500)
    if isinstance(error, MemoryError):
        return ApiError("There is not enough memory.", "Send smaller pictures.", status=500, code="out_of_memory")
    # Its words may quote what was asked.
    return ApiError(f"The server failed ({type(error).__name__}).", "Please report this.", status=500, code="internal")
