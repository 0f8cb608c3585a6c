#@script(label="Service Status", menuPath="Plugins>Deep Learning Microscopy>Service Status", headless=true)

# Whether the service runs, and which; nothing is started.
from dlm_fiji_client import guarded, recorded_python, running_service, tell


def status():
    service = running_service()
    if service is None:
        tell("The dlm_fiji service does not run; the next command starts it with %s." % recorded_python())
        return None
    health = service.json("/health")
    tell("The dlm_fiji service %s runs at %s (process %s), %s jobs."
         % (health["version"], service.address, health["pid"], health["busy"]))
    return health


dlm_result = guarded(status)
