"""The names of columns and the metadata of a schema: texts that belong to no row."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from release_kit.datasets.column_arrays import is_list, listed, mask_of, offsets_of
from release_kit.datasets.dataset_format import Flaw, Kind, Text
from release_kit.datasets.json_texts import collect, joined, splice_string, unique_names
from release_kit.datasets.pieces import decoded, encoded

# Metadata whose words name types; its texts that are columns' names follow the columns.
_DESCRIPTIONS = frozenset((b"huggingface", b"pandas"))


_VOCABULARY = frozenset(
    ("_type", "dtype", "pandas_type", "numpy_type", "library", "version", "kind", "encoding")
)


# What says how a file is laid out, as long as it looks so.
_LAYOUT = {
    b"PARQUET:field_id": re.compile(rb"-?[0-9]{1,5}"),
    b"ARROW:extension:name": re.compile(rb"[A-Za-z_]+[0-9]{0,3}(?:[.:_-][A-Za-z_]+[0-9]{0,3})*"),
}
# Keys that formats and libraries give.
_KNOWN_KEYS = _DESCRIPTIONS | set(_LAYOUT) | {b"ARROW:extension:metadata"}


@dataclass(frozen=True)
class SchemaBatch:
    """The names of columns and the metadata: what belongs to no record."""

    _schema: Any = field(repr=False)
    texts: Sequence[Text] = field(repr=False)
    _parts: Sequence[_Name | _Entry] = field(repr=False)
    records: int = 0
    lines: int = 0
    flaws: Sequence[Flaw] = ()

    def edited(
        self,
        changes: Mapping[int, str],
        dropped_records: Collection[int] = (),
        dropped_fields: Collection[int] = (),
    ) -> Any:
        """Return the schema with the changes made; a name that is dropped becomes a number."""
        wanted = {**changes, **{index: f"column_{index + 1}" for index in dropped_fields}}
        return _renamed(self._schema, self._parts, wanted, set(dropped_fields))


class _Name(NamedTuple):
    """The name of a column or of a field of a struct."""

    path: tuple[int, ...]
    """The numbers of the fields on the way to it."""
    name: str
    text: int
    """The index of its text."""

    def __repr__(self) -> str:
        return f"_Name(path={self.path})"


class _Entry(NamedTuple):
    """An entry of a metadata mapping: of the schema, or of a field."""

    path: tuple[int, ...]
    key: bytes
    value: str
    key_text: int
    """The index of the key's text; -1 where the key is no text."""
    indexes: Sequence[int | str]
    """For each text of the value its index in the batch, or the name that it follows."""

    def __repr__(self) -> str:
        return f"_Entry(path={self.path})"


def schema_batch(schema: Any) -> SchemaBatch:
    """Return the names of columns and fields as keys, and the texts of all metadata."""
    texts: list[Text] = []
    parts: list[_Name | _Entry] = []

    def names(fields: Sequence[Any], path: tuple[int, ...], shown: str) -> None:
        for number, each in enumerate(fields):
            below = joined(shown, each.name)
            if each.name:
                parts.append(_Name((*path, number), each.name, len(texts)))
                texts.append(Text(each.name, Kind.KEY, 0, 0, below))
            names(_fields(each.type), (*path, number), below)

    names(list(schema), (), "")
    known = {part.name for part in parts if isinstance(part, _Name)}

    def entries(metadata: Mapping[bytes, bytes] | None, path: tuple[int, ...]) -> None:
        for key, raw in (metadata or {}).items():
            if _is_layout(key, raw):
                continue
            is_description = key in _DESCRIPTIONS
            value = decoded(raw)
            found: list[Text] = []
            skip = _VOCABULARY if is_description else ()
            shown = joined("metadata", decoded(key))
            key_text = -1
            if key and key not in _KNOWN_KEYS:
                key_text = len(texts)
                texts.append(Text(decoded(key), Kind.KEY, 0, 0, shown))
            collect(value, 0, 0, found, skip=skip, path=shown)
            indexes: list[int | str] = []
            for text in found:
                if is_description and text.value in known:
                    indexes.append(text.value)
                else:
                    indexes.append(len(texts))
                    texts.append(text)
            parts.append(_Entry(path, key, value, key_text, indexes))

    def all_entries(fields: Sequence[Any], path: tuple[int, ...]) -> None:
        for number, each in enumerate(fields):
            entries(each.metadata, (*path, number))
            all_entries(_fields(each.type), (*path, number))

    entries(schema.metadata, ())
    all_entries(list(schema), ())
    return SchemaBatch(schema, texts, parts)


def _is_layout(key: bytes, value: bytes) -> bool:
    return key in _LAYOUT and _LAYOUT[key].fullmatch(value) is not None


def _fields(kind: Any) -> list[Any]:
    """Return the fields of a struct, and those below lists and maps, whose own names are fixed."""
    import pyarrow as pa

    if isinstance(kind, pa.BaseExtensionType) or pa.types.is_dictionary(kind):
        return []
    if pa.types.is_struct(kind):
        return list(kind)
    if pa.types.is_map(kind):
        return _fields(kind.item_type)
    return _fields(kind.value_type) if is_list(kind) else []


def _renamed(
    schema: Any,
    parts: Sequence[_Name | _Entry],
    wanted: Mapping[int, str],
    dropped: Collection[int],
) -> Any:
    import pyarrow as pa

    new_names: dict[tuple[int, ...], str] = {}
    siblings: dict[tuple[int, ...], list[_Name]] = {}
    for part in parts:
        if isinstance(part, _Name):
            siblings.setdefault(part.path[:-1], []).append(part)
    followers: dict[str, str] = {}
    for group in siblings.values():
        new = unique_names([part.name for part in group], [wanted.get(part.text) for part in group])
        for part, name in zip(group, new, strict=True):
            new_names[part.path] = name
            if name != part.name:
                followers[part.name] = name
    keys = _new_keys(parts, wanted)
    metadata: dict[tuple[int, ...], dict[bytes, bytes]] = {}
    for part in parts:
        if isinstance(part, _Entry):
            changes = {
                number: followers[index] if isinstance(index, str) else wanted[index]
                for number, index in enumerate(part.indexes)
                if (index in followers if isinstance(index, str) else index in wanted)
            }
            gone = {n for n, index in enumerate(part.indexes) if index in dropped}
            value = splice_string(part.value, changes, gone) if changes or gone else part.value
            if value is not None and part.key_text not in dropped:
                metadata.setdefault(part.path, {})[keys[part.path, part.key]] = encoded(value)

    def field_of(old: Any, path: tuple[int, ...]) -> Any:
        kind = _kind_with(
            old.type, [field_of(f, (*path, i)) for i, f in enumerate(_fields(old.type))]
        )
        layout = {k: v for k, v in (old.metadata or {}).items() if _is_layout(k, v)}
        said = {**layout, **metadata.get(path, {})}
        return pa.field(new_names.get(path, old.name), kind, old.nullable, said or None)

    fields = [field_of(old, (i,)) for i, old in enumerate(schema)]
    kept = {k: v for k, v in (schema.metadata or {}).items() if _is_layout(k, v)}
    return pa.schema(fields, {**kept, **metadata.get((), {})} or None)


def _new_keys(
    parts: Sequence[_Name | _Entry], wanted: Mapping[int, str]
) -> dict[tuple[tuple[int, ...], bytes], bytes]:
    """Return the key of each entry, by its path and what it was; none is lost for another."""
    mappings: dict[tuple[int, ...], list[_Entry]] = {}
    for part in parts:
        if isinstance(part, _Entry):
            mappings.setdefault(part.path, []).append(part)
    keys = {}
    for path, entries in mappings.items():
        names = [decoded(entry.key) for entry in entries]
        new = unique_names(names, [wanted.get(entry.key_text) for entry in entries])
        for entry, name in zip(entries, new, strict=True):
            keys[path, entry.key] = encoded(name)
    return keys


def _kind_with(kind: Any, fields: Sequence[Any]) -> Any:
    """Return `kind` with `fields` in place of what `_fields` found in it."""
    import pyarrow as pa

    if not fields:
        return kind
    if pa.types.is_struct(kind):
        return pa.struct(fields)
    if pa.types.is_map(kind):
        item = kind.item_field.with_type(_kind_with(kind.item_type, fields))
        return pa.map_(kind.key_field, item, keys_sorted=kind.keys_sorted)
    inner = kind.value_field.with_type(_kind_with(kind.value_type, fields))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(inner, kind.list_size)
    for test, factory in (
        (pa.types.is_large_list, pa.large_list),
        (pa.types.is_list_view, pa.list_view),
        (pa.types.is_large_list_view, pa.large_list_view),
    ):
        if test(kind):
            return factory(inner)
    return pa.list_(inner)


def retyped(array: Any, kind: Any) -> Any:
    """Return `array` as one of `kind`, which differs in names alone."""
    import pyarrow as pa

    if array.type.equals(kind, check_metadata=True) or not _fields(array.type):
        return array
    if pa.types.is_struct(kind):
        children = [
            retyped(child, each.type) for child, each in zip(array.flatten(), kind, strict=True)
        ]
        return pa.StructArray.from_arrays(children, fields=list(kind), mask=mask_of(array))
    if pa.types.is_map(kind):
        array = array.take(pa.array(range(len(array)), pa.int64()))
        items = retyped(array.items, kind.item_type)
        return pa.MapArray.from_arrays(
            array.offsets, array.keys, items, type=kind, mask=mask_of(array)
        )
    return listed(array, offsets_of(array), retyped(array.flatten(), kind.value_type), kind)
