"""`python -m judge` is `arena-judge`."""

from judge.cli.main import main

if __name__ == "__main__":
    main()
