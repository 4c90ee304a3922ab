from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from client.export.check import MEAN_TOLERANCE, Comparison, Runner, compare, reference
from client.export.graph import OPSET, WARNING, assemble, cast_plainly, frame, joined
from client.export.parts import Drafting, Finishing
from shared_model.backbone import Backbone
from shared_model.config import HeadConfig
from shared_model.errors import CompatibilityError, InputError, MissingError
from shared_model.generator import MULTIPLE
from shared_model.head import Head
from shared_model.images import to_tensor
from shared_model.stylize import Options, canvas_size

SMALL = HeadConfig(canvas_px=192, levels=3, patch=5, atoms=32, components=6, candidates=128)


@pytest.fixture(scope="module")
def photo() -> Tensor:
    """A real photo, smaller than its canvas."""
    from skimage import data

    return F.interpolate(to_tensor(data.chelsea()), size=(150, 226), mode="bicubic", antialias=True).clamp(0, 1)


KINDS: dict[str, dict[str, Any]] = {
    "looked up": {},
    "laid in": {"brush": 2},
    "filled": {"areas": 6, "outlines": 0.08, "palette": 0.0, "vivid": 1.0, "surface": 0.0},
    "washed": {"wash": 1.0, "levels": 1, "roughness": 0.0, "palette": 0.0, "vivid": 0.5},
    "hatched": {"abstraction": 0.2},
}


@pytest.fixture(scope="module", params=KINDS)
def head(request: pytest.FixtureRequest, backbone: Backbone) -> Head:
    from skimage import data

    picture = to_tensor(data.coffee())
    if request.param == "hatched":
        picture = picture.mean(1, keepdim=True).expand(1, 3, -1, -1)
    made = Head.fit([picture], backbone=backbone, name="small", config=replace(SMALL, **KINDS[request.param]))
    assert (made.hatching is not None) == (request.param == "hatched")
    return made


def _halves(photo: Tensor, head: Head, backbone: Backbone, options: Options) -> Tensor:
    """What the graph computes, by PyTorch: frame, draft, crop, finish."""
    height, width = canvas_size(photo, head.config.canvas_px)
    canvas = F.interpolate(photo, size=(height, width), mode="bicubic", antialias=True).clamp(0, 1)
    padded = F.pad(canvas, (0, -width % MULTIPLE, 0, -height % MULTIPLE), mode="replicate")
    wide = Drafting(head, backbone=backbone, detail=options.detail)(padded, torch.tensor(options.seed))
    fits = torch.tensor(photo[0, 0].numel() <= height * width)
    strength = torch.tensor(options.strength)
    result: Tensor = Finishing(head, options=options)(wide[:, :, :height, :width], canvas, photo, fits, strength)
    return result


@pytest.mark.parametrize(
    ("size", "options"),
    [
        ((150, 226), Options(seed=3)),
        ((301, 222), Options(detail=0.0)),
        ((260, 455), Options(strength=0.6, keep_color=True, seed=9)),
        ((620, 700), Options(detail=0.3, seed=4)),  # all of it in dabs
    ],
)
def test_the_two_halves_paint_what_stylize_paints(
    size: tuple[int, int], options: Options, photo: Tensor, head: Head, backbone: Backbone
) -> None:
    sized = F.interpolate(photo, size=size, mode="bicubic").clamp(0, 1)
    wanted = reference(sized, head=head, backbone=backbone, options=options)
    apart = (_halves(sized, head, backbone, options) - wanted).abs()
    assert float(apart.mean()) < MEAN_TOLERANCE / 4
    assert float((apart > 2 / 255).float().mean()) < 0.005
    if head.config.areas > 0:
        return  # there are no strokes
    other = reference(sized, head=head, backbone=backbone, options=Options(seed=77))
    assert float((other - wanted).abs().mean()) > 8 * MEAN_TOLERANCE  # other strokes are far outside of it


@pytest.mark.parametrize("size", [(512, 768), (200, 1900), (17, 33), (700, 301)])
def test_the_frame_makes_the_canvas_of_stylize(size: tuple[int, int]) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    session = runtime.InferenceSession(frame(512).SerializeToString(), providers=["CPUExecutionProvider"])
    photo = F.interpolate(torch.rand(1, 3, 9, 9), size=size, mode="bicubic").clamp(0, 1)
    names = ["canvas", "padded", "extent", "fits"]
    canvas, padded, extent, fits = session.run(names, {"photo": photo.numpy()})
    height, width = canvas_size(photo, 512)
    assert tuple(extent) == canvas.shape[2:] == (height, width)
    wanted = F.interpolate(photo, size=(height, width), mode="bicubic", antialias=True).clamp(0, 1)
    assert np.abs(canvas - wanted.numpy()).max() < 1e-5
    assert padded.shape[2] % MULTIPLE == padded.shape[3] % MULTIPLE == 0
    assert np.array_equal(padded, np.pad(canvas, [(0, 0), (0, 0), (0, -height % 4), (0, -width % 4)], mode="edge"))
    assert bool(fits) == (photo[0, 0].numel() <= height * width)


_STUB_DRAFT = """
<ir_version: 10, opset_import: ["": 18]>
draft (float[1, 3, r, c] canvas, int64 seed) => (float[1, 3, r, c] wide) {
  x = Cast <to = 1> (seed)
  wide = Add (canvas, x)
}
"""
_STUB_FINISH = """
<ir_version: 10, opset_import: ["": 18]>
finish (float[1, 3, h, w] painted, float[1, 3, h, w] canvas, float[1, 3, H, W] photo, bool fits, float strength)
  => (float[1, 3, H, W] result) {
  apart = Sub (painted, canvas)
  mean = ReduceMean <keepdims = 0> (apart)
  half = Constant <value = float {0.5}> ()
  none = Constant <value = float {0.0}> ()
  more = Where (fits, half, none)
  scaled = Mul (photo, strength)
  with_mean = Add (scaled, mean)
  result = Add (with_mean, more)
}
"""


@pytest.mark.parametrize(("size", "fits"), [((101, 203), True), ((300, 401), False)])
def test_frame_draft_crop_and_finish_are_joined(size: tuple[int, int], fits: bool) -> None:
    parser = pytest.importorskip("onnx.parser", reason="the extra `export` is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    whole = joined(parser.parse_model(_STUB_DRAFT), parser.parse_model(_STUB_FINISH), canvas_px=192)
    assert [value.name for value in whole.graph.input] == ["photo", "seed", "strength"]
    session = runtime.InferenceSession(whole.SerializeToString(), providers=["CPUExecutionProvider"])
    photo = np.random.default_rng(0).random((1, 3, *size), dtype=np.float32)
    feeds = {"photo": photo, "seed": np.array(7), "strength": np.array(0.25, np.float32)}
    (painting,) = session.run(["painting"], feeds)
    assert np.allclose(painting, 0.25 * photo + 7 + 0.5 * fits, atol=1e-4)


def test_casts_name_their_type_so_that_whoever_opens_the_file_is_not_warned() -> None:
    parser = pytest.importorskip("onnx.parser", reason="the extra `export` is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    model = parser.parse_model(f"""<ir_version: 10, opset_import: ["": {OPSET}]> g (float[n] x) => (float[n] y) {{
        whole = Constant <value = int64 {{3}}> ()
        length = Shape (x)
        same = Identity (length)
        like = CastLike (whole, x)
        count = CastLike (like, same)
        added = Add (count, same)
        real = CastLike (added, x)
        y = Mul (x, real)
    }}""")

    def painted() -> Any:
        session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        return session.run(None, {"x": np.arange(4, dtype=np.float32)})[0]

    before = painted()
    cast_plainly(model)
    assert [node.op_type for node in model.graph.node if "Cast" in node.op_type] == 3 * ["Cast"]
    assert painted().tolist() == before.tolist() == [0, 7, 14, 21]


def test_a_canvas_that_is_too_small_and_a_foreign_head_are_refused(tiny_head: Head, backbone: Backbone) -> None:
    pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
    with pytest.raises(InputError, match="too small"):
        assemble(tiny_head, backbone=backbone)
    with pytest.raises(CompatibilityError):
        assemble(tiny_head, backbone=Backbone(backbone.config, seed=99))


def test_what_torch_cannot_export_is_one_line(head: Head, backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxscript", reason="the extra `export` is not installed")

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("many\nlines")

    monkeypatch.setattr(torch.export, "export", fail)
    with pytest.raises(CompatibilityError, match="cannot export") as caught:
        assemble(head, backbone=backbone)
    assert "\n" not in caught.value.message and caught.value.hint


def test_without_onnx_it_says_what_to_install(head: Head, backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(MissingError) as caught:
        assemble(head, backbone=backbone)
    assert "easel[export]" in caught.value.hint


def test_what_is_close() -> None:
    assert Comparison(0.0019, 0.009, 1, 1).close
    assert not Comparison(0.0021, 0.0, 1, 1).close
    assert not Comparison(0.0, 0.011, 1, 1).close


def test_a_photo_on_which_pytorch_is_not_close_to_itself_excuses_nothing_but_is_named() -> None:
    found = Comparison(0.006, 0.13, 1, 1, own_mean=0.0075, own_share=0.13)
    assert not found.close and found.unsteady
    assert not Comparison(0.006, 0.13, 1, 1, own_mean=0.0001, own_share=0.0005).unsteady


def test_pytorch_is_asked_how_steady_it_is_only_where_the_file_is_not_close(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo, painted = torch.full((1, 3, 8, 8), 0.5), []

    def painter(offset: float) -> Any:
        def paint(x: torch.Tensor, **_: object) -> torch.Tensor:
            painted.append(float(x[0, 0, 0, 0]))
            return x + offset * len(painted)

        return paint

    runner = SimpleNamespace(paint=lambda photo, **_: photo)
    monkeypatch.setattr("client.export.check.Runner", lambda data: runner)
    given: dict[str, Any] = {"head": None, "backbone": backbone, "options": Options()}
    monkeypatch.setattr("client.export.check.reference", painter(0.0))
    assert compare(b"", photo, **given).own_mean == 0 and len(painted) == 1
    painted.clear()
    monkeypatch.setattr("client.export.check.reference", painter(0.01))
    found = compare(b"", photo, **given)
    assert len(painted) == 2 and painted[0] != painted[1] == pytest.approx(0.5, abs=1e-6)
    assert not found.close and found.unsteady and found.mean == pytest.approx(0.01) == found.own_mean


@pytest.fixture(scope="module")
def exported(head: Head, backbone: Backbone) -> bytes:
    pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
    pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    return assemble(head, backbone=backbone, facts={"head": "small"})


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("size", [(150, 226), (226, 150), (400, 603), (192, 192)])
def test_the_file_paints_photos_of_any_size_as_pytorch_does(
    size: tuple[int, int], exported: bytes, photo: Tensor, head: Head, backbone: Backbone
) -> None:
    sized = F.interpolate(photo, size=size, mode="bicubic").clamp(0, 1)
    for options in (Options(), Options(seed=5, strength=0.5)):
        found = compare(exported, sized, head=head, backbone=backbone, options=options)
        assert found.close, found
    assert torch.equal(Runner(exported).paint(sized, strength=0.0), sized)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_file_tells_what_it_is_and_nothing_of_this_machine(exported: bytes) -> None:
    import onnx

    model = onnx.load_from_string(exported)
    assert not any(node.op_type == "CastLike" for node in model.graph.node)
    onnx.checker.check_model(model)
    facts: dict[str, Any] = json.loads({entry.key: entry.value for entry in model.metadata_props}["easel"])
    assert facts == {"head": "small", "warning": WARNING}
    assert model.opset_import[0].version == OPSET
    assert [value.name for value in model.graph.input] == ["photo", "seed", "strength"]
    assert [value.name for value in model.graph.output] == ["painting"]
    root = Path(__file__).resolve().parents[3]
    assert str(root).encode() not in exported and b"site-packages" not in exported
