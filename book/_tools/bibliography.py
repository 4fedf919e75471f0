"""The book's references: labelled by authors and year, with a letter where two works
share both, and written into the notebooks as links that every viewer can show."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from pybtex.database import Entry, parse_file
from pybtex.richtext import Text
from pybtex.style.formatting.plain import Style as Plain
from pybtex.style.labels import BaseLabelStyle

# [[He et al., 2016a]](https://arxiv.org/abs/1512.03385 "resnet")
CITATION = re.compile(r'\[\[[^][]*\]\]\((?P<address>\S*)\s*"(?P<key>\w+)"\)')


class Work(NamedTuple):
    """How a work is cited."""

    label: str
    address: str


def authors(entry: Entry) -> str:
    """Last names: one, two, or the first of more."""
    people = entry.persons["author"]
    names = [str(Text(" ").join(person.rich_last_names)) for person in people]
    return f"{names[0]} et al." if len(names) > 2 else " and ".join(names)


class Labels(BaseLabelStyle):  # type: ignore[misc]
    """Authors and year of each work."""

    def format_labels(self, sorted_entries: Sequence[Entry]) -> Iterator[str]:
        """One label for each work; letters follow the order of the works."""
        plain = [f"{authors(one)}, {one.fields['year']}" for one in sorted_entries]
        shared, seen = Counter(plain), Counter[str]()
        for label in plain:
            seen[label] += 1
            letter = chr(ord("a") + seen[label] - 1) if shared[label] > 1 else ""
            yield label + letter


class Style(Plain):  # type: ignore[misc]
    """The plain style, with these labels."""

    default_label_style = Labels


@cache
def works(root: Path) -> dict[str, Work]:
    """What ``book/references.bib`` holds: key -> how the work is cited."""
    style = Style()
    found = parse_file(str(root / "book" / "references.bib")).entries.values()
    entries = style.sort(found)
    labels = style.format_labels(entries)
    return {
        entry.key: Work(label, entry.fields["url"])
        for entry, label in zip(entries, labels, strict=True)
    }


def cited(text: str, known: dict[str, Work]) -> str:
    """A text whose citations carry the works' labels and addresses.

    Raises:
        ValueError: for a work that the bibliography lacks.
    """

    def written(found: re.Match[str]) -> str:
        key = found["key"]
        if key not in known:
            raise ValueError(f"expected a work of book/references.bib, got {key!r}")
        link = f'[[{known[key].label}]]({known[key].address} "{key}")'
        is_there = " ".join(found[0].split()) == link
        return found[0] if is_there else link  # lines may be wrapped within

    return CITATION.sub(written, text)
