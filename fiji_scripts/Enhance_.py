#@script(label="Enhance Image...", menuPath="Plugins>Deep Learning Microscopy>Enhance Image...", headless=true)
#@ String(label="Image file (empty: the active image)", value="", required=false, persist=false) input
#@ String(label="Write the result to (empty: show it)", value="", required=false, persist=false) output
#@ Boolean(label="Whole stack", value=true, description="Off: only the slice that is shown") whole_stack
# --- parameters, made from the settings classes by 'python -m dlm_fiji.service.script_parameters'
#@ String(label="Model", value="brightfield-x2.5", description="Model: a shipped name, or a folder") dlm_model
#@ Integer(label="Passes", value=1, min=1, max=5, description="Times the output is fed back in") dlm_passes
#@ String(label="Backend", choices={"auto", "torch", "openvino", "onnxruntime"}, value="auto", description="What computes the network") dlm_backend
# --- end of parameters

# The image of a better lens: a trained network applied to the active image (research use only).
from dlm_fiji_client import one_image, parameters

dlm_result = one_image("enhance", "enhanced", "enhanced", parameters(dict(globals())), input, output, whole_stack)
