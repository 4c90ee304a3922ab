"""Decodes one HEIC photo: a script that :mod:`shared_model.heic` runs, file on stdin, answer on stdout.

The answer is one line of JSON, then EXIF, color profile and pixels as they are; or, with exit code 1, a line that says
why there are none. It knows nothing of easel and is given nothing but the file.
"""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

__all__: list[str] = []

_OPENING, _DECODING = 400 << 20, 1 << 30  # bytes of addresses; most are Python's and those of threads
_PIXEL = 16  # bytes more for each


def _bound(memory: int) -> None:
    """Take no more than so many bytes; write no files, leave no core behind. Where systems can do it."""
    with contextlib.suppress(ImportError):
        import resource

        for kind, most in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)):
            _, hard = resource.getrlimit(kind)
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _answer(max_pixels: int) -> None:
    _bound(_DECODING)
    import pi_heif

    data = sys.stdin.buffer.read()
    _bound(_OPENING + 2 * len(data))
    for unused in ("THUMBNAILS", "DEPTH_IMAGES", "AUX_IMAGES"):
        setattr(pi_heif.options, unused, False)
    found = pi_heif.open_heif(data)
    if not len(found) or not found.info["primary"]:
        raise ValueError("the main picture cannot be opened")
    width, height = found.size
    if width * height > max_pixels:
        raise OverflowError
    _bound(_DECODING + len(data) + _PIXEL * width * height)
    image = found[found.primary_index]
    pixels, info = image.data, image.info
    exif, profile = info.get("exif") or b"", info.get("icc_profile") or b""
    primaries = info.get("nclx_profile", {}).get("color_primaries", 0)
    told: dict[str, Any] = {"size": image.size, "mode": image.mode, "several": len(found) > 1}
    told |= {"primaries": int(primaries), "exif": len(exif), "profile": len(profile)}
    for part in (json.dumps(told).encode() + b"\n", exif, profile, pixels):
        sys.stdout.buffer.write(part)  # here, where `image` lives: `pixels` are its memory and do not keep it
    sys.stdout.buffer.flush()


def _main() -> int:
    try:
        _answer(int(sys.argv[1]))
    except OverflowError:
        why = "large"
    except MemoryError:
        why = "memory"
    except ImportError:
        why = "import"
    except SyntaxError:  # pi-heif's word for what libheif knows and does not decode
        why = "unknown"
    except Exception as error:
        full = "Memory allocation" in str(error) and "Security limit" not in str(error)
        why = "memory" if full else "damaged"
    else:
        return 0
    print(json.dumps({"refused": why}))
    return 1


if __name__ == "__main__":
    sys.exit(_main())
