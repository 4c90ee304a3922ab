"""One ONNX graph of a whole painting: any photo in, the painting of the same size out.

PyTorch exports the two halves (:mod:`client.export.parts`) with dynamic height and width; the few
operators before, between and after them (what size the canvas has, padding, cropping) are written here
in ONNX's own text form, since sizes are numbers of the graph there.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch

from client.export.parts import Drafting, Finishing
from shared_model.backbone import Backbone
from shared_model.errors import InputError, MissingError
from shared_model.generator import MULTIPLE
from shared_model.head import Head
from shared_model.stylize import Options, check_match

if TYPE_CHECKING:
    import onnx
    from torch.export import ExportedProgram

__all__ = ["OPSET", "WARNING", "assemble", "export_halves", "import_onnx"]

OPSET = 18
WARNING = "This file contains small pieces of the pictures that the head was made from."
_IR = 10
_SMALLEST = 192  # pixels of a canvas's short side that the coarsest band still fits into
_LONGEST = 4  # a canvas is at most this many times as long as it is short (shared_model.stylize)
_FRAME = """
<ir_version: {ir}, opset_import: ["": {opset}]>
frame (float[1, 3, height, width] photo)
  => (float[1, 3, rows, columns] canvas, float[1, 3, padded_rows, padded_columns] padded, int64[2] extent, bool fits,
      float[1, 3, height, width] original) {{
  own = Shape <start = 2> (photo)
  sides = Cast <to = 11> (own)
  axis = Constant <value_ints = [0]> ()
  shorter = ReduceMin <keepdims = 0> (sides, axis)
  longer = ReduceMax <keepdims = 0> (sides, axis)
  short_px = Constant <value = double {{{short}}}> ()
  long_px = Constant <value = double {{{long}}}> ()
  by_short = Div (short_px, shorter)
  by_long = Div (long_px, longer)
  scale = Min (by_short, by_long)
  scaled = Mul (sides, scale)
  rounded = Round (scaled)
  whole = Cast <to = 7> (rounded)
  four = Constant <value = int64 {{{multiple}}}> ()
  size = Max (whole, four)
  extent = Identity (size)
  original = Identity (photo)
  front = Constant <value_ints = [1, 3]> ()
  sizes = Concat <axis = 0> (front, size)
  resized = Resize <mode = "cubic", antialias = 1, cubic_coeff_a = -0.5, exclude_outside = 1,
                    coordinate_transformation_mode = "half_pixel"> (photo, , , sizes)
  low = Constant <value = float {{0.0}}> ()
  high = Constant <value = float {{1.0}}> ()
  canvas = Clip (resized, low, high)
  negative = Neg (size)
  missing = Mod (negative, four)
  none = Constant <value_ints = [0, 0, 0, 0, 0, 0]> ()
  pads = Concat <axis = 0> (none, missing)
  padded = Pad <mode = "edge"> (canvas, pads)
  own_pixels = ReduceProd <keepdims = 0> (own, axis)
  pixels = ReduceProd <keepdims = 0> (size, axis)
  fits = LessOrEqual (own_pixels, pixels)
}}
"""
_CROP = """
<ir_version: {ir}, opset_import: ["": {opset}]>
crop (float[1, 3, padded_rows, padded_columns] wide, int64[2] size) => (float[1, 3, rows, columns] cropped) {{
  start = Constant <value_ints = [0, 0]> ()
  axes = Constant <value_ints = [2, 3]> ()
  cropped = Slice (wide, start, size, axes)
}}
"""


def import_onnx() -> None:
    """Make sure that what writes ONNX files is installed.

    Raises
    ------
    MissingError
        If it is not.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingError(f"{error.name} is not installed", hint="pip install 'easel[export]'") from error
    del onnx


def export_halves(head: Head, *, backbone: Backbone, options: Options) -> tuple[ExportedProgram, ExportedProgram]:
    """Trace both halves with dynamic sizes, by ``torch.export``; nothing is painted yet.

    Raises
    ------
    CompatibilityError
        If head and backbone do not belong together.
    InputError
        If the head's canvas is too small for an exported graph.
    """
    check_match(head, backbone)
    canvas_px = head.config.canvas_px
    smallest = max(_SMALLEST, canvas_px // 2)
    if canvas_px < smallest:
        raise InputError(f"a canvas of {canvas_px} px is too small to be exported", hint=f"at least {_SMALLEST} px")
    drafting = Drafting(head, backbone=backbone, detail=options.detail).eval()
    finishing = Finishing(head, options=options).eval()
    long = canvas_px * 3 // 2 // MULTIPLE * MULTIPLE
    canvas = torch.zeros(1, 3, canvas_px // MULTIPLE * MULTIPLE, long)
    photo = torch.zeros(1, 3, canvas_px - 12, canvas_px + 76)
    rows, columns = (torch.export.Dim(n, min=smallest // MULTIPLE, max=_LONGEST * canvas_px) for n in ("r", "c"))
    padded = {2: MULTIPLE * rows, 3: MULTIPLE * columns}
    sides = {
        i: torch.export.Dim(n, min=smallest, max=2 * _LONGEST * canvas_px) for i, n in ((2, "height"), (3, "width"))
    }
    outer = {i: torch.export.Dim(n, min=16, max=1 << 15) for i, n in ((2, "photo_height"), (3, "photo_width"))}
    with torch.no_grad():
        first = torch.export.export(
            drafting,
            (canvas, torch.tensor(0)),
            dynamic_shapes={"canvas": padded, "seed": None},
            strict=False,
        )
        second = torch.export.export(
            finishing,
            (canvas, canvas.clone(), photo, torch.tensor(True), torch.tensor(1.0)),
            dynamic_shapes={"painted": sides, "canvas": sides, "photo": outer, "fits": None, "strength": None},
            strict=False,
        )
    return first, second


def assemble(
    head: Head, *, backbone: Backbone, options: Options | None = None, facts: Mapping[str, object] | None = None
) -> bytes:
    """Return the ONNX file of a head's paintings.

    Its inputs are ``photo (1, 3, height, width) float32 in [0, 1]``, ``seed () int64`` and ``strength ()
    float32``, its output ``painting``, like ``photo``.

    Parameters
    ----------
    head, backbone
        They must belong together.
    options
        ``detail`` and ``keep_color`` are built in; the others have no effect.
    facts
        Written into the file's metadata as JSON under ``easel``.

    Raises
    ------
    CompatibilityError, InputError
        See :func:`export_halves`.
    MissingError
        If onnx or onnxscript is not installed.
    """
    import_onnx()
    options = options or Options()
    programs = export_halves(head, backbone=backbone, options=options)
    drafting, finishing = (_to_onnx(program) for program in programs)
    model = _joined(drafting, finishing, canvas_px=head.config.canvas_px)
    model.doc_string = WARNING
    model.producer_name = "easel"
    entry = model.metadata_props.add()
    entry.key, entry.value = "easel", json.dumps({"warning": WARNING, **(facts or {})}, sort_keys=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _to_onnx(program: ExportedProgram) -> onnx.ModelProto:
    """Translate a traced half; what the exporter says about this machine (paths, stacks) is dropped."""
    with _quiet():
        translated = torch.onnx.export(program, dynamo=True, opset_version=OPSET, verbose=False, optimize=False)
    if translated is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    model: onnx.ModelProto = translated.model_proto
    del model.graph.value_info[:], model.metadata_props[:], model.graph.metadata_props[:]
    model.graph.doc_string = model.doc_string = ""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    return model


def _joined(drafting: onnx.ModelProto, finishing: onnx.ModelProto, *, canvas_px: int) -> onnx.ModelProto:
    """Put frame, draft, crop and finish one after the other."""
    from onnx import checker as onnx_checker
    from onnx import compose, parser

    fills = {"ir": _IR, "opset": OPSET, "multiple": MULTIPLE}
    frame = parser.parse_model(
        _FRAME.format(short=f"{canvas_px}.0", long=f"{_LONGEST * canvas_px}.0", **fills)  # doubles, as in Python
    )
    crop = parser.parse_model(_CROP.format(**fills))
    for model in (drafting, finishing):
        model.ir_version = _IR
        del model.opset_import[1:]
    merge = compose.merge_models
    drafted = drafting.graph.output[0].name
    painted = finishing.graph.output[0].name
    whole = merge(frame, drafting, io_map=[("padded", "canvas")], prefix1="frame_", prefix2="draft_")
    whole = merge(whole, crop, io_map=[(f"draft_{drafted}", "wide"), ("frame_extent", "size")], prefix2="crop_")
    joints = [("crop_cropped", "painted"), ("frame_canvas", "canvas"), ("frame_original", "photo")]
    joints.append(("frame_fits", "fits"))
    whole = merge(whole, finishing, io_map=joints, prefix2="finish_", name="easel")
    names = {"frame_photo": "photo", "draft_seed": "seed", "finish_strength": "strength", f"finish_{painted}": "painting"}
    _rename(whole.graph, names)
    whole.graph.output[0].CopyFrom(whole.graph.input[0])
    whole.graph.output[0].name = "painting"
    onnx_checker.check_model(whole, full_check=True)
    return whole


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Give values other names, in this graph and not inside of branches."""
    for value in (*graph.input, *graph.output):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's own words (progress, missing torchvision) off the terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)

