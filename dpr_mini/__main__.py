"""`python -m dpr_mini` is the command line."""

from dpr_mini.cli import main

if __name__ == "__main__":
    main()
