#@ ImagePlus imp
#@ String(label="Model", value="brightfield-x2.5") dlm_model
#@output ImagePlus result
# For Fiji's own Python mode (CPython in Fiji's process): the network runs right here, without the service.
import dlm_fiji

result = dlm_fiji.enhance(imp, dlm_model)
