"""``python -m router`` is the command ``pointsman``."""

from router.cli import main

if __name__ == "__main__":
    main()
