#@ ImagePlus imp
#@ String(label="Model", value="brightfield-x2.5") dlm_model
#@output ImagePlus result
# For Fiji's own Python mode (CPython in Fiji's process): the network runs right here, without the service.
from dlm_fiji.fiji import takes_imageplus
from dlm_fiji.steps import enhance

result = takes_imageplus("enhanced")(enhance)(imp, dlm_model)
