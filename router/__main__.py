"""``python -m router`` is the command ``pointsman``."""

from router.cli import main
from router.supervisor import bind_to_parent

if __name__ == "__main__":
    bind_to_parent()  # before anything slow is imported
    main()
