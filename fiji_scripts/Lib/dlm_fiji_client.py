# -*- coding: utf-8 -*-
"""How Fiji's scripts reach the dlm_fiji service: Jython 2.7, its standard library and ij, nothing else.

The service holds the networks, so that no deep-learning framework runs inside Fiji. It is started when none runs, by
the Python whose path was written beside this file when the scripts were installed.
"""
from __future__ import division

import httplib
import json
import os
import socket
import sys
import tempfile
import time
import urllib2

from ij import IJ, ImagePlus, ImageStack, WindowManager
from ij.io import FileSaver, Opener
from ij.plugin import Duplicator
from java.awt import GraphicsEnvironment
from java.io import File
from java.lang import ProcessBuilder

TITLE = "Deep Learning Microscopy"
#: A network on a large stack may take long; a service that does not answer at all for so long is gone.
SILENCE_S = 60
START_S = 90


class Refusal(Exception):
    """One sentence for the user."""


class Cancelled(Exception):
    """The user pressed Esc."""


# --- the service

def state_folder():
    return os.environ.get("DLM_FIJI_STATE") or os.path.join(os.path.expanduser("~"), ".dlm_fiji")


def recorded_python():
    """The Python that install-scripts was run with; DLM_FIJI_PYTHON names another."""
    return os.environ.get("DLM_FIJI_PYTHON") or _recorded().get("python")


def _recorded():
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "dlm_fiji_python.json")
    try:
        with open(path) as source:
            return json.load(source)
    except (IOError, ValueError):
        return {}


class Service(object):
    """A running service: its address and token."""

    def __init__(self, port, token):
        self.address = "http://127.0.0.1:%d" % port
        self.token = token

    def call(self, path, body=None, method=None, kind="application/octet-stream"):
        """The answer's bytes; body a byte string."""
        request = urllib2.Request(self.address + path, body, {"Authorization": "Bearer " + str(self.token)})
        if body is not None:
            request.add_header("Content-Type", kind)
        if method:
            request.get_method = lambda: method
        try:
            # No proxy: this is the machine itself.
            answer = urllib2.build_opener(urllib2.ProxyHandler({})).open(request, timeout=SILENCE_S)
            try:
                return answer.read()
            finally:
                answer.close()
        except urllib2.HTTPError as error:
            raise Refusal(_sentence(error))
        except (urllib2.URLError, httplib.HTTPException, socket.error, socket.timeout, EOFError, IOError):
            raise Refusal("The dlm_fiji service does not answer any more; run the command again to start it anew.")

    def json(self, path, content=None, method=None):
        body = None if content is None else json.dumps(content).encode("utf-8")
        return json.loads(self.call(path, body, method, "application/json").decode("utf-8"))


def _sentence(error):
    try:
        return json.loads(error.read().decode("utf-8"))["error"]
    except Exception:
        return "The dlm_fiji service answered %s." % error.code


def running_service():
    """The service that runs, or None."""
    try:
        with open(os.path.join(state_folder(), "service.json")) as source:
            told = json.load(source)
        service = Service(int(told["port"]), told["token"])
        service.json("/health")
        return service
    except (IOError, ValueError, KeyError, Refusal):
        return None


def find_service():
    """The service that runs, or a new one."""
    service = running_service()
    if service is not None:
        return service
    python = recorded_python()
    if not python or not os.path.isfile(python):
        raise Refusal(
            "The dlm_fiji service does not run and its Python is not known%s. In a terminal, in the Python that has "
            "dlm_fiji, run: python -m dlm_fiji install-scripts FIJI_FOLDER (or start it yourself: python -m dlm_fiji "
            "serve)." % (" (%s is not there)" % python if python else "")
        )
    IJ.showStatus("Starting the dlm_fiji service...")
    folder = state_folder()
    if not os.path.isdir(folder):
        os.makedirs(folder)
    log = os.path.join(folder, "service.log")
    command = [python, "-m", "dlm_fiji", "serve", "--idle", "30"]
    for allowed in _recorded().get("allow", []):
        command += ["--allow", allowed]
    builder = ProcessBuilder(command)
    builder.redirectErrorStream(True)
    builder.redirectOutput(File(log))
    process = builder.start()
    end = time.time() + START_S
    while time.time() < end:
        service = running_service()
        if service is not None:
            return service
        if not process.isAlive():
            break
        _check_escape()
        time.sleep(0.3)
    raise Refusal("The dlm_fiji service did not start; its messages are in %s." % log)


# --- jobs

def run_job(service, operation, images, settings):
    """Run one job, show its progress, return its last state. Esc cancels."""
    IJ.resetEscape()
    sent = {}
    try:
        for name in images:
            IJ.showStatus("Sending the image...")
            sent[name] = json.loads(service.call("/images", tiff_bytes(images[name])).decode("utf-8"))["image"]
        job = service.json("/jobs", {"operation": operation, "images": sent, "settings": settings})
        while job["state"] in ("queued", "running"):
            IJ.showStatus("%s: %s" % (operation.replace("_", " "), job["message"]))
            IJ.showProgress(float(job["progress"]))
            try:
                _check_escape()
            except Cancelled:
                service.json("/jobs/" + job["id"], method="DELETE")
                raise
            time.sleep(0.1)
            job = service.json("/jobs/" + job["id"])
    finally:
        IJ.showProgress(1.0)
        IJ.showStatus("")
        for identity in sent.values():
            try:
                service.call("/images/" + identity, method="DELETE")
            except Refusal:
                pass
    if job["state"] == "cancelled":
        raise Cancelled()
    if job["state"] == "failed":
        raise Refusal(job["error"])
    for note in job["notes"]:
        IJ.log("dlm_fiji: " + note)
    return job


def fetch(service, job, name):
    """A result as ImagePlus."""
    content = service.call("/jobs/%s/results/%s" % (job["id"], name))
    path = _temporary()
    try:
        with open(path, "wb") as target:
            target.write(content)
        imp = Opener().openImage(path)
    finally:
        os.remove(path)
    if imp is None:
        raise Refusal("Fiji could not open the service's result %r." % name)
    return imp


def figures(service, job, name="figures"):
    return service.json("/jobs/%s/results/%s" % (job["id"], name))


def _check_escape():
    if IJ.escapePressed():
        raise Cancelled()


# --- images

def active_image(path=""):
    """The image of that file, otherwise the active one."""
    if path:
        if not os.path.isfile(path):
            raise Refusal("There is no file %s." % path)
        imp = Opener().openImage(path)
        if imp is None:
            raise Refusal("Fiji cannot open %s." % path)
        return imp
    imp = WindowManager.getCurrentImage()
    if imp is None:
        raise Refusal("There is no image open; open one first.")
    return imp


def image_by_title(title):
    imp = WindowManager.getImage(title) if title else None
    if imp is None and title and os.path.isfile(title):
        imp = Opener().openImage(title)
    if imp is None:
        open_ones = [str(WindowManager.getImage(i).getTitle()) for i in (WindowManager.getIDList() or [])]
        raise Refusal("There is no image %r; open are: %s." % (str(title), ", ".join(open_ones) or "none"))
    return imp


def part_to_send(imp, whole_stack=True):
    """What is selected: the rectangle of a selection, the whole stack or the slice that is shown."""
    roi = imp.getRoi()
    if roi is not None and not roi.isArea():
        imp.deleteRoi()
    try:
        if whole_stack or imp.getStackSize() == 1:
            part = Duplicator().run(imp)
        elif imp.isHyperStack() or imp.isComposite():
            part = Duplicator().run(imp, 1, imp.getNChannels(), imp.getZ(), imp.getZ(), imp.getT(), imp.getT())
        else:
            part = Duplicator().run(imp, imp.getCurrentSlice(), imp.getCurrentSlice())
    finally:
        if roi is not None:
            imp.setRoi(roi)
    part.deleteRoi()
    if part.getType() == ImagePlus.COLOR_256:
        IJ.run(part, "RGB Color", "")
    return part


def tiff_bytes(imp):
    path = _temporary()
    try:
        saver = FileSaver(imp)
        saved = saver.saveAsTiffStack(path) if imp.getStackSize() > 1 else saver.saveAsTiff(path)
        if not saved:
            raise Refusal("The image could not be written to %s; is the disk full?" % path)
        with open(path, "rb") as source:
            return source.read()
    finally:
        if os.path.exists(path):
            os.remove(path)


def dressed(result, sent, original, word):
    """The result with the calibration divided by the scale, the channels' colours, and the title."""
    scale_x = result.getWidth() / sent.getWidth()
    scale_y = result.getHeight() / sent.getHeight()
    calibration = original.getCalibration().copy()
    calibration.pixelWidth /= scale_x
    calibration.pixelHeight /= scale_y
    roi = original.getRoi()
    left, top = (roi.getBounds().x, roi.getBounds().y) if roi is not None and roi.isArea() else (0, 0)
    # The same place keeps the same coordinates, in a cut-out too.
    calibration.xOrigin = (calibration.xOrigin - left) * scale_x
    calibration.yOrigin = (calibration.yOrigin - top) * scale_y
    result.setCalibration(calibration)
    same = result.getStackSize() == sent.getStackSize()
    if same and result.getBitDepth() != 24:
        result.setDimensions(sent.getNChannels(), sent.getNSlices(), sent.getNFrames())
        if original.isComposite() and sent.getNChannels() == result.getNChannels() > 1:
            from ij import CompositeImage

            coloured = CompositeImage(result, original.getCompositeMode())
            coloured.setLuts(original.getLuts())
            coloured.setCalibration(calibration)
            result = coloured
        elif result.getNChannels() == 1:
            result.getProcessor().setColorModel(sent.getProcessor().getColorModel())
            result.getStack().setColorModel(sent.getProcessor().getColorModel())
        if result.getBitDepth() != 8 and not result.isComposite():
            result.setDisplayRange(sent.getDisplayRangeMin(), sent.getDisplayRangeMax())
        if original.isHyperStack():
            result.setOpenAsHyperStack(True)
    result.setTitle("%s [%s]" % (original.getTitle(), word))
    return result


def as_stack(named, title):
    """Images of one size and type as a stack with their names on the slices."""
    first = named[0][1]
    stack = ImageStack(first.getWidth(), first.getHeight())
    for name, imp in named:
        for index in range(1, imp.getStackSize() + 1):
            stack.addSlice(name, imp.getStack().getProcessor(index))
    result = ImagePlus(title, stack)
    result.setCalibration(first.getCalibration())
    return result


def show(imp, output=""):
    """Show a result, or write it where there is no screen (or where a file was asked for)."""
    if output:
        saver = FileSaver(imp)
        if not (saver.saveAsTiffStack(output) if imp.getStackSize() > 1 else saver.saveAsTiff(output)):
            raise Refusal("The result could not be written to %s." % output)
        IJ.log("dlm_fiji: wrote " + output)
    if not GraphicsEnvironment.isHeadless():
        imp.show()
    return imp


def _temporary():
    handle, path = tempfile.mkstemp(suffix=".tif", prefix="dlm_fiji_")
    os.close(handle)
    return path


# --- what every script does

def parameters(names):
    """The script's parameters (SciJava puts them among its variables) as settings of the service."""
    return dict((name[4:], _plain(value)) for name, value in names.items() if name.startswith("dlm_") and value is not None)


def _plain(value):
    if isinstance(value, (bool, int, long, float)):  # noqa: F821 - Jython 2.7
        return value
    return unicode(value)  # noqa: F821 - Jython 2.7


def guarded(work):
    """Run a script's work; a refusal is one sentence in one dialog (or in the log where there is no screen)."""
    try:
        return work()
    except Cancelled:
        IJ.showStatus("Cancelled")
    except Refusal as refusal:
        tell(unicode(refusal.args[0]))  # noqa: F821 - Jython 2.7
    return None


def tell(sentence):
    if GraphicsEnvironment.isHeadless():
        IJ.log("dlm_fiji: " + sentence)
        sys.stderr.write("dlm_fiji: " + sentence.encode("utf-8") + "\n")
    else:
        IJ.showMessage(TITLE, sentence)


def one_image(operation, result, word, settings, path="", output="", whole_stack=True):
    """Send the active image, return the one image that comes back."""
    def work():
        original = active_image(path)
        sent = part_to_send(original, whole_stack)
        service = find_service()
        job = run_job(service, operation, {"image": sent}, settings)
        return show(dressed(fetch(service, job, result), sent, original, word), output)

    return guarded(work)
