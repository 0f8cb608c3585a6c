"""``python -m dlm_fiji``."""

from dlm_fiji.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
