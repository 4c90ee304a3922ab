"""The painter as a service of one's own computer: gRPC on a Unix socket, or on loopback with a token.

Only this package and :mod:`client.studio_client` know gRPC. The work itself is :mod:`client.warm_painter`'s, the
order of it :mod:`client.job_queue`'s; neither knows a network.
"""
