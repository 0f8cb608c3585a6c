#@script(label="Deconvolve Image...", menuPath="Plugins>Deep Learning Microscopy>Deconvolve Image...", headless=true)
#@ String(label="Image file (empty: the active image)", value="", required=false, persist=false) input
#@ String(label="Write the result to (empty: show it)", value="", required=false, persist=false) output
#@ Boolean(label="Whole stack", value=true, description="Off: only the slice that is shown") whole_stack
# --- parameters, made from the settings classes by 'python -m dlm_fiji.service.script_parameters'
#@ Double(label="NA", value=0.4, max=1.7, description="Numerical aperture of the objective") dlm_na
#@ Double(label="Condenser NA", value=0.3, min=0, max=1.7, description="Aperture of the condenser (bright field only)") dlm_condenser_na
#@ Double(label="Wavelength (um)", value=0.52, description="Wavelength of a fluorescence channel") dlm_wavelength_um
#@ Double(label="Pixel (um)", value=0.0, min=0, max=20, description="Pixel size, where the image has none") dlm_pixel_um
#@ Integer(label="Iterations", value=10, min=1, max=500, description="Iterations of Richardson-Lucy") dlm_iterations
#@ Double(label="Scale", value=1.0, min=1, max=5, description="Enlargement before the first iteration") dlm_scale
#@ Double(label="Damping", value=0.0, min=0, max=1, description="Damping, as a part of the maximum (fluorescence only)") dlm_damping
# --- end of parameters

# Richardson-Lucy deconvolution of the active image with a Born & Wolf point spread function.
from dlm_fiji_client import one_image, parameters

dlm_result = one_image("deconvolve", "deconvolved", "deconvolved", parameters(dict(globals())), input, output, whole_stack)
