"""This process's input and outputs, where they are not as they should be."""

import os
import sys


def open_what_is_closed() -> None:
    """What is started without an output, as by `>&-`, has None for it, and its number is free for
    the next file that is opened."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def silence() -> None:
    """What stdout still keeps, and all that it is given from here on, goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
