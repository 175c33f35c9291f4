"""`python -m neurosim` is the `neurosim` command."""

import sys
from pathlib import Path


def own_packages_first() -> None:
    """Look beside this package first: `python -m` looks into the working directory before.

    There a user's own `analysis` or `experiments` may be.
    """
    home = str(Path(__file__).resolve().parents[1])
    if home in sys.path[1:]:
        sys.path.remove(home)
        sys.path.insert(0, home)


if __name__ == "__main__":
    own_packages_first()

    from neurosim.cli import main

    sys.exit(main())
