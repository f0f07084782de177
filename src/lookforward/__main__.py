"""`python -m lookforward`."""

from lookforward.cli import main

main()
