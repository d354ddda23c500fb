"""`python -m smbfuse` is `smbfuse`."""

import sys

from smbfuse.cli.main import main

sys.exit(main())
