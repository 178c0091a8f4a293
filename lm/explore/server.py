"""The page's server: who may ask, how much, and how many at once."""

import asyncio
import json
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from lm.explore.models import LanguageModelView, ModelView, Place
from unroll.errors import UserError

FILES = Path(__file__).parent / "page"
LARGEST = 2**20  # bytes of a request
AT_ONCE = 64  # requests that a model works on
MOST = 100_000  # tokens that are written at one request
PLACES = 64  # that are kept, the latest ones
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}


class Guard:
    """Answers requests to this machine's own names alone, and from pages of this server alone.

    A page from elsewhere whose name is pointed at this machine (DNS rebinding) asks with its own name as the host, and
    one that calls across origins says where it is from.

    Args:
        app: what is guarded.
        port: that the server listens on.
    """

    def __init__(self, app: ASGIApp, port: int) -> None:
        self.app = app
        self.hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}
        self.origins = {f"http://{host}" for host in self.hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        own_origin = origin is None or origin in self.origins
        if headers.get("host") not in self.hosts or not own_origin or site not in (None, "none", "same-origin"):
            await refusal("this server answers pages of its own alone", 403)(scope, receive, send)
            return

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            await send(message)

        await self.app(scope, receive, send_with_headers)


async def nothing(request: Request) -> Response:
    return Response(status_code=204)


def encoded(content: Any) -> bytes:
    """JSON, with escapes for what is no Unicode.

    Raises:
        UserError: there is a number in it that JSON does not have.
    """
    try:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:
        raise UserError("the model computes nan: its training has diverged, or the file is damaged") from None


def refusal(words: str, status: int) -> Response:
    return Response(encoded({"error": words}), status, media_type="application/json")


class Server:
    """Answers for one model. One thread works on it, a slice of each request in turn.

    Args:
        view: of the model.
    """

    def __init__(self, view: ModelView) -> None:
        self.view = view
        self.worker = ThreadPoolExecutor(1)
        self.places: OrderedDict[str, Place] = OrderedDict()
        self.working = 0

    def app(self, port: int) -> ASGIApp:
        files = [("/", "page.html"), ("/page.css", "page.css"), ("/page.js", "page.js")]
        routes = [Route(path, self.file(name)) for path, name in files]
        routes += [Route("/about", self.about), Route("/favicon.ico", nothing)]
        routes += [Route(f"/{name}", getattr(self, name), methods=["POST"]) for name in ("read", "write")]
        return Guard(Starlette(routes=routes), port)

    def file(self, name: str) -> Any:
        async def answer(request: Request) -> Response:
            return FileResponse(FILES / name)

        return answer

    async def about(self, request: Request) -> Response:
        return Response(encoded(self.view.about), media_type="application/json")

    async def read(self, request: Request) -> Response:
        return await self.answered(request, lambda asked: self.view.read(string(asked, "text")))

    async def write(self, request: Request) -> Response:
        writer = self.view
        if not isinstance(writer, LanguageModelView):
            return refusal("this model does not write", 404)

        def written(asked: dict[str, Any]) -> Iterator[Any]:
            place = None
            if (name := asked.get("place")) is not None:
                place = self.places.get(str(name))
                if place is None:
                    raise UserError("that place is no longer kept; begin anew")
            length = number(asked, "length", 200, 0, MOST)
            top_k = number(asked, "top_k", 0, 0, MOST)
            temperature = number(asked, "temperature", 0.8, 0, 100)
            return writer.write(string(asked, "prompt"), place, int(length), temperature, int(top_k) or None)

        return await self.answered(request, written)

    async def answered(self, request: Request, begin: Any) -> Response:
        """A stream of JSON lines: the events that are not empty, as they come. A mistake is one line with `error`."""
        if not request.headers.get("content-type", "").startswith("application/json"):
            return refusal("a request is JSON (content-type: application/json)", 415)
        if self.working >= AT_ONCE:
            return refusal(f"{self.working} others are being served; try again in a moment", 503)
        self.working += 1  # until the stream ends
        stream = None
        try:
            events = begin(parsed(await body(request)))
            first = await self.next_of(events)
            stream = CountedStream(self, self.lines(events, first), media_type="application/x-ndjson")
            return stream
        except ClientDisconnect:
            return Response(status_code=499)
        except UserError as error:
            return refusal(str(error), 413 if isinstance(error, TooLarge) else 400)
        finally:
            if stream is None:
                self.working -= 1

    async def next_of(self, events: Iterator[Any]) -> Any:
        """The next event, made by the worker when it is this reader's turn; None at the end."""
        return await asyncio.get_running_loop().run_in_executor(self.worker, next, events, None)

    async def lines(self, events: Iterator[Any], event: Any) -> AsyncIterator[bytes]:
        try:
            while event is not None:
                if isinstance(event, Place):
                    event = {"place": self.keep(event)}
                if event:
                    yield encoded(event) + b"\n"
                event = await self.next_of(events)
        except UserError as error:
            yield encoded({"error": str(error)}) + b"\n"

    def keep(self, place: Place) -> str:
        name = token_urlsafe(9)
        self.places[name] = place
        while len(self.places) > PLACES:
            self.places.popitem(last=False)
        return name


class CountedStream(StreamingResponse):
    """A stream of which the server knows when it has ended, also when the reader has gone."""

    def __init__(self, server: Server, content: AsyncIterator[bytes], **settings: Any) -> None:
        super().__init__(content, **settings)
        self.server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.server.working -= 1


class TooLarge(UserError):
    """A request of more bytes than are taken."""


async def body(request: Request) -> bytes:
    """The content of a request, which is not read beyond what is taken.

    Raises:
        TooLarge: it has more.
    """
    content = b""
    async for part in request.stream():
        content += part
        if len(content) > LARGEST:
            raise TooLarge(f"that is too long: more than {LARGEST:,} bytes")
    return content


def parsed(content: bytes) -> dict[str, Any]:
    try:
        asked = json.loads(content)
    except (ValueError, RecursionError):
        raise UserError("the request is not JSON in UTF-8") from None
    if not isinstance(asked, dict):
        raise UserError("a request is a JSON object")
    return asked


def string(asked: dict[str, Any], key: str) -> str:
    value = asked.get(key, "")
    if not isinstance(value, str):
        raise UserError(f"{key} must be a text")
    return value


def number(asked: dict[str, Any], key: str, default: float, least: float, most: float) -> float:
    value = asked.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise UserError(f"{key} must be a number from {least:g} to {most:g}")
    return value
