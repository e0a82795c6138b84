"""seg-perception: the command line. Each command imports what it needs, so that help is instant.

Exit status: 0 good, 1 a verdict or an input that failed, 2 wrong usage.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from seg_perception.cli import (
    bench,
    demo,
    distill,
    doctor,
    evaluate,
    export,
    import_model,
    label,
    map_bag,
    models,
    predict,
    quantize,
    train,
    verify,
)
from seg_perception.errors import SegPerceptionError, UsageError

COMMANDS = (
    demo,
    models,
    predict,
    import_model,
    verify,
    export,
    quantize,
    map_bag,
    label,
    evaluate,
    doctor,
    bench,
    train,
    distill,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    options = build_parser().parse_args(arguments)
    try:
        status: int = options.command(options)
    except UsageError as error:
        print(f"seg-perception: {error}", file=sys.stderr)
        return 2
    except SegPerceptionError as error:
        print(f"seg-perception: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        extra = options.extra
        if not extra:
            raise
        print(
            f"seg-perception: {error.name} is not installed; this command needs "
            f"pip install '.[{extra}]' in the folder of its source",
            file=sys.stderr,
        )
        return 1
    except BrokenPipeError:  # as in: seg-perception predict ... | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing fails at the end
        return 1
    except KeyboardInterrupt:
        return 130  # as shells say of a command that was interrupted
    return status


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of every command; docs/reference/cli.md is written from it."""
    parser = argparse.ArgumentParser(prog="seg-perception", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser
