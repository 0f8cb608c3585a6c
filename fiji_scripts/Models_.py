#@script(label="List Models", menuPath="Plugins>Deep Learning Microscopy>List Models", headless=true)

# The models that are there, and what each was made for.
from ij import IJ

from dlm_fiji_client import find_service, guarded


def models():
    found = find_service().json("/models")
    for name in sorted(found):
        card = found[name]
        IJ.log("%s: %s, %sx. %s" % (name, card["modality"], card["scale"], card["description"]))
    if not found:
        IJ.log("dlm_fiji: no models are installed.")
    return sorted(found)


dlm_result = guarded(models)
