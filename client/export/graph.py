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
from torch import Tensor

from client.export.parts import Drafting, Finishing
from shared_model.backbone import Backbone
from shared_model.errors import CompatibilityError, InputError, MissingError
from shared_model.generator import MULTIPLE
from shared_model.head import Head
from shared_model.stylize import MAX_SIDE, Options, check_match

if TYPE_CHECKING:
    import onnx
    from torch.export import ExportedProgram

__all__ = [
    "OPSET",
    "WARNING",
    "assemble",
    "cast_plainly",
    "frame",
    "import_onnx",
    "joined",
    "trace_drafting",
    "trace_finishing",
]

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


def trace_drafting(head: Head, *, backbone: Backbone, options: Options) -> ExportedProgram:
    """Trace the first half with a dynamic canvas, by ``torch.export``; nothing is painted yet.

    Raises
    ------
    CompatibilityError
        If head and backbone do not belong together.
    InputError
        If the head's canvas is too small for an exported graph.
    """
    check_match(head, backbone)
    smallest = _smallest(head)
    rows, columns = (
        torch.export.Dim(name, min=smallest // MULTIPLE, max=_LONGEST * head.config.canvas_px // MULTIPLE)
        for name in ("rows", "columns")
    )
    module = Drafting(head, backbone=backbone, detail=options.detail).eval()
    with torch.no_grad():
        return torch.export.export(
            module,
            (_example(head), torch.tensor(0)),
            dynamic_shapes={"canvas": {2: MULTIPLE * rows, 3: MULTIPLE * columns}, "seed": None},
            strict=False,
        )


def trace_finishing(head: Head, *, options: Options) -> ExportedProgram:
    """Trace the second half with a dynamic canvas and photo; raises like :func:`trace_drafting`."""
    smallest, largest = _smallest(head), _LONGEST * head.config.canvas_px
    canvas = {i: torch.export.Dim(f"canvas_{i}", min=smallest, max=largest) for i in (2, 3)}
    photo = {i: torch.export.Dim(f"photo_{i}", min=16, max=MAX_SIDE) for i in (2, 3)}
    example = _example(head)
    height, width = example.shape[-2:]
    given = (example, example.clone(), torch.zeros(1, 3, height - 12, width + 76))
    with torch.no_grad():
        return torch.export.export(
            Finishing(head, options=options).eval(),
            (*given, torch.tensor(True), torch.tensor(1.0)),
            dynamic_shapes={"painted": canvas, "canvas": canvas, "photo": photo, "fits": None, "strength": None},
            strict=False,
        )


def _smallest(head: Head) -> int:
    """Return the shortest side of a canvas that the graph takes."""
    canvas_px = head.config.canvas_px
    if canvas_px < _SMALLEST:
        raise InputError(f"a canvas of {canvas_px} px is too small to be exported", hint=f"at least {_SMALLEST} px")
    return max(_SMALLEST, canvas_px // 2)


def _example(head: Head) -> Tensor:
    """Return a canvas to trace with: of ordinary proportions, and no side like another."""
    side = head.config.canvas_px // MULTIPLE * MULTIPLE
    return torch.zeros(1, 3, side + MULTIPLE, side * 3 // 2 // MULTIPLE * MULTIPLE)


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
        See :func:`trace_drafting`.
    MissingError
        If onnx or onnxscript is not installed.
    """
    import_onnx()
    options = options or Options()
    try:
        drafting = _to_onnx(trace_drafting(head, backbone=backbone, options=options))
        finishing = _to_onnx(trace_finishing(head, options=options))
    except RuntimeError as error:  # whatever torch's exporters raise, they say it over many lines
        why = f"torch {torch.__version__} cannot export this head: {type(error).__name__}"
        raise CompatibilityError(why, hint="use the versions of constraints.txt, or report this") from error
    model = joined(drafting, finishing, canvas_px=head.config.canvas_px)
    model.doc_string = WARNING
    model.producer_name = "easel"
    entry = model.metadata_props.add()
    entry.key, entry.value = "easel", json.dumps({"warning": WARNING, **(facts or {})}, sort_keys=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _to_onnx(program: ExportedProgram) -> onnx.ModelProto:
    """Translate a traced half; what the exporter says about this machine (paths, stacks) is dropped."""
    # Guards that tracing left behind hold for the example's size only; the exporter would fix the size to meet them.
    # What they guard is checked instead: the file must paint like PyTorch (client.export.check) at other sizes, too.
    program._guards_code = []
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


def frame(canvas_px: int) -> onnx.ModelProto:
    """Return the graph that makes a canvas, and a padded one, of a photo: :func:`shared_model.stylize.canvas_size`."""
    from onnx import parser

    short, long = f"{canvas_px}.0", f"{_LONGEST * canvas_px}.0"  # doubles, as in Python
    text = _FRAME.format(ir=_IR, opset=OPSET, multiple=MULTIPLE, short=short, long=long)
    return parser.parse_model(text)


def joined(drafting: onnx.ModelProto, finishing: onnx.ModelProto, *, canvas_px: int) -> onnx.ModelProto:
    """Put frame, draft, crop and finish one after the other.

    Parameters
    ----------
    drafting
        ``canvas, seed`` to a painting of the canvas's size.
    finishing
        ``painted, canvas, photo, fits, strength`` to a painting of the photo's size.
    canvas_px
        Short side of a canvas.
    """
    from onnx import checker as onnx_checker
    from onnx import compose, parser

    crop = parser.parse_model(_CROP.format(ir=_IR, opset=OPSET))
    for model in (drafting, finishing):
        model.ir_version = _IR
        del model.opset_import[1:]
    merge = compose.merge_models
    drafted = drafting.graph.output[0].name
    painted = finishing.graph.output[0].name
    whole = merge(frame(canvas_px), drafting, io_map=[("padded", "canvas")], prefix1="frame_", prefix2="draft_")
    whole = merge(whole, crop, io_map=[(f"draft_{drafted}", "wide"), ("frame_extent", "size")], prefix2="crop_")
    joints = [("crop_cropped", "painted"), ("frame_canvas", "canvas"), ("frame_original", "photo")]
    joints.append(("frame_fits", "fits"))
    whole = merge(whole, finishing, io_map=joints, prefix2="finish_", name="easel")
    names = {
        "frame_photo": "photo",
        "draft_seed": "seed",
        "finish_strength": "strength",
        f"finish_{painted}": "painting",
    }
    _rename(whole.graph, names)
    whole.graph.output[0].CopyFrom(whole.graph.input[0])
    whole.graph.output[0].name = "painting"
    cast_plainly(whole)
    onnx_checker.check_model(whole, full_check=True)
    return whole


def cast_plainly(model: onnx.ModelProto) -> None:
    """Turn every ``CastLike`` into a ``Cast`` to the type that its like has, where that is known.

    onnxruntime has no kernel for the former, and prints a warning for each whenever the file is opened.
    """
    from onnx import helper, shape_inference

    graph = shape_inference.infer_shapes(model).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input)}
    kinds |= {value.name: value.data_type for value in graph.initializer}
    for node in model.graph.node:
        if node.op_type == "CastLike" and (kind := kinds.get(node.input[1])):
            node.op_type = "Cast"
            del node.input[1:]
            node.attribute.append(helper.make_attribute("to", kind))


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
