# SPDX-License-Identifier: Apache-2.0
"""``python -m dlcore.cli`` is the command ``dlcore``."""

import sys

from . import main

if __name__ == "__main__":
    sys.exit(main())
