"""`python -m dermsa`"""

import sys

from dermsa.cli import main

sys.exit(main())
