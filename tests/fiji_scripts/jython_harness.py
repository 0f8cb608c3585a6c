# ruff: noqa
# Run by Jython 2.7 with ij.jar: the scripts on images, as Fiji would run them. argv: a JSON file with the cases.

import json
import os
import sys
import threading
import time
import traceback

from ij import IJ, CompositeImage, WindowManager
from ij.gui import Roi
from ij.io import FileSaver
from ij.macro import Interpreter
from java.awt.event import KeyEvent

with open(sys.argv[1]) as source:
    TASK = json.load(source)
sys.path.insert(0, TASK["lib"])


def make(spec):
    imp = IJ.openImage(spec["path"])
    imp.setTitle(spec.get("title", "my image"))
    if spec.get("composite"):
        imp = CompositeImage(imp, CompositeImage.COMPOSITE)
    if spec.get("roi"):
        imp.setRoi(Roi(*spec["roi"]))
    if spec.get("position"):
        imp.setPosition(*spec["position"])
    return imp


def describe(imp, path):
    if imp is None or not hasattr(imp, "getWidth"):
        return imp
    calibration = imp.getCalibration()
    saver = FileSaver(imp)
    saver.saveAsTiffStack(path) if imp.getStackSize() > 1 else saver.saveAsTiff(path)
    return {
        "title": imp.getTitle(),
        "dimensions": list(imp.getDimensions()),
        "bits": imp.getBitDepth(),
        "composite": imp.isComposite(),
        "pixel": [calibration.pixelWidth, calibration.pixelHeight, calibration.pixelDepth],
        "origin": [calibration.xOrigin, calibration.yOrigin],
        "unit": calibration.getUnit(),
        "interval": calibration.frameInterval,
        "luts": [[lut.getRed(255), lut.getGreen(255), lut.getBlue(255)] for lut in imp.getLuts()]
        if imp.isComposite()
        else [],
        "labels": [imp.getStack().getSliceLabel(i + 1) for i in range(imp.getStackSize())],
        "path": path,
    }


def press_escape(seconds):
    def work():
        time.sleep(seconds)
        IJ.setKeyDown(KeyEvent.VK_ESCAPE)
        time.sleep(0.5)
        IJ.setKeyUp(KeyEvent.VK_ESCAPE)

    thread = threading.Thread(target=work)
    thread.daemon = True
    thread.start()


Interpreter.batchMode = True
answers = []
for number, case in enumerate(TASK["cases"]):
    names = {"__name__": "__main__", "input": "", "output": "", "whole_stack": True, "reference": ""}
    names.update(case.get("variables", {}))
    answer = {"name": case["name"]}
    messages = []
    import dlm_fiji_client

    dlm_fiji_client.tell = messages.append
    try:
        imp = make(case["image"]) if case.get("image") else None
        others = [make(spec) for spec in case.get("others", [])]
        for other in others:
            Interpreter.addBatchModeImage(other)
        if imp is not None:
            Interpreter.addBatchModeImage(imp)
        if case.get("escape"):
            press_escape(case["escape"])
        begin = time.time()
        execfile(os.path.join(TASK["scripts"], case["script"]), names)
        answer["seconds"] = time.time() - begin
        answer["result"] = describe(names["dlm_result"], os.path.join(TASK["out"], "%d.tif" % number))
        answer["roi_kept"] = imp is not None and imp.getRoi() is not None
    except:  # Java's exceptions too
        answer["traceback"] = traceback.format_exc()
    answer["messages"] = messages
    answers.append(answer)
    for identity in list(WindowManager.getIDList() or []):
        Interpreter.removeBatchModeImage(WindowManager.getImage(identity))
    WindowManager.setTempCurrentImage(None)
with open(os.path.join(TASK["out"], "answers.json"), "w") as target:
    json.dump(answers, target)
from java.lang import System

System.exit(0)
