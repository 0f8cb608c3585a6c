#@script(label="Compare with Richardson-Lucy...", menuPath="Plugins>Deep Learning Microscopy>Compare with Richardson-Lucy...", headless=true)
#@ String(label="Image file (empty: the active image)", value="", required=false, persist=false) input
#@ String(label="Write the result to (empty: show it)", value="", required=false, persist=false) output
#@ Boolean(label="Whole stack", value=true, description="Off: only the slice that is shown") whole_stack
# --- parameters, made from the settings classes by 'python -m dlm_fiji.service.script_parameters'
#@ Double(label="NA", value=0.4, max=1.7, description="Numerical aperture of the objective") dlm_na
#@ Double(label="Condenser NA", value=0.3, min=0, max=1.7, description="Aperture of the condenser (bright field only)") dlm_condenser_na
#@ Double(label="Wavelength (um)", value=0.52, description="Wavelength of a fluorescence channel") dlm_wavelength_um
#@ Double(label="Pixel (um)", value=0.0, min=0, max=20, description="Pixel size, where the image has none") dlm_pixel_um
#@ Integer(label="Iterations", value=10, min=1, max=500, description="Iterations of Richardson-Lucy") dlm_iterations
#@ String(label="Model", value="brightfield-x2.5", description="Model: a shipped name, or a folder") dlm_model
# --- end of parameters

# The network, Richardson-Lucy and bicubic enlargement of the same image, as one stack on the same pixels.
from dlm_fiji_client import (active_image, as_stack, dressed, fetch, find_service, guarded, parameters, part_to_send,
                             run_job, show)


def compare():
    original = active_image(input)
    sent = part_to_send(original, whole_stack)
    service = find_service()
    job = run_job(service, "compare", {"image": sent}, parameters(names))
    named = [(word, dressed(fetch(service, job, word), sent, original, word))
             for word in ("bicubic", "richardson_lucy", "network")]
    return show(as_stack(named, original.getTitle() + " [comparison]"), output)


names = dict(globals())
dlm_result = guarded(compare)
