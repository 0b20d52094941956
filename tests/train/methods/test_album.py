"""Pictures by epoch: which epochs are shown, that they are the pictures, and what the slider shows."""

import base64
import io

import numpy as np
import PIL.Image
import pytest
import torch

from tests.train.engine.test_loop import dots
from tests.train.methods.test_autoencoder import grays
from train.methods.album import Album, draw, pages, sheet


@pytest.mark.parametrize(
    ("epochs", "shown"),
    [(0, []), (1, [1]), (4, [1, 4]), (5, [1, 5]), (12, [1, 5, 10, 12]), (25, [1, 5, 10, 15, 20, 25])],
)
def test_the_first_every_fifth_and_the_last_epoch_are_shown(epochs: int, shown: list[int]) -> None:
    assert pages(epochs) == shown


def test_a_long_training_shows_no_more_than_a_screen_holds() -> None:
    for epochs in (60, 61, 100, 999):
        assert len(pages(epochs)) <= 14 and pages(epochs)[0] == 1 and pages(epochs)[-1] == epochs


def test_the_figure_holds_each_sheet_and_a_step_of_the_slider_shows_it_alone() -> None:
    album = Album(6, 4, 8, 1)
    random = torch.Generator().manual_seed(0)
    pictures = {epoch: torch.rand(4, 1, 8, 8, generator=random) for epoch in album.pages}
    for epoch, one in pictures.items():
        album.keep(epoch, one)
    figure = album.figure("title", 2)
    steps = figure.layout.sliders[0].steps
    assert [step.label for step in steps] == ["1", "5", "6"]
    for index, (trace, step) in enumerate(zip(figure.data, steps, strict=True)):
        assert step.args[0]["visible"] == [place == index for place in range(3)]
        file = io.BytesIO(base64.b64decode(trace.source.partition(",")[2]))
        board = np.asarray(PIL.Image.open(file))[::2, ::2]
        expected = (pictures[album.pages[index]] * 255).round().byte()
        np.testing.assert_array_equal(board[:8, 9:17], expected[1, 0])
        np.testing.assert_array_equal(board[9:17, :8], expected[2, 0])


def test_a_sheet_keeps_colors() -> None:
    pictures = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8)
    board = np.asarray(sheet(pictures, 3))[::2, ::2]
    np.testing.assert_array_equal(board[:8, 18:26], pictures[2].permute(1, 2, 0))


def test_images_are_gray_where_their_channels_are_equal_in_both_splits() -> None:
    assert grays().gray and not dots().gray
    images = grays()
    images.test[3, 4, 5, 1] ^= 1
    assert not images.gray


def test_shown_test_images_are_drawn_and_not_the_first_ones() -> None:
    images = dots(50, 200)
    rows = draw(images, 20).tolist()
    assert rows == sorted(set(rows)) and rows != list(range(20)) and max(rows) > 100
