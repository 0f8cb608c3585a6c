#@script(label="Error Map...", menuPath="Plugins>Deep Learning Microscopy>Error Map...", headless=true)
#@ String(label="Enhanced image: file (empty: the active image)", value="", required=false, persist=false) input
#@ String(label="Reference: title or file of the image it was made from", value="", persist=false) reference
#@ String(label="Write the result to (empty: show it)", value="", required=false, persist=false) output
# --- parameters, made from the settings classes by 'python -m dlm_fiji.service.script_parameters'
#@ Integer(label="Enlargement", value=0, min=0, max=16, description="Pixels of the enhanced image to one of the reference; 0 finds it") dlm_enlargement
#@ String(label="Engine", choices={"native", "fiji"}, value="native", description="native, or NanoJ-SQUIRREL itself (slow)") dlm_engine
# --- end of parameters

# Where an enhanced image contradicts the image it was made from (NanoJ-SQUIRREL's error map).
from ij import IJ

from dlm_fiji_client import (active_image, fetch, figures, find_service, guarded, image_by_title, parameters,
                             part_to_send, run_job, show)


def error_map():
    fine = active_image(input)
    coarse = image_by_title(reference)
    service = find_service()
    images = {"image": part_to_send(fine, False), "reference": part_to_send(coarse, False)}
    job = run_job(service, "error_map", images, parameters(names))
    result = fetch(service, job, "error_map")
    result.setTitle(fine.getTitle() + " [error map]")
    found = figures(service, job)
    IJ.log("dlm_fiji: error map of %s: RSE %.4g, RSP %.4f" % (fine.getTitle(), found["rse"], found["rsp"]))
    return show(result, output)


names = dict(globals())
dlm_result = guarded(error_map)
