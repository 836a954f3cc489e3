"""`python -m yggdrasil` is the command `yggdrasil`."""

from yggdrasil.cli import main

main()
