"""The jars of the ImageJ that needs no Fiji: from the local Maven cache, or once from Maven Central."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path
from typing import Any

from dlm_fiji.errors import SetupError

__all__ = ["IMAGEJ_VERSION", "JARS", "jars", "jars_from_cache"]

IMAGEJ_VERSION = "1.54p"

#: Endpoint part, path in a Maven repository, SHA-256. Fixed, so that the same ImageJ runs on every machine.
JARS: tuple[tuple[str, str, str], ...] = (
    (
        "net.imagej:ij:1.54p",
        "net/imagej/ij/1.54p/ij-1.54p.jar",
        "2e1a09961dfb41cee66ddc821b2577a41a072566ce45a49bae69267099741e20",
    ),
    (
        "net.imagej:ij1-patcher:1.2.6",
        "net/imagej/ij1-patcher/1.2.6/ij1-patcher-1.2.6.jar",
        "f23e419d0aa70da433005a1d4250d2b139c728d7cc7a581569f406243f4b191b",
    ),
    (
        "org.javassist:javassist:3.27.0-GA",
        "org/javassist/javassist/3.27.0-GA/javassist-3.27.0-GA.jar",
        "0730bdb1547a5a3f458d60400d804078d80f329c5b5dbc2498a4e220de8f7013",
    ),
)


def jars(timeout_s: float = 50.0) -> list[Path]:
    """The jars of ImageJ 1.54p, fetched from Maven Central when they are not in the local Maven cache.

    With all of them in the cache nothing asks the network.

    Parameters
    ----------
    timeout_s
        The longest wait for the network.

    Raises
    ------
    SetupError
        Maven Central did not answer in time, or what it sent is not the file expected.
    """
    found = jars_from_cache()
    if found is None:
        _fetch(timeout_s)
        found = jars_from_cache()
    if found is None:
        raise SetupError(
            f"The files of ImageJ {IMAGEJ_VERSION} in {repository()} are not the ones published on Maven Central; "
            "delete its net/imagej and org/javassist folders and start again."
        )
    return found


def jars_from_cache() -> list[Path] | None:
    """The jars where all of them lie in the local Maven cache with the right content, otherwise None."""
    paths = [repository() / path for _, path, _ in JARS]
    for path, (_, _, sha256) in zip(paths, JARS, strict=True):
        try:
            if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
                return None
        except OSError:
            return None
    return paths


def repository() -> Path:
    """The local Maven cache, as jgo finds it: its configuration, ``M2_REPO``, ``~/.m2/repository``."""
    from jgo.config import GlobalSettings

    return Path(GlobalSettings.load().repo_cache).expanduser()


def _fetch(timeout_s: float) -> None:
    """Let jgo bring the jars.

    jgo retries and has no overall deadline, therefore it works in a thread that is left behind when it is late.
    """
    failure: list[BaseException] = []

    def work() -> None:
        try:
            _build()
        except BaseException as error:
            failure.append(error)

    worker = threading.Thread(target=work, name="jgo", daemon=True)
    worker.start()
    worker.join(timeout_s)
    advice = (
        f"ImageJ {IMAGEJ_VERSION} could not be fetched from Maven Central: {{why}}; "
        "connect to the network for the first start, or give a Fiji folder with --fiji or DLM_FIJI_HOME."
    )
    if worker.is_alive():
        raise SetupError(advice.format(why=f"no answer within {timeout_s:.0f} s"))
    if failure:
        raise SetupError(advice.format(why=_short(failure[0]))) from failure[0]


def _build() -> Any:
    import logging

    import jgo
    import jgo.maven
    import requests
    from jgo.constants import MAVEN_CENTRAL_URL

    # jgo would try every one of its addresses in turn, with a wait at each: ask once whether there is a network.
    requests.head(f"{MAVEN_CENTRAL_URL}/{JARS[0][1]}", timeout=(10, 10), allow_redirects=True).raise_for_status()
    logging.getLogger("jgo").setLevel(logging.ERROR)
    endpoint = "+".join(name for name, _, _ in JARS if "javassist" not in name)
    # update: a cached jgo environment must not hide a jar that was deleted from the Maven cache.
    return jgo.build(endpoint=endpoint, update=True, repositories={}, resolver=jgo.maven.PythonResolver(lenient=True))


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if "NameResolution" in text or "getaddrinfo" in text or "resolve" in text:
        return "the address was not found"
    if "Proxy" in text:
        return "the proxy did not answer" + (f" ({os.environ['HTTPS_PROXY']})" if "HTTPS_PROXY" in os.environ else "")
    if "refused" in text or "unreachable" in text:
        return "no connection"
    if "timed out" in text:
        return "no answer"
    return text[:160]
