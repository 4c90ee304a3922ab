"""One pyramid level of a head: medoid patches of the owner's pictures, and look-ups into them.

A patch of the query picture is replaced by its nearest patch of the dictionary (non-parametric
sampling; Efros & Freeman 2001) under a per-patch price that makes rarely used patches cheaper
(completeness; Granot et al. 2022, eq. 2). A patch may take the mean color of the place that it goes to
(bias; Darabi et al. 2012): else a tone that the pictures lack is made of whatever is like it on average,
however restless. Queries sit on a grid whose every point is moved by a seeded random
offset: a regular grid of overlapping patches would leave a visible weave.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from shared_model.images import resize_short
from shared_model.pyramid import luminance, window_mean

__all__ = ["Dictionary", "hop_of"]

_BLOCKS = 16  # of patches, compared side by side
_CHUNK = 1024  # queries compared at once: keeps the score table in the processor's cache
_UNSEEN = 0.75  # of a patch's mean color that look-ups do not see where it is moved anyway
_WINDOWS = {False: (1.5, 0.02), True: (4.0, 1e-3)}  # crisp: power of a patch's blending weights, and their rim


def _window(side: int, *, crisp: bool) -> Tensor:
    """Blending weights ``(side, side)``: a Hann window to a power above a small rim."""
    power, rim = _WINDOWS[crisp]
    taps = torch.hann_window(side + 2, periodic=False)[1:-1] ** power
    return torch.outer(taps, taps) + rim


def _seen(side: int, softness: float, bias: float) -> Tensor | None:
    """Return the linear map ``(3 k k, 3 k k)`` of flat patches to what is compared of them; ``None`` if all is."""
    if softness == 0 and bias == 0:
        return None
    size = side * side
    seen = torch.eye(3 * size) - _UNSEEN * bias * torch.kron(torch.eye(3), torch.full((size, size), 1 / size))
    return seen @ _blur(side, softness) if softness > 0 else seen


def _blur(side: int, deviation: float) -> Tensor:
    """Return the linear map ``(3 k k, 3 k k)`` that blurs a flat patch of this side within itself."""
    places = torch.arange(side, dtype=torch.float32)
    line = torch.exp(-0.5 * ((places[:, None] - places) / deviation) ** 2)
    line = line / line.sum(1, keepdim=True)
    return torch.kron(torch.eye(3), torch.kron(line, line))


@dataclass(frozen=True)
class Dictionary:
    """Patches of one level.

    Parameters
    ----------
    patches
        ``(M, 3, k, k) uint8``: literal pieces of private pictures.
    center
        ``(3 k k,)`` mean of the candidate patches, in [0, 1].
    basis
        ``(3 k k, d)`` principal components.
    price
        ``(M,)`` positive factors on the squared distance to each patch.
    origin
        ``(M, 3) int32``: picture, row and column (top left corner, at this level's scale) that each patch
        was cut from; ``None`` if unknown.
    """

    patches: Tensor
    center: Tensor
    basis: Tensor
    price: Tensor
    origin: Tensor | None = None
    values: Tensor = field(init=False, repr=False)
    keys: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        values = self.patches.float() / 255
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "keys", (values.flatten(1) - self.center) @ self.basis)

    @property
    def side(self) -> int:
        """Side of a patch in pixels."""
        return int(self.patches.shape[-1])

    @staticmethod
    def fit(
        candidates: Tensor,
        *,
        atoms: int,
        components: int,
        iterations: int = 6,
        generator: torch.Generator,
        origin: Tensor | None = None,
        softness: float = 0.0,
        bias: float = 0.0,
    ) -> Dictionary:
        """Choose ``atoms`` medoids among ``candidates`` ``(B, 3, k, k)`` in [0, 1] by k-means in PCA space.

        ``origin`` ``(B, 3) int32`` says where each was cut from; the medoids remember it. With ``softness``
        patches are compared through a blur of that deviation in pixels, with ``bias`` hardly by their mean
        colors, here and in look-ups.
        """
        patches = (candidates * 255).round().clamp(0, 255).to(torch.uint8)
        flat = patches.flatten(1).float() / 255
        center = flat.mean(dim=0)
        centred = flat - center
        seen = _seen(patches.shape[-1], softness, bias)
        compared = centred if seen is None else centred @ seen.T
        _, vectors = torch.linalg.eigh(compared.T @ compared)
        basis = vectors[:, -components:].contiguous()
        if seen is not None:
            basis = seen.T @ basis  # not seeing and comparing are linear: one basis does both
        keys = centred @ basis
        if len(keys) > atoms:
            start = keys[torch.randperm(len(keys), generator=generator)[:atoms]]
            chosen = _medoids(keys, start, iterations)
            patches, origin = patches[chosen], None if origin is None else origin[chosen]
        return Dictionary(patches, center, basis, torch.ones(len(patches)), origin)

    def to(self, device: torch.device) -> Dictionary:
        """Return a copy on ``device``."""
        patches, center, basis, price = (t.to(device) for t in (self.patches, self.center, self.basis, self.price))
        return Dictionary(patches, center, basis, price, None if self.origin is None else self.origin.to(device))

    def priced(self, mean_distance: Tensor, *, exponent: float, floor: float = 0.005) -> Dictionary:
        """Return a copy whose patch j costs ``1 / (floor + mean_distance_j) ** exponent``."""
        return replace(self, price=(1.0 / (floor + mean_distance)) ** exponent)

    def project(self, picture: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Return the ``(n, d)`` keys of the patches of ``(1, 3, H, W)`` with these top left corners."""
        k = self.side
        interleaved = picture[0].permute(1, 2, 0).flatten(1)  # (H, 3 W): a row of a window is one run of memory
        windows = interleaved.unfold(0, k, 1).transpose(1, 2).unfold(2, 3 * k, 3)[rows, :, columns]  # (n, k, 3 k)
        basis = self.basis.view(3, k * k, -1).transpose(0, 1).flatten(0, 1)  # in the order of these windows
        return windows.flatten(1) @ basis - self.center @ self.basis

    def nearest(self, queries: Tensor) -> Tensor:
        """Return the index ``(n,)`` of the cheapest patch for each key ``(n, d)``."""
        table = torch.cat([-2 * self.keys, torch.ones_like(self.keys[:, :1]), self.keys.square().sum(1, True)], 1)
        table = (table * self.price[:, None]).T.contiguous()
        found = []
        for part in queries.split(_CHUNK):
            extended = torch.cat([part, part.square().sum(1, True), torch.ones_like(part[:, :1])], 1)
            found.append(_cheapest(extended @ table))
        return torch.cat(found)

    def distances(self, picture: Tensor) -> Tensor:
        """Return, for each patch ``(M,)``, the mean squared key distance per component to the nearest in a picture.

        Of ``(1, 3, H, W)`` every patch on a grid of two pixels is looked at.
        """
        padded = picture if min(picture.shape[-2:]) >= self.side else resize_short(picture, self.side)
        rows, columns = (torch.arange(0, size - self.side + 1, 2) for size in padded.shape[-2:])
        queries = self.project(padded, rows.repeat_interleave(len(columns)), columns.repeat(len(rows)))
        best = torch.full_like(self.price, torch.inf)
        for part in queries.split(_CHUNK):
            squared = torch.cdist(self.keys, part).square()
            best = torch.minimum(best, squared.amin(1))
        return best / self.keys.shape[1]

    def repaint(
        self, picture: Tensor, *, stride: int, seed: int | None, crisp: bool = False, bias: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Rebuild ``(1, 3, H, W)`` from dictionary patches.

        Parameters
        ----------
        picture
            What to look for.
        stride
            Mean distance of neighbouring queries in pixels.
        seed
            Seed of the grid's random offsets; ``None`` keeps the grid regular.
        crisp
            Patches hardly blend where they overlap: marks stay whole.
        bias
            How far a patch's mean color is moved onto that of what it replaces, 0 to 1.

        Returns
        -------
        tuple
            The rebuilt picture and the ``(rows, columns)`` table of chosen patches.
        """
        k, (height, width) = self.side, picture.shape[-2:]
        reach = k + stride - 1  # a patch plus its largest offset
        grid = [(size + k + stride - 2) // stride + 1 for size in (height, width)]
        full = [(count - 1) * stride + reach for count in grid]
        padded = _pad_to(picture, before=k - 1, full=full)
        if seed is None:
            offsets = torch.zeros(2, grid[0] * grid[1], dtype=torch.long)
        else:
            offsets = torch.randint(0, stride, (2, grid[0] * grid[1]), generator=torch.Generator().manual_seed(seed))
        hop = hop_of(stride)
        offsets = (offsets // hop * hop).to(picture.device)
        base_rows = torch.arange(grid[0], device=picture.device).repeat_interleave(grid[1]) * stride
        base_columns = torch.arange(grid[1], device=picture.device).repeat(grid[0]) * stride
        rows, columns = base_rows + offsets[0], base_columns + offsets[1]
        chosen = self.nearest(self.project(padded, rows, columns))
        shift = offsets[0] // hop * -(-stride // hop) + offsets[1] // hop
        tiles = self._tiles(shift * len(self.price) + chosen, stride=stride, crisp=crisp)  # (4 reach reach, n)
        if bias > 0:
            layers = tiles.view(4, reach * reach, -1)
            layers[:3].addcmul_(self._moves(padded, rows, columns, chosen, bias)[:, None], layers[3:])
        summed = F.fold(tiles[None], (full[0], full[1]), reach, stride=stride)
        painted = summed[:, :3] / summed[:, 3:]
        top = k - 1
        return painted[:, :, top : top + height, top : top + width], chosen.view(grid[0], grid[1])

    def _moves(self, padded: Tensor, rows: Tensor, columns: Tensor, chosen: Tensor, bias: float) -> Tensor:
        """How far patches are moved towards the mean colors of what they replace: ``(3, n)``.

        Light may be any; hues stay within those that patches here have: pencil stays gray.
        """
        places = rows * (padded.shape[3] - self.side + 1) + columns
        wanted = window_mean(padded, self.side)[0].flatten(1).index_select(1, places)
        own = self.values.mean((2, 3)).T
        light = luminance(wanted[None, :, :, None])[0, :, :, 0]
        hues = own - luminance(own[None, :, :, None])[0, :, :, 0]
        lowest, highest = hues.amin(1, keepdim=True), hues.amax(1, keepdim=True)
        wanted = light + torch.minimum(torch.maximum(wanted - light, lowest), highest)
        return bias * (wanted - own.index_select(1, chosen))

    def _tiles(self, which: Tensor, *, stride: int, crisp: bool) -> Tensor:
        """Return tiles ``(4 reach reach, n)``: patches, weighted, at offsets, counted as in :meth:`_shifted`."""
        return self._shifted(stride, crisp=crisp).index_select(1, which)

    def _weighted(self, *, crisp: bool) -> Tensor:
        """Patches times their blending weights, and the weights: ``(M, 4, k, k)``."""
        window = _window(self.side, crisp=crisp).to(self.values.device)
        return torch.cat([self.values * window, window.expand(len(self.price), 1, self.side, self.side)], 1)

    def _shifted(self, stride: int, *, crisp: bool) -> Tensor:
        """All weighted patches at all offsets: ``(4 reach reach, offsets M)``; the 4th channel is weight."""
        k, count, hop = self.side, len(self.price), hop_of(stride)
        weighted = self._weighted(crisp=crisp)
        plane = weighted.flatten(1).T.contiguous().view(4, k, k, count)
        reach, ways = k + stride - 1, -(-stride // hop)
        variants = plane.new_zeros(4, reach, reach, ways, ways, count)
        for y in range(ways):
            for x in range(ways):
                variants[:, y * hop : y * hop + k, x * hop : x * hop + k, y, x] = plane
        return variants.view(4 * reach * reach, -1)


def hop_of(stride: int) -> int:
    """Pixels between the places that a query may move to: all, or about three a side, since each is laid out."""
    return max(1, stride // 3)


def _cheapest(costs: Tensor) -> Tensor:
    """Index of the smallest number in each row of ``(n, M)``, in two steps: twice as fast as ``argmin`` on a CPU."""
    count, width = costs.shape
    if width % _BLOCKS:
        return costs.argmin(1)
    blocks = costs.view(count, _BLOCKS, width // _BLOCKS)
    column = blocks.amin(1).argmin(1)
    block = blocks[torch.arange(count, device=costs.device), :, column].argmin(1)
    return block * (width // _BLOCKS) + column


def _pad_to(picture: Tensor, *, before: int, full: list[int]) -> Tensor:
    """Pad ``before`` at the top and left and up to the ``full`` size, mirroring as often as needed."""
    height, width = picture.shape[-2:]
    below, right = full[0] - before - height, full[1] - before - width
    fixed = not torch.compiler.is_exporting()  # else sizes are symbols, and the general way has to do
    if fixed and max(before, below) < height and max(before, right) < width:  # one reflection: twenty times as fast
        return F.pad(picture, (before, right, before, below), mode="reflect")
    rows = _mirror(torch.arange(-before, full[0] - before), height).to(picture.device)
    columns = _mirror(torch.arange(-before, full[1] - before), width).to(picture.device)
    return picture[:, :, rows][:, :, :, columns]


def _mirror(index: Tensor, size: int) -> Tensor:
    """Reflect indices into ``0 .. size - 1`` without repeating the border pixel."""
    if size == 1:
        return torch.zeros_like(index)
    period = 2 * (size - 1)
    index = index.remainder(period)
    return torch.where(index >= size, period - index, index)


def _medoids(keys: Tensor, centers: Tensor, iterations: int) -> Tensor:
    """Lloyd's k-means from ``centers``, then the index of the real key nearest each center."""
    for _ in range(iterations):
        nearest = torch.cat([torch.cdist(part, centers).argmin(1) for part in keys.split(_CHUNK)])
        count = torch.bincount(nearest, minlength=len(centers)).float()
        total = torch.zeros_like(centers).index_add_(0, nearest, keys)
        centers = torch.where(count[:, None] > 0, total / count[:, None].clamp_min(1), centers)
    return torch.cat([torch.cdist(part, keys).argmin(1) for part in centers.split(1024)])
