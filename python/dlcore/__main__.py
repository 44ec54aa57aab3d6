# SPDX-License-Identifier: Apache-2.0
"""``python -m dlcore`` is the command ``dlcore``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
