"""Starting the service on this machine, telling Fiji where it is, and stopping it."""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import threading
import time
from pathlib import Path

from dlm_fiji.errors import SetupError
from dlm_fiji.settings import Settings, setting
from dlm_fiji.user_state import state_folder

__all__ = ["ServiceSettings", "serve", "service_file"]


class ServiceSettings(Settings):
    """How the local service runs."""

    port: int = setting(0, "Port on 127.0.0.1; 0 takes a free one", ge=0, le=65535)
    idle_minutes: float = setting(0.0, "Stop after so long without a request; 0 stays", unit="min", ge=0)
    queue: int = setting(16, "Jobs that may wait", ge=1, le=1000)
    allow: tuple[Path, ...] = setting((), "Folders whose files requests may name")


def service_file() -> Path:
    """Where port and token are written, readable by its owner only: ``~/.dlm_fiji/service.json``.

    ``DLM_FIJI_STATE`` names another folder.
    """
    return state_folder() / "service.json"


def serve(settings: ServiceSettings | None = None, **changes: object) -> None:
    """Run the service until it is stopped (Ctrl-C, or after an idle time).

    Raises
    ------
    SetupError
        The port is taken, or the file for port and token cannot be written.
    """
    import uvicorn

    from dlm_fiji.service.application import create_app

    s = ServiceSettings.of(settings, **changes)
    token = secrets.token_urlsafe(24)
    listener = _listen(s.port)
    port = int(listener.getsockname()[1])
    app = create_app(token, list(s.allow), s.queue)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    path = service_file()
    _write(path, {"port": port, "token": token, "pid": os.getpid(), "python": sys.executable, "version": app.version})
    print(f"dlm_fiji service: http://127.0.0.1:{port}/#{token}", flush=True)
    if s.idle_minutes:
        _stop_when_idle(server, app.state.service, 60 * s.idle_minutes)
    try:
        server.run(sockets=[listener])
    finally:
        _remove(path, token)
        app.state.service.jobs.close()


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if sys.platform != "win32":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        listener.close()
        raise SetupError(f"Port {port} of this machine is taken ({error.strerror}); choose another or 0.") from None
    listener.listen(64)
    return listener


def _write(path: Path, content: dict[str, object]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = path.with_suffix(f".{os.getpid()}.part")
        # Made with its final mode: a file that is narrowed afterwards was readable for a moment.
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump(content, file)
        os.replace(part, path)
    except OSError as error:
        raise SetupError(
            f"{path} cannot be written ({error.strerror}); set DLM_FIJI_STATE to another folder."
        ) from None


def _remove(path: Path, token: str) -> None:
    """Remove the file, unless a later service wrote its own."""
    try:
        if json.loads(path.read_text(encoding="utf-8")).get("token") == token:
            path.unlink()
    except (OSError, ValueError):
        pass


def _stop_when_idle(server: object, state: object, seconds: float) -> None:
    def watch() -> None:
        while not server.should_exit:  # type: ignore[attr-defined]
            time.sleep(min(1.0, seconds / 4))
            idle = time.monotonic() - state.last_request  # type: ignore[attr-defined]
            if idle > seconds and state.jobs.busy == 0:  # type: ignore[attr-defined]
                server.should_exit = True  # type: ignore[attr-defined]

    threading.Thread(target=watch, name="dlm_fiji idle", daemon=True).start()
