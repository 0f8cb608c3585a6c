#@script(label="Train Network...", menuPath="Plugins>Deep Learning Microscopy>Train Network...", headless=true)
# --- parameters, made from the settings classes by 'python -m dlm_fiji.service.script_parameters'
#@ String(label="Config", value="", required=false, description="Configuration file (TOML)") dlm_config
#@ String(label="Output", value="", required=false, description="Run folder") dlm_output
# --- end of parameters

# Train a network for your microscope: the pipeline of a configuration file; Esc stops, the same command continues.
from dlm_fiji_client import figures, find_service, guarded, parameters, run_job, tell


def train():
    service = find_service()
    job = run_job(service, "train", {}, parameters(names))
    report = figures(service, job)["report"]
    tell("The report is %s." % report)
    return report


names = dict(globals())
dlm_result = guarded(train)
