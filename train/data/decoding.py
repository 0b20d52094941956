"""Pictures of a split, decoded one after another into one array, and what is worth a line about them."""

import contextlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from train.data.images import Pixels, blank
from train.data.pictures import Picture
from train.tracking.problem import Problem
from train.tracking.progress import over

SHARE_USED = 8  # a set that uses less than an eighth of its range is probably one of fewer bits


@dataclass
class Remarks:
    """What is worth a line about images that were all read."""

    several: list[str] = field(default_factory=list)
    extents: dict[str, tuple[int, int, int]] = field(default_factory=dict)  # mode -> lowest, highest value, images

    def add(self, name: str, picture: Picture) -> None:
        if picture.several:
            self.several.append(name)
        low, high, count = self.extents.get(picture.mode, (255, 0, 0))
        self.extents[picture.mode] = (
            min(low, int(picture.pixels.min())),
            max(high, int(picture.pixels.max())),
            count + 1,
        )

    def lines(self) -> Iterator[str]:
        if self.several:
            yield f"of {len(self.several):,} files with several frames the first was taken, as of {self.several[0]}"
        everything = sum(count for _, _, count in self.extents.values())
        for mode, (low, high, count) in sorted(self.extents.items()):
            if high - low < 256 // SHARE_USED and count * 10 >= everything:
                yield (
                    f"the {count:,} images of mode {mode} lie between {low} and {high} of 0 to 255: if their files have more "
                    "bits than their values need, scale the values up first"
                )


def decode_all(
    results: Generator[tuple[str, Picture | str]],
    count: int,
    size: int,
    skip_corrupt: bool,
    split: str,
    remarks: Remarks,
    problem: Callable[[str], Problem],
) -> tuple[Pixels, NDArray[np.bool_]]:
    """Those of `count` images that can be decoded, and which they are.

    results: of each image its name, as a line shows it, and what became of it: the picture, or why there is none. problem: of
    the source, from a text.
    """
    images = blank((count, size, size, 3), np.uint8)
    sound = np.ones(count, bool)
    lines = []
    filled = 0
    with contextlib.closing(results):
        for i, (name, result) in enumerate(over(results, split, "image", count, leave=False)):
            if not isinstance(result, str):
                images[filled] = result.pixels
                remarks.add(name, result)
                filled += 1
            elif skip_corrupt:
                lines.append(f"skipped {name}: {result}")
                sound[i] = False
            else:
                raise problem(
                    f"{name} cannot be decoded ({result}); replace it, or leave such images out with --skip-corrupt True"
                )
    for line in lines:
        print(line)
    return images[:filled], sound
