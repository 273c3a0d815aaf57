"""Remember what a pass made of a graph, by the graph's structure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import wraps
from threading import Lock
from typing import Any, TypeVar

from autodiff.base.garbage import seldom_collected
from autodiff.base.settings import settings
from autodiff.ir.graph import Graph
from autodiff.ir.verify import verify

Result = TypeVar("Result")

#: Graphs kept per pass; the least recently used are dropped.
CAPACITY = 1024


def remembered(*, graphs_of: Callable[[Any], tuple[Graph, ...]]) -> Any:
    """Decorate a pass `(graph, *static) -> result` so that equal arguments run it once.

    `graphs_of(result)` lists the graphs in a result: each is verified where the setting says so.
    """

    def decorate(transformation: Callable[..., Result]) -> Callable[..., Result]:
        cache: OrderedDict[Any, Result] = OrderedDict()
        lock = Lock()

        @wraps(transformation)
        def run(*arguments: Any) -> Result:
            with lock:
                result = cache.get(arguments)
                if result is not None:
                    cache.move_to_end(arguments)
                    return result
            with seldom_collected():
                result = transformation(*arguments)
            if settings().verify:
                for graph in graphs_of(result):
                    verify(graph, transformation.__name__)
            with lock:
                cache[arguments] = result
                if len(cache) > CAPACITY:
                    cache.popitem(last=False)
            return result

        run.forget = cache.clear  # type: ignore[attr-defined]
        return run

    return decorate
