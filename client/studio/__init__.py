"""The studio: a page in the browser, served to this computer alone.

Only these modules speak HTTP. What they serve is made by :mod:`client.atelier` and kept by :mod:`client.gallery`,
which know no network.
"""
