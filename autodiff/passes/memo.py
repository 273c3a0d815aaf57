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
from autodiff.ir.held import is_transient
from autodiff.ir.verify import verify

Result = TypeVar("Result")

#: Graphs kept per pass; the least recently used are dropped.
CAPACITY = 1024

#: Graphs kept per pass that will not come again, once what is going on with them is over.
TRANSIENT_CAPACITY = 16


def remembered(*, graphs_of: Callable[[Any], tuple[Graph, ...]]) -> Any:
    """Decorate a pass `(graph, *static) -> result` so that equal arguments run it once.

    What a pass is given first is a graph, or has the attribute `graphs`. `graphs_of(result)` lists
    the graphs in a result: each is verified where the setting says so.

    Equal graphs may come from different lines of the user's. Where lines are asked for (setting
    check), nothing is looked up, so that an error names those of its own graph.
    """

    def decorate(transformation: Callable[..., Result]) -> Callable[..., Result]:
        cache: OrderedDict[Any, Result] = OrderedDict()
        transient: OrderedDict[Any, Result] = OrderedDict()
        lock = Lock()

        @wraps(transformation)
        def run(*arguments: Any) -> Result:
            values = settings()
            if not values.check:
                with lock:
                    result = cache.get(arguments)
                    if result is not None:
                        cache.move_to_end(arguments)
                        return result
                    result = transient.get(arguments)
                    if result is not None:
                        return result
            with seldom_collected():
                result = transformation(*arguments)
            if values.verify:
                for graph in graphs_of(result):
                    verify(graph, transformation.__name__)
            if values.check:
                return result
            kept, capacity = cache, CAPACITY
            first = arguments[0]
            if any(map(is_transient, (first,) if isinstance(first, Graph) else first.graphs)):
                kept, capacity = transient, TRANSIENT_CAPACITY
            with lock:
                kept[arguments] = result
                if len(kept) > capacity:
                    kept.popitem(last=False)
            return result

        def forget() -> None:
            cache.clear()
            transient.clear()

        run.forget = forget  # type: ignore[attr-defined]
        return run

    return decorate
