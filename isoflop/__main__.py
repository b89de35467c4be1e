"""``python -m isoflop``: the command line."""

from isoflop.cli import main

if __name__ == "__main__":
    main()
