"""A quality score for style transfer that needs no reference and no pretrained network.

``content`` 1: the photo's structure is intact, about 0: unrelated. ``style`` is the geometric mean of
``joint``, ``color`` and ``texture``, each 0 where the output is no closer to the painting than the
photo is, and 1 where it is as close as the painting is to itself. ``headline`` is the harmonic mean
of content and style, times ``1 - copy``. ``headline2`` is its second version, which reads texture with its error of
measurement: where photo and painting can hardly be told apart by texture, no output is called worthless for that alone.
And it calls only that a copy which looks more like the painting than the photo does by itself.
``checker_db``, ``clipped`` and ``seam`` report artefacts.

What it cannot judge (where strokes go, semantics, taste) is listed in docs/model.md; compare on
identical pairs and look at the pictures.
"""

from shared_model.metrics.score import IDENTIFIABLE, Distances, Painting, photo_distances, score_pair, summarize

__all__ = ["IDENTIFIABLE", "Distances", "Painting", "photo_distances", "score_pair", "summarize"]
