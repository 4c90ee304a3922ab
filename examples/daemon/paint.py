"""Paint a photo with the daemon of this user: python paint.py PHOTO HEAD OUT.

Start the daemon first: easel serve
"""

import sys
from pathlib import Path

import easel  # noqa: F401  (makes `client` importable from an installed wheel)
from client.studio_client import Client, Progress
from shared_model.errors import EaselError


def show(progress: Progress) -> None:
    """Print where it stands."""
    waiting = f", {progress.ahead} before this one" if progress.ahead else ""
    print(f"{progress.stage} {progress.fraction:.0%}{waiting}", file=sys.stderr)


def main(photo: str, head: str, out: str) -> int:
    """Paint one photo; returns an exit code."""
    try:
        with Client.connect() as painter:
            painting = painter.stylize(
                Path(photo).read_bytes(), head=head, format=Path(out).suffix.lstrip("."), progress=show
            )
    except EaselError as error:
        print(f"error: {error.message}\nhint: {error.hint}", file=sys.stderr)
        return error.exit_code
    Path(out).write_bytes(painting.data)
    print(f"{out}  {painting.width} x {painting.height}, {painting.seconds:.1f} s")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: python paint.py PHOTO HEAD OUT")
    sys.exit(main(*sys.argv[1:]))
