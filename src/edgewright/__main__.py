"""``python -m edgewright``."""

from edgewright.cli import main

if __name__ == "__main__":
    main()
