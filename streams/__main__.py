"""`python -m streams` is the same as the `seatflow` command."""

from streams.cli.main import main

if __name__ == "__main__":
    main()
