"""``python -m farm.report NAME``; see `farm.publish`."""

from farm.publish import main

if __name__ == "__main__":
    main()
