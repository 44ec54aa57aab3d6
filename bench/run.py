# SPDX-License-Identifier: Apache-2.0
"""A door to ``dlcore bench``: ``run.py ops|step|infer|all [--json] [--threads N] [--rounds N] [--case NAME] [--list]``."""

import sys

from dlcore.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", *sys.argv[1:]]))
