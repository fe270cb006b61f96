"""What the server behind `--serve` answers: an application made of parts of llama-cpp-python's own server.

The functions that compute an answer are used, and nothing else of it: it would take settings from the
environment, answer any web page, and die of a grammar that the engine cannot read.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import llama_cpp
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from llama_cpp.server import app as engine_server
from llama_cpp.server.settings import ModelSettings, ServerSettings
from llama_cpp.server.types import CreateChatCompletionRequest, CreateCompletionRequest
from starlette.exceptions import HTTPException as AnyHTTPException

from moe_live.capture.engine import CapturingLlama, EngineSettings
from moe_live.capture.recorder import Recorder
from moe_live.errors import MoeLiveError, printable


def make_application(settings: EngineSettings, recorder: Recorder) -> FastAPI:
    """The ASGI application that answers, with the model loaded.

    Raises:
        MoeLiveError: the model cannot be loaded.
    """
    name = Path(settings.model).name
    # What they do not get they take from the environment, unless they are made without being checked.
    model = ModelSettings.model_construct(
        model=settings.model, model_alias=name, cache=False, **settings.arguments()
    )
    # Else each request would break off the one before it.
    engine_server.set_server_settings(ServerSettings.model_construct(interrupt_requests=False))
    high_level = llama_cpp.Llama
    llama_cpp.Llama = partial(_ServedLlama, recorder)  # what the server makes its model of
    try:
        engine_server.set_llama_proxy([model])
    finally:
        llama_cpp.Llama = high_level
    app = FastAPI(
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={
            AnyHTTPException: _http_error,
            RequestValidationError: _invalid_request,
            ValueError: _wrong_value,
            Exception: _failure,
        },
    )
    answers = _Answers(name)
    app.add_api_route("/v1/models", answers.models)
    for path, answer in (("/v1/completions", answers.completion), ("/v1/chat/completions", answers.chat)):
        app.add_api_route(path, answer, methods=["POST"], response_model=None)
    return app


class _ServedLlama(CapturingLlama):
    """Answers a request that cannot be computed with an error of its own."""

    def eval(self, tokens: Sequence[int]) -> None:
        try:
            super().eval(tokens)
        except MoeLiveError:
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, "capturing has ended") from None

    def create_completion(
        self, *arguments: Any, logit_bias: Mapping[str, float] | None = None, **more: Any
    ) -> Any:
        # A token that does not exist would be an exception where the engine cannot take one.
        if not all(0 <= int(token) < self.n_vocab() for token in logit_bias or ()):
            raise ValueError("logit_bias has a token that the model does not have")
        return super().create_completion(*arguments, logit_bias=logit_bias, **more)


class _Answers:
    """What is answered, by the names that OpenAI's API has for it.

    Args:
        model: the name that the model is given.
    """

    def __init__(self, model: str) -> None:
        self._model = model

    async def models(self) -> dict[str, Any]:
        model = {"id": self._model, "object": "model", "owned_by": "me", "permissions": []}
        return {"object": "list", "data": [model]}

    async def completion(self, request: Request, body: CreateCompletionRequest) -> Any:
        if isinstance(body.prompt, list) and len(body.prompt) > 1:
            raise ValueError("several prompts in one request are not supported")
        _refuse_grammar(body.grammar)
        body.model = self._model
        return await engine_server.create_completion(request, body)

    async def chat(self, request: Request, body: CreateChatCompletionRequest) -> Any:
        chosen = [choice for choice in (body.tool_choice, body.function_call) if isinstance(choice, dict)]
        _refuse_grammar(body.grammar, (body.response_format or {}).get("schema"), *chosen)
        body.model = self._model
        return await engine_server.create_chat_completion(request, body)


def _refuse_grammar(*grammars: object) -> None:
    """A grammar that is wrong, or deeply nested, ends the process in the engine."""
    if any(grammar is not None for grammar in grammars):
        raise ValueError("grammars, schemas and the choice of one tool are not supported")


def _error(status: int, message: str, code: str | None = None) -> JSONResponse:
    kind = "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
    return JSONResponse({"error": {"message": message, "type": kind, "param": None, "code": code}}, status)


async def _http_error(_request: Request, error: AnyHTTPException) -> JSONResponse:
    return _error(error.status_code, error.detail)


async def _invalid_request(_request: Request, error: RequestValidationError) -> JSONResponse:
    first = error.errors()[0]
    place = ".".join(ascii(part).strip("'") for part in first["loc"][1:])
    return _error(HTTPStatus.BAD_REQUEST, f"{place}: {first['msg']}" if place else first["msg"])


async def _wrong_value(_request: Request, error: ValueError) -> JSONResponse:
    is_long = "exceed context window" in str(error)
    return _error(
        HTTPStatus.BAD_REQUEST, printable(str(error)), "context_length_exceeded" if is_long else None
    )


async def _failure(_request: Request, error: Exception) -> JSONResponse:
    error = error.__cause__ if isinstance(error.__cause__, Exception) else error
    if not isinstance(error, (AnyHTTPException, ValueError)):  # these come when an answer has begun
        sys.stderr.write(
            f"moe-live: a request failed: {type(error).__name__}: {printable(str(error)[:200])}\n"
        )
    return _error(HTTPStatus.INTERNAL_SERVER_ERROR, "the request failed")
