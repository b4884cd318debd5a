"""`python -m csv2kafka`."""

from csv2kafka.cli import main

main()
