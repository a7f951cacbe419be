"""Through the types of Arrow columns, down to the arrays that hold values, and back.

Dictionaries come out with no value that no row has, and nothing stands beneath a null: what no
reader sees would be written all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from release_kit.datasets.json_texts import joined

_Paths = Callable[[int], str]


class Place(NamedTuple):
    """Where an array of some level stands."""

    column: int
    rows: Any
    """The row of each element, as a numpy array."""
    paths: _Paths
    """The path of an element."""
    nullable: bool


_Visit = Callable[[Any, Place], Any]


def through(batch: Any, visit: _Visit) -> Any:
    """Return `batch` with every array of the lowest level replaced by what `visit` makes of it."""
    import numpy
    import pyarrow as pa

    rows = numpy.arange(batch.num_rows)
    columns = []
    for number, column in enumerate(batch.columns):
        column_field = batch.schema.field(number)
        place = Place(number, rows, _named(_top, column_field.name), column_field.nullable)
        columns.append(_array(column, place, visit))
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _top(i: int) -> str:
    return ""


def unchanged(array: Any, place: Place) -> Any:
    """Leave every array as it is: going through alone takes out what no row shows."""
    return array


def _array(array: Any, place: Place, visit: _Visit) -> Any:  # noqa: PLR0911 - one for each kind of type
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        if kind.extension_name == "arrow.uuid":
            return array
        return pa.ExtensionArray.from_storage(kind, _array(array.storage, place, visit))
    if pa.types.is_dictionary(kind):
        return _encoded(_array(array.dictionary_decode(), place, visit), kind)
    if pa.types.is_run_end_encoded(kind):
        inner = _array(pc.run_end_decode(array), place, visit)
        return pc.run_end_encode(inner, run_end_type=kind.run_end_type)
    if pa.types.is_struct(kind):
        return _struct(array, place, visit)
    if pa.types.is_map(kind):
        return _map(array, place, visit)
    if is_list(kind):
        return _list(array, place, visit)
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        plain = pa.large_string() if pa.types.is_string_view(kind) else pa.large_binary()
        return _array(array.cast(plain), place, visit).cast(kind)
    if array.null_count and not pa.types.is_union(kind):
        array = array.take(pa.array(range(len(array)), pa.int64()))
    return visit(array, place)


def is_list(kind: Any) -> bool:
    """Say whether a type is a list of any kind; a map is none."""
    import pyarrow as pa

    return any(
        test(kind)
        for test in (
            pa.types.is_list,
            pa.types.is_large_list,
            pa.types.is_fixed_size_list,
            pa.types.is_list_view,
            pa.types.is_large_list_view,
        )
    )


def is_text(kind: Any) -> bool:
    """Say whether a type holds texts or bytes, one after the other."""
    import pyarrow as pa

    return any(
        test(kind)
        for test in (
            pa.types.is_string,
            pa.types.is_large_string,
            pa.types.is_binary,
            pa.types.is_large_binary,
            pa.types.is_fixed_size_binary,
        )
    )


def _encoded(dense: Any, kind: Any) -> Any:
    import pyarrow as pa

    encoded_array = dense.dictionary_encode()
    return pa.DictionaryArray.from_arrays(
        encoded_array.indices.cast(kind.index_type),
        encoded_array.dictionary.cast(kind.value_type),
        ordered=kind.ordered,
    )


def _struct(array: Any, place: Place, visit: _Visit) -> Any:
    import pyarrow as pa

    kind = array.type
    # Flattening also takes out what stands beneath a null.
    children = array.flatten()
    new = []
    for number, child in enumerate(children):
        name = kind.field(number).name
        below = place._replace(
            paths=_named(place.paths, name),
            nullable=kind.field(number).nullable,
        )
        new.append(_array(child, below, visit))
    if any(a is not b for a, b in zip(new, children, strict=True)):
        return pa.StructArray.from_arrays(new, fields=list(kind), mask=mask_of(array))
    return array


def _named(paths: _Paths, name: str) -> _Paths:
    return lambda i: joined(paths(i), name)


def mask_of(array: Any) -> Any:
    """Return which elements are null; None when none is."""
    return array.is_null() if array.null_count else None


def _list(array: Any, place: Place, visit: _Visit) -> Any:
    import numpy

    flat = array.flatten()
    offsets = offsets_of(array)
    parents = numpy.repeat(numpy.arange(len(array)), numpy.diff(offsets))
    below = Place(
        place.column,
        place.rows[parents],
        lambda i: f"{place.paths(int(parents[i]))}[{i - int(offsets[parents[i]])}]",
        array.type.value_field.nullable,
    )
    new = _array(flat, below, visit)
    return array if new is flat and not array.null_count else listed(array, offsets, new)


def listed(array: Any, offsets: Any, values: Any, kind: Any = None) -> Any:
    """Return lists of `values` as the lists of `array` are."""
    import numpy
    import pyarrow as pa

    kind = kind or array.type
    mask = mask_of(array)
    if pa.types.is_fixed_size_list(kind):
        width = kind.list_size
        if mask is not None:
            # Every list has its places, also one that is null.
            present = iter(range(len(values) // width if width else 0))
            places = [None if null else next(present) for null in mask.to_pylist()]
            order = [None if at is None else at * width + i for at in places for i in range(width)]
            values = values.take(pa.array(order, pa.int64()))
        return pa.FixedSizeListArray.from_arrays(values, type=kind, mask=mask)
    if pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
        large = pa.types.is_large_list_view(kind)
        factory = pa.LargeListViewArray if large else pa.ListViewArray
        size = pa.int64() if large else pa.int32()
        starts, lengths = pa.array(offsets[:-1], size), pa.array(numpy.diff(offsets), size)
        return factory.from_arrays(starts, lengths, values, type=kind, mask=mask)
    large = pa.types.is_large_list(kind)
    factory = pa.LargeListArray if large else pa.ListArray
    starts = pa.array(offsets, pa.int64() if large else pa.int32())
    return factory.from_arrays(starts, values, type=kind, mask=mask)


def offsets_of(array: Any) -> Any:
    """Return where the items of each list begin in what `flatten` returns, and where they end."""
    import numpy
    import pyarrow.compute as pc

    lengths = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False)
    return numpy.concatenate(([0], numpy.cumsum(lengths, dtype=numpy.int64)))


def _map(array: Any, place: Place, visit: _Visit) -> Any:
    import numpy
    import pyarrow as pa

    # Taking every row gives offsets from zero, and nothing beneath a null.
    array = array.take(pa.array(range(len(array)), pa.int64()))
    offsets = array.offsets.to_numpy()
    parents = numpy.repeat(numpy.arange(len(array)), numpy.diff(offsets))
    rows = place.rows[parents]
    names = array.keys.to_pylist()

    def path(i: int) -> str:
        return joined(place.paths(int(parents[i])), str(names[i]))

    keys = _array(array.keys, Place(place.column, rows, path, nullable=False), visit)
    nullable = array.type.item_field.nullable
    values = _array(array.items, Place(place.column, rows, path, nullable), visit)
    mask = mask_of(array)
    return pa.MapArray.from_arrays(array.offsets, keys, values, type=array.type, mask=mask)
