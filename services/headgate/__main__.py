"""``python -m headgate`` is the command line."""

from headgate.cli import main

if __name__ == "__main__":
    main()
