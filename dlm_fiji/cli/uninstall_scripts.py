"""``dlm_fiji uninstall-scripts``."""

from dlm_fiji.cli.install_scripts import uninstall_command as command

__all__ = ["command"]
