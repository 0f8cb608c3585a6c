"""The service's HTTP face: images up, jobs, results down; and one page for people without Fiji."""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from collections import OrderedDict
from importlib.resources import files
from pathlib import Path
from typing import Any

import xarray as xr
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, Field

import dlm_fiji
from dlm_fiji.errors import DlmError, InputError
from dlm_fiji.micrograph import open_image, save_image
from dlm_fiji.service.jobs import JobQueue, QueueFull
from dlm_fiji.service.operations import OPERATIONS
from dlm_fiji.settings import unknown_name

__all__ = ["JobRequest", "create_app"]

#: Uploaded images kept in memory, bytes together.
KEPT_BYTES = 4 * 2**30


class JobRequest(BaseModel):
    """A job: the operation, its images by name (an uploaded image's id, or a path), its settings."""

    operation: str
    images: dict[str, str] = Field(default_factory=dict, description="name → id of an uploaded image, or a file's path")
    settings: dict[str, Any] = Field(default_factory=dict)
    output: str = Field("", description="folder to write the results to as TIFF files, too")


class State:
    """What lives as long as the service."""

    def __init__(self, token: str, folders: list[Path], queue_limit: int) -> None:
        self.token = token
        self.folders = [folder.expanduser().resolve() for folder in folders]
        self.jobs = JobQueue(queue_limit)
        self.images: OrderedDict[str, xr.DataArray] = OrderedDict()
        self.last_request = time.monotonic()

    def keep(self, image: xr.DataArray) -> str:
        """Remember an uploaded image; the oldest go when all together are too large."""
        identity = secrets.token_urlsafe(9)
        self.images[identity] = image
        while sum(kept.nbytes for kept in self.images.values()) > KEPT_BYTES and len(self.images) > 1:
            self.images.popitem(last=False)
        return identity

    def allowed(self, path: str) -> Path:
        """``path`` when it lies in a folder that the user allowed.

        Raises
        ------
        InputError
            It does not; links are followed first.
        """
        resolved = Path(path).expanduser().resolve()
        if any(resolved == folder or folder in resolved.parents for folder in self.folders):
            return resolved
        names = ", ".join(map(str, self.folders)) or "none"
        raise InputError(
            f"The service may not use {path}; folders it may use: {names}. Start it with "
            "'python -m dlm_fiji serve --allow FOLDER' to add one."
        )


def create_app(token: str, folders: list[Path] | None = None, queue_limit: int = 16) -> FastAPI:
    """The service as an ASGI application.

    Parameters
    ----------
    token
        What every request but the page and the health answer must carry, as ``Authorization: Bearer …``.
    folders
        Folders whose files requests may name.
    queue_limit
        Jobs that may wait.
    """
    state = State(token, folders or [], queue_limit)
    app = FastAPI(title="dlm_fiji", version=dlm_fiji.__version__, description="Research use only, not for diagnosis.")
    app.state.service = state

    def authorised(request: Request) -> None:
        given = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        if not secrets.compare_digest(given.encode(), token.encode()):
            raise HTTPException(401, "The token is wrong; the service was started anew, or by somebody else.")

    @app.middleware("http")
    async def only_from_here(request: Request, call_next: Any) -> Any:
        # A web page that makes its name point to 127.0.0.1 still sends its own name.
        host = request.headers.get("host", "").rsplit(":", 1)[0]
        if host not in ("127.0.0.1", "localhost", "[::1]", "testserver"):
            return JSONResponse({"error": "This service answers to its own machine only."}, 403)
        state.last_request = time.monotonic()
        response = await call_next(request)
        state.last_request = time.monotonic()
        return response

    @app.exception_handler(DlmError)
    async def sentence(request: Request, error: DlmError) -> JSONResponse:
        status = 503 if isinstance(error, QueueFull) else 400
        return JSONResponse({"error": str(error), "kind": type(error).__name__}, status)

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": str(error.detail)}, error.status_code)

    @app.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        text = files("dlm_fiji.service").joinpath("page.html").read_text("utf-8")
        return HTMLResponse(text, headers={"Content-Security-Policy": "default-src 'self' 'unsafe-inline' blob: data:"})

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Whether the service is up; needs no token."""
        return {"service": "dlm_fiji", "version": dlm_fiji.__version__, "pid": os.getpid(), "busy": state.jobs.busy}

    @app.get("/models", dependencies=[Depends(authorised)])
    def models() -> dict[str, Any]:
        """Shipped models, with what each was made for."""
        from dlm_fiji.inference import list_models, load_model

        answer = {}
        for name in list_models():
            card = load_model(name).card
            answer[name] = {
                "description": card.description,
                "modality": card.modality,
                "scale": card.scale,
                "channels": card.channels,
                "pixel_um": card.pixel_um,
                "na": card.na,
            }
        return answer

    @app.get("/operations", dependencies=[Depends(authorised)])
    def operations() -> dict[str, Any]:
        """Every operation with the JSON schema of its settings."""
        return {
            name: {"images": operation.images, "settings": operation.settings.model_json_schema()}
            for name, operation in OPERATIONS.items()
        }

    @app.post("/images", dependencies=[Depends(authorised)])
    async def upload(request: Request) -> dict[str, Any]:
        """Send an image file (TIFF, PNG or JPEG) as the request's body; returns its id."""
        content = await request.body()
        image = await run_in_threadpool(_read, content)
        return {
            "image": state.keep(image),
            "dims": list(image.dims),
            "shape": list(image.shape),
            "dtype": str(image.dtype),
        }

    @app.delete("/images/{identity}", dependencies=[Depends(authorised)])
    def drop(identity: str) -> dict[str, Any]:
        """Forget an uploaded image."""
        state.images.pop(identity, None)
        return {}

    @app.post("/jobs", dependencies=[Depends(authorised)])
    def submit(wanted: JobRequest) -> dict[str, Any]:
        """Put a job into the queue."""
        operation = OPERATIONS.get(wanted.operation)
        if operation is None:
            raise InputError(unknown_name(wanted.operation, OPERATIONS, "operation"))
        settings = operation.settings.of(**wanted.settings)
        for name in operation.paths:
            if getattr(settings, name):
                settings = operation.settings.of(settings, **{name: str(state.allowed(getattr(settings, name)))})
        images = _images(state, operation.images, wanted)
        output = state.allowed(wanted.output) if wanted.output else None

        def work(job: Any) -> Any:
            results = operation.run(job, {n: i() for n, i in images.items()}, settings)
            if output is not None:
                for name, result in results.items():
                    if isinstance(result, xr.DataArray):
                        save_image(result, output / f"{name}.tif", provenance=result.attrs.get("provenance"))
            return results

        return state.jobs.submit(wanted.operation, work).public()

    @app.get("/jobs/{identity}", dependencies=[Depends(authorised)])
    def look(identity: str) -> dict[str, Any]:
        """How far a job is."""
        return _job(state, identity).public()

    @app.delete("/jobs/{identity}", dependencies=[Depends(authorised)])
    def cancel(identity: str) -> dict[str, Any]:
        """Cancel a job, or drop a finished one with its results."""
        state.jobs.forget(identity)
        return {}

    @app.get("/jobs/{identity}/results/{name}", dependencies=[Depends(authorised)])
    def result(identity: str, name: str, kind: str = "tif") -> Response:
        """A result: an image as TIFF (or PNG with ``?kind=png``), figures as JSON."""
        job = _job(state, identity)
        if name not in job.results:
            raise HTTPException(404, f"Job {identity} has no result {name!r}; its state is {job.state}.")
        found = job.results[name]
        if not isinstance(found, xr.DataArray):
            return JSONResponse(found)
        if kind not in ("tif", "png"):
            raise HTTPException(400, "A result comes as tif or png.")
        media = {"tif": "image/tiff", "png": "image/png"}[kind]
        return Response(_written(found, kind), media_type=media)

    return app


def _job(state: State, identity: str) -> Any:
    job = state.jobs.get(identity)
    if job is None:
        raise HTTPException(404, f"There is no job {identity}; the service may have been started anew.")
    return job


def _images(state: State, names: tuple[str, ...], wanted: JobRequest) -> dict[str, Any]:
    for name in wanted.images:
        if name not in names:
            raise InputError(unknown_name(name, names, f"image of {wanted.operation}"))
    found: dict[str, Any] = {}
    for name in names:
        if name not in wanted.images:
            raise InputError(f"Operation {wanted.operation!r} needs the image {name!r}.")
        given = wanted.images[name]
        if given in state.images:
            image = state.images[given]
            found[name] = lambda image=image: image
        else:
            if not os.path.isabs(given):
                raise InputError(f"There is no uploaded image {given!r}; send it again, or give a file's full path.")
            path = state.allowed(given)
            found[name] = lambda path=path: open_image(path)
    return found


def _read(content: bytes) -> xr.DataArray:
    if not content:
        raise InputError("The request has no image in it.")
    with tempfile.TemporaryDirectory(prefix="dlm_fiji_service_") as folder:
        path = Path(folder) / "uploaded image"
        path.write_bytes(content)
        return open_image(path).load()


def _written(image: xr.DataArray, kind: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="dlm_fiji_service_") as folder:
        path = Path(folder) / f"result.{kind}"
        save_image(image, path, provenance=image.attrs.get("provenance"))
        return path.read_bytes()
