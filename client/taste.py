"""What an owner's choices say about the knobs: a Gaussian process over them, learned from "this one, not those".

Pure mathematics on points of the unit cube, seeded, without files. The utility of a point has a Gaussian process
prior: a bow around the defaults, each knob's own curve, and a little of how knobs act together. A choice among
shown points has Plackett's and Luce's probability (Luce 1959; Chu & Ghahramani 2005 for Gaussian processes), the
posterior is Laplace's approximation. New points are drawn by Thompson sampling (Thompson 1933): each is the best
point of one utility that could be the owner's, so that what is shown is what may still win.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Pick", "Taste"]

Points = NDArray[np.floating]
_OWN, _TOGETHER = 2.0, 0.5  # variances of the utility: each knob's own curve (summed), all knobs together
_OWN_SCALE, _TOGETHER_SCALE = 0.45, 0.9  # length scales in the unit cube
_BOW = 0.6  # how much a whole knob's way from the defaults costs before anything is known
_STEPS = 30  # of Newton's method at most
_JITTER = 1e-6
_POOL, _NEAR = 128, 40  # random points looked at, and points near good ones
_APART = 0.12  # smallest root-mean-square distance of two points shown together


@dataclass(frozen=True)
class Pick:
    """One answer: rows of ``points`` that were shown, and which of them were chosen, best first."""

    points: Points
    order: tuple[int, ...]


@dataclass(frozen=True)
class Taste:
    """Belief about an owner's utility.

    Parameters
    ----------
    home
        ``(d,)`` the defaults, in the unit cube.
    switches
        Columns that are 0 or 1.
    picks
        The answers so far.
    """

    home: Points
    switches: tuple[int, ...]
    picks: tuple[Pick, ...]

    def propose(self, count: int, *, seed: int) -> Points:
        """Return ``(count, d)`` points that differ: the best guess first, then ones that may be better."""
        rng = np.random.default_rng(seed)
        pool = self._pool(rng)
        mean, deviation = self._posterior(pool)
        chosen = [pool[int(np.argmax(mean))] if self.picks else self.home]
        while len(chosen) < count:
            drawn = mean + deviation @ rng.standard_normal(deviation.shape[1])
            near = np.min([np.square(pool - one).mean(1) for one in chosen], 0)
            drawn[near < _APART**2] -= 1e3
            chosen.append(pool[int(np.argmax(drawn))])
        return np.array(chosen)

    def best(self) -> Points:
        """Return the ``(d,)`` point of highest expected utility; without any answer the defaults."""
        if not self.picks:
            return self.home
        rng = np.random.default_rng(0)
        pool = self._pool(rng)
        for width in (0.1, 0.04):
            mean, _ = self._posterior(pool)
            top = pool[np.argsort(-mean)[:8]]
            pool = np.concatenate([top, self._around(top, width, 20, rng)])
        found: Points = pool[int(np.argmax(self._posterior(pool)[0]))]
        return found

    def odds(self, first: Points, second: Points) -> float:
        """Return how probable it is, in [0, 1], that the owner likes ``first`` better than ``second``."""
        mean, deviation = self._posterior(np.stack([first, second]))
        spread = float(np.sqrt(np.square(deviation[0] - deviation[1]).sum() + 1e-12))
        return float(_normal_cdf((mean[0] - mean[1]) / spread))

    def _pool(self, rng: np.random.Generator) -> Points:
        points = self._around(self.home[None], 0.35, _NEAR, rng)
        spread = rng.random((_POOL, len(self.home)))
        spread[:, self.switches] = spread[:, self.switches].round()
        liked = [pick.points[pick.order[0]] for pick in self.picks[-8:]]
        near = [self._around(np.array(liked), 0.12, _NEAR // len(liked), rng), np.array(liked)] if liked else []
        return np.concatenate([self.home[None], points, spread, *near])

    def _around(self, centers: Points, width: float, count: int, rng: np.random.Generator) -> Points:
        """Return ``count`` points near each center; few of their knobs move, switches rarely."""
        many = np.repeat(centers, count, 0)
        moved = many + width * rng.standard_normal(many.shape) * (rng.random(many.shape) < 0.5)
        moved = moved.clip(0, 1)
        for column in self.switches:
            flip = rng.random(len(many)) < 0.1
            moved[:, column] = np.where(flip, 1 - many[:, column], many[:, column])
        return moved

    def _posterior(self, points: Points) -> tuple[Points, Points]:
        """Return the expected utility ``(n,)`` and a root ``(n, n)`` of its covariance."""
        prior, covariance = self._bow(points), _kernel(points, points)
        if self.picks:
            known = np.concatenate([pick.points for pick in self.picks])
            root = np.linalg.cholesky(_kernel(known, known) + _JITTER * np.eye(len(known)))
            at, inner = self._fit(root, self._bow(known))
            link = np.linalg.solve(root, _kernel(known, points))
            prior = prior + link.T @ at
            covariance = covariance - link.T @ (link - np.linalg.solve(inner, link))
        return prior, np.linalg.cholesky(covariance + 1e-5 * np.eye(len(points)))

    def _bow(self, points: Points) -> Points:
        cost: Points = -_BOW * np.square(points - self.home).sum(1)
        return cost

    def _fit(self, root: Points, prior: Points) -> tuple[Points, Points]:
        """Find the most probable utility by Newton's method: whitened ``(n,)`` and the matrix ``I + L' W L``."""
        at = np.zeros(len(prior))
        for _ in range(_STEPS):
            slope, curvature = self._likelihood(prior + root @ at)
            inner = np.eye(len(at)) + root.T @ curvature @ root
            step = np.linalg.solve(inner, root.T @ slope - at)
            step *= min(1.0, 3.0 / (np.abs(root @ step).max() + 1e-12))  # far steps overshoot
            at = at + step
            if np.abs(step).max() < 1e-6:
                break
        _, curvature = self._likelihood(prior + root @ at)
        return at, np.eye(len(at)) + root.T @ curvature @ root

    def _likelihood(self, utility: Points) -> tuple[Points, Points]:
        """Gradient ``(n,)`` and negative Hessian ``(n, n)`` of the logarithm of the answers' probability."""
        slope, curvature = np.zeros(len(utility)), np.zeros((len(utility), len(utility)))
        start = 0
        for pick in self.picks:
            left = list(range(start, start + len(pick.points)))
            start += len(pick.points)
            for row in pick.order:
                if len(left) < 2:
                    break
                chosen = start - len(pick.points) + row
                share = np.exp(utility[left] - utility[left].max())
                share /= share.sum()
                slope[left] -= share
                slope[chosen] += 1
                curvature[np.ix_(left, left)] += np.diag(share) - np.outer(share, share)
                left.remove(chosen)
        return slope, curvature


def _kernel(first: Points, second: Points) -> Points:
    apart = np.square(first[:, None] - second[None])  # (n, m, d)
    own = np.exp(-0.5 * apart / _OWN_SCALE**2).sum(2) * (_OWN / first.shape[1])
    together: Points = own + _TOGETHER * np.exp(-0.5 * apart.sum(2) / (_TOGETHER_SCALE**2))
    return together


def _normal_cdf(value: float) -> float:
    return 0.5 * (1 + math.erf(value / math.sqrt(2)))
