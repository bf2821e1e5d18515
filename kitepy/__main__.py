"""``python -m kitepy`` is the ``kitepy`` command."""

from kitepy.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
