"""Fiji's own Python mode: the steps take an ``ij.ImagePlus`` as well as a micrograph. Light to import."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

__all__ = ["is_imageplus", "takes_imageplus"]


def is_imageplus(thing: Any) -> bool:
    """Whether ``thing`` is an ``ij.ImagePlus``; asks no Java."""
    return type(thing).__name__ in ("ij.ImagePlus", "ij.CompositeImage")


def takes_imageplus(word: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let a function of a micrograph take an ``ij.ImagePlus``, too, and return one then.

    Parameters
    ----------
    word
        What the result's title says: ``NAME [word]``.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(image: Any, *args: Any, **kwargs: Any) -> Any:
            if not is_imageplus(image):
                return function(image, *args, **kwargs)
            from dlm_fiji.fiji.convert import from_imageplus, to_imageplus

            result = function(from_imageplus(image), *args, **kwargs)
            return to_imageplus(result, f"{image.getTitle()} [{word}]")

        return wrapper

    return decorate
