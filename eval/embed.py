"""Embeds an image set, train and test, with an encoder: what every evaluation reads."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pandas as pd
import PIL.Image
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from eval.evidence.maps import draw
from train.data.embeddings import Embeddings, Vectors
from train.data.images import UNLABELED, Images, Pixels, blank
from train.engine.collapse import dimension_std
from train.engine.devices import device_of
from train.models.encoder import Encoder
from train.tracking import LATER, MACHINE, Command, Problem, Stage
from train.tracking.panels import color, figure
from train.tracking.progress import over

SHOWN = 1_000  # test images in the table of vectors
MOST = 128  # columns of vectors in it: 3,072 of raw pixels took 10 s and 8 MB


@dataclass(frozen=True)
class Config:
    encoder: str
    """Alias of the encoder."""
    images: str | None = None
    """Alias of the images to embed; those that the encoder was made from unless given. Images of another set are resized
    and normalized as the encoder's own, and the embeddings are called VARIANT-on-IMAGES."""
    mirror: Annotated[bool, LATER] = False
    """Average what the encoder gives for an image and for its mirror image; the embeddings are called VARIANT-mirror."""
    train: bool = True
    """Embed the training images too. Of a set of anomalies only the test images are read."""
    batch_size: Annotated[int, MACHINE] = 100
    """Images at a time."""
    device: Annotated[str, MACHINE] = "auto"
    """cpu, cuda, mps; auto takes cuda where there is one."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise Problem(f"--batch-size {self.batch_size} is too small; give 1 or more")


def main(config: Config) -> None:
    with Stage("eval.embed", config) as stage:
        model = stage.fetch("encoder", config.encoder)
        stage.about(model)
        if config.mirror:
            stage.introduce(variant=f"{stage.variant}-mirror", seed=stage.seed)
        source = stage.fetch("images", config.images or model.dataset)
        encoder, home = Encoder.load(model.folder).to(device_of(config.device)), model.dataset
        images = Images.load(source.folder)
        if images.name != home:
            stage.expect(images=images.name)
        if images.name == home and not config.train:
            raise Problem(
                f"--train False leaves out the training images of {home}, and its evaluations need them; leave the flag out"
            )
        train_images = images.train if config.train else images.train[:0]
        train_features, train = embed(encoder, train_images, config.batch_size, "train", config.mirror)
        test_features, test = embed(encoder, images.test, config.batch_size, "test", config.mirror)
        labels = np.array(images.train_labels[: len(train)]), np.array(images.test_labels)
        embeddings = Embeddings(
            images.classes,
            train,
            test,
            train_features,
            test_features,
            *labels,
            own=images.name == home,
            duplicates=images.duplicates,
        )
        embeddings.check_lengths(model.request)
        stage.log({"embed/dimensions": embeddings.test.shape[1], "embed/features": embeddings.test_features.shape[1]})
        stage.panel("embed/spread", spread_figure(embeddings.test))
        if embeddings.own:
            stage.panel("embed/vectors", vectors_frame(embeddings, images.test))
        stage.dataset = images.name
        fields: dict[str, object] = {"variant": stage.variant, "seed": stage.seed}
        if images.name != home:
            fields["images"] = images.name
        else:
            model.check_made_from(source)
        stage.finding = (
            f"embeddings of {images.name} by {stage.alias}: {len(train):,} training and {len(embeddings.test):,} test images in"
            f" {embeddings.test.shape[1]:,} dimensions, features of {embeddings.test_features.shape[1]:,}"
        )
        stage.publish("embeddings", embeddings.save, fields)


def embed(
    encoder: Encoder, images: NDArray[np.uint8], batch_size: int, name: str, mirror: bool = False
) -> tuple[Vectors, Vectors]:
    """Features (n, f) and representation (n, d), float32, of uint8 images (n, height, width, 3). mirror: averaged over an
    image and its mirror image."""
    starts = over(range(0, len(images), batch_size), f"embed {name}", "batch")
    features, representation = np.empty((0, 0), np.float32), np.empty((0, 0), np.float32)
    for start in starts:
        stop = min(start + batch_size, len(images))
        batch_features, batch_representation = encoder.encode(images, start, stop, mirror)
        if not start:
            features = blank((len(images), batch_features.shape[1]), np.float32)
            same = batch_representation is batch_features
            representation = features if same else blank((len(images), batch_representation.shape[1]), np.float32)
        features[start:stop] = batch_features.cpu().numpy()
        if representation is not features:
            representation[start:stop] = batch_representation.cpu().numpy()
    return features, representation


def vectors_frame(embeddings: Embeddings, images: Pixels) -> pd.DataFrame:
    """A sample of the test images, the same of all variants and seeds of a data set, for W&B's projections in two dimensions:
    row, picture, class, and a column for each dimension, to four digits; of wider vectors for each of the sample's first
    principal components, which keep its distances best. images: (n, height, width, 3)."""
    rows = draw(len(embeddings.test), SHOWN, seed=0)
    labels = embeddings.test_labels[rows]
    about = {
        "row": rows,
        "image": [PIL.Image.fromarray(np.array(images[row])) for row in rows],
        "class": [embeddings.classes[label] if label != UNLABELED else "" for label in labels],
    }
    vectors, letters = embeddings.test[rows], "D"
    if vectors.shape[1] > MOST:
        vectors, letters = PCA(min(MOST, len(rows)), svd_solver="full").fit_transform(vectors), "PC"
    cells = [[float(f"{value:.4g}") for value in vector] for vector in vectors.tolist()]
    names = [f"{letters}{dimension}" for dimension in range(vectors.shape[1])]
    return pd.concat([pd.DataFrame(about), pd.DataFrame(cells, columns=names)], axis=1)


def spread_figure(vectors: Vectors) -> object:
    """The standard deviation of each dimension, sorted: flat where all are used, falling to 0 where some collapsed."""
    import plotly.graph_objects as go

    deviations = np.sort(vectors.std(axis=0))[::-1]
    mean = float(dimension_std(torch.from_numpy(vectors)))
    line = go.Scatter(y=deviations, mode="lines", line={"color": color(0)}, fill="tozeroy")
    return figure(f"Spread of the representation (mean {mean:.3g})", "dimension, sorted", "standard deviation", [line])


COMMAND = Command(main, Config)

if __name__ == "__main__":
    COMMAND.launch()
