"""seg-perception bench: speed as ratios."""

import argparse
from pathlib import Path

from seg_perception.cli.arguments import Commands, resolved, whole_number


def add(commands: Commands) -> None:
    """Add the command and its options."""
    parser = commands.add_parser("bench", help="measure speed as ratios, interleaved")
    parser.add_argument("--model", help="a model file or name (default: the benchmark's own)")
    parser.add_argument("--json", type=Path, required=True, help="file to write")
    parser.add_argument("--rounds", type=whole_number, default=120, help="of every contender")
    parser.set_defaults(command=run, extra="ros,evaluate,export,train")


def run(options: argparse.Namespace) -> int:
    """Measure, and write and print the results."""
    from seg_perception.bench.bench import run_bench, write_json

    result = run_bench(resolved(options.model) if options.model else None, rounds=options.rounds)
    write_json(result, options.json)
    print(options.json.read_text("utf-8"), end="")
    return 0
