"""Audits of the privacy code: whether what is released leaks as little as it claims.

:mod:`~simulations.audit.canaries`, :mod:`~simulations.audit.one_run` and
:mod:`~simulations.audit.freshness` attack the real clip and noise code of
:mod:`~simulations.audit.subjects` with planted contributions and bound what it leaks from below;
:mod:`~simulations.audit.suite` runs them, with controls that must be caught. The attacks of a
curious server are in :mod:`~simulations.audit.inversion` and :mod:`~simulations.audit.membership`.
"""
