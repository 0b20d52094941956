"""Pictures that a training makes on its way: the same noise, or the same test images, at the end of chosen epochs."""

import base64
import io

import numpy as np
import plotly.graph_objects as go
import torch
from PIL import Image
from torch import Tensor, nn

from train.data.images import Images
from train.tracking.panels import figure

EVERY = 5  # epochs; the first and the last are shown too
MOST = 12  # pages: of a long training, fewer
SCALE = 2  # screen pixels of an image's


def pages(epochs: int) -> list[int]:
    """The epochs whose pictures are kept: 1, 5, 10, ... and the last, at most about MOST."""
    stride = EVERY * max(1, -(-epochs // (EVERY * MOST)))
    return sorted({1, *range(stride, epochs + 1, stride), epochs}) if epochs else []


class Album(nn.Module):
    """Sheets of `count` pictures, one of each page, in a buffer: so a checkpoint has them."""

    sheets: Tensor

    def __init__(self, epochs: int, count: int, size: int, channels: int) -> None:
        super().__init__()
        self.pages = pages(epochs)
        self.register_buffer("sheets", torch.zeros(len(self.pages), count, channels, size, size, dtype=torch.uint8))

    def wants(self, epoch: int) -> bool:
        return epoch in self.pages

    def keep(self, epoch: int, pictures: Tensor) -> None:
        """pictures: (count, channels, size, size) in [0, 1]."""
        self.sheets[self.pages.index(epoch)].copy_((pictures * 255).round())

    def figure(self, title: str, columns: int) -> go.Figure:
        """One sheet, and a slider over the epochs."""
        traces = [
            go.Image(source=uri(sheet(one, columns)), visible=index == len(self.pages) - 1, name=f"epoch {epoch}")
            for index, (epoch, one) in enumerate(zip(self.pages, self.sheets.cpu(), strict=True))
        ]
        steps = [
            {"label": str(epoch), "method": "update", "args": [{"visible": [page == epoch for page in self.pages]}]}
            for epoch in self.pages
        ]
        slider = {"active": len(steps) - 1, "currentvalue": {"prefix": "epoch "}, "steps": steps}
        blank = {"visible": False}
        return figure(title, traces=traces).update_layout(sliders=[slider], xaxis=blank, yaxis=blank)


def draw(images: Images, count: int) -> Tensor:
    """Rows of test images, the same for all trainings of a set, and of all classes where they stand sorted."""
    order = np.random.default_rng(0).permutation(len(images.test))[:count]
    return torch.from_numpy(np.sort(order))


def sheet(pictures: Tensor, columns: int) -> Image.Image:
    """Pictures (n, c, h, w) uint8 side by side, rows of so many."""
    count, channels, height, width = pictures.shape
    rows = -(-count // columns)
    board = np.full((rows * (height + 1), columns * (width + 1), channels), 255, np.uint8)
    for index, picture in enumerate(pictures.permute(0, 2, 3, 1).numpy()):
        top, left = index // columns * (height + 1), index % columns * (width + 1)
        board[top : top + height, left : left + width] = picture
    whole = Image.fromarray(board if channels == 3 else board[..., 0])
    return whole.resize((SCALE * whole.width, SCALE * whole.height), Image.Resampling.NEAREST)


def uri(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
