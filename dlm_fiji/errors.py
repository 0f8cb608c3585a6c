"""The one exception type of the package, split by who can mend the cause.

Every message is one sentence for the user: it names the file or setting, says what was expected and what to do.
The command line prints it without a traceback and exits with 2.
"""

__all__ = ["ConfigurationError", "DlmError", "DlmWarning", "InputError", "SetupError"]


class DlmError(Exception):
    """Something a user can mend. Catch this to catch everything dlm_fiji raises on purpose."""


class InputError(DlmError, ValueError):
    """An image, a label or a folder is not what the step needs."""


class ConfigurationError(DlmError, ValueError):
    """A setting is unknown, of the wrong type, or out of its range."""


class SetupError(DlmError, RuntimeError):
    """The machine lacks something: Java, a plugin, a model, memory, disk space, a network."""


class DlmWarning(UserWarning):
    """The result is usable, but the user should know something about it."""
