"""python -m seg_perception.cli: the command line without its installed script."""

import sys

from seg_perception.cli import main

sys.exit(main())
