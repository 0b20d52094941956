"""Every stage once, as commands, run one after another: here, or with `python -m tests.parts.chain` in a process of its own."""

import importlib
import json
import shlex
import sys
from collections.abc import Iterator, Sequence

from eval.studies.all import STUDIES
from train.tracking.declarations import declarations
from train.tracking.store import Store

# So that a stage suits the few images, or is quick.
FLAGS = {
    "eval.index": " --k 6",
    "eval.probe": " --resamples 200",
    "eval.generate": " --judge {judge} --resamples 50 --steps 3",
    "eval.decode": " --judge {judge} --pairs 12 --steps 3",
    "eval.transfer": " --labels 6 12 --draws 2 --test 20",
}


def studies() -> Iterator[str]:
    """What compares the variants, decides the claims and makes the page, of each study."""
    for study in STUDIES.values():
        also = ("VAE",) if "generate" in study.evaluations else ()
        yield shlex.join(study.comparing(("VICREG", "EIGENMAPS", *also), "photos")) + " --resamples 50"
        if study.claims:
            yield shlex.join(study.deciding("IMAGES"))
        yield shlex.join(study.reporting(("VICREG", *also), "photos"))


# `NAME = COMMAND`: {NAME} in the commands that follow is the variant that it made. {source}, {images}, {epochs} and {batch} are given.
EVALUATIONS = tuple(
    line.format(variant="{vae}" if "generator" in declared.needs else "{vicreg}", anomalies="photos")
    + FLAGS.get(line.split()[0], "")
    for declared in declarations().values()
    for line in declared.command
)
CHAIN = (
    "train.prepare --dataset {source}",
    "train.prepare --dataset photos",
    "vicreg = train.pretrain --images {images} --preset small --epochs {epochs} --batch-size {batch} --width 4 --view-count 2",
    "train.patches --images {images} --patches 8",
    "train.patches --images {images} --kind pixels",
    "judge = train.supervise --images {images} --preset small --epochs 2 --batch-size {batch} --width 4",
    "vae = train.autoencode --images {images} --preset small --kl 1 --epochs 1 --batch-size {batch} --width 4 --dimension 6",
    "ddpm = train.diffuse --images {images} --preset small --epochs 1 --batch-size {batch} --width 4",
    *EVALUATIONS,
    *(f"{stage} --generator {{ddpm}}{FLAGS[stage]}" for stage in ("eval.generate", "eval.decode")),
    "neighbors = train.pretrain --images {images} --preset small --views neighbors --neighbors {vicreg} --batch-size {batch} --width 4",
    "eigenmaps = train.eigenmaps --embeddings {vicreg} --k 6 --dimension 3",
    "eval.probe --embeddings {eigenmaps} --resamples 200",
    *(
        line.replace("VICREG", "{vicreg}")
        .replace("EIGENMAPS", "{eigenmaps}")
        .replace("VAE", "{vae}")
        .replace("IMAGES", "{images}")
        for line in studies()
    ),
)
# What the user's card asks to see in W&B, by stage: panel -> kind of record.
PANELS = {
    "train.prepare": {"images/samples": "image-file", "images/classes": "plotly-file", "images/table": "table-file"},
    "train.pretrain": {"training/invariance": "plotly-file", "training/knn": "plotly-file"},
    "train.autoencode": {"training/samples": "plotly-file", "training/seconds": "plotly-file"},
    "train.diffuse": {"training/samples": "plotly-file"},
    "eval.generate": {
        "generate/samples": "image-file",
        "generate/nearest": "image-file",
        "generate/distance": "plotly-file",
    },
    "eval.latents": {"latents/classes": "plotly-file", "latents/correlations": "plotly-file"},
    "eval.transfer": {"transfer/accuracy": "plotly-file"},
    "eval.embed": {"embed/spread": "plotly-file", "embed/vectors": "table-file"},
    "eval.index": {"neighbors/distances": "plotly-file"},
    "eval.probe": {"probe/confusion": "plotly-file", "probe/predictions": "table-file"},
    "eval.project": {"project/pca": "plotly-file", "project/tsne": "plotly-file"},
    "eval.retrieve": {
        "retrieve/nearest": "image-file",
        "retrieve/farthest": "image-file",
        "retrieve/table": "table-file",
    },
    "eval.anomaly": {
        "anomaly/roc": "plotly-file",
        "anomaly/most": "image-file",
        "anomaly/table": "table-file",
        "anomaly/curve_table": "table-file",
    },
    "eval.cluster": {"cluster/clusters": "plotly-file", "cluster/classes": "plotly-file"},
    "train.eigenmaps": {"eigenmaps/spectrum": "plotly-file"},
    "eval.compare": {
        "compare/table": "table-file",
        "compare/differences": "table-file",
        "compare/probe": "plotly-file",
    },
    "eval.claims": {"claims/table": "table-file", "claims/verdicts": "plotly-file"},
    "eval.sweep": {"sweep/table": "table-file", "sweep/parallel": "plotly-file"},
    "eval.report": {"report/table": "table-file"},
}


def run(commands: Sequence[str], **variants: str) -> dict[str, str]:
    """Runs the commands in this process. Returns the variants by the names that the commands give them."""
    names = dict(variants)
    for command in commands:
        name, _, line = command.rpartition(" = ")
        stage, *flags = line.format(**names).split()
        module = importlib.import_module(stage)
        module.COMMAND.run(flags)
        if name:
            names[name] = latest_variant(stage)
    return names


def latest_variant(stage: str) -> str:
    """Of what `stage` has made last here."""
    store = Store()
    (row,) = store.rows("SELECT variant FROM runs WHERE stage = ? ORDER BY rowid DESC LIMIT 1", [stage])
    store.close()
    return str(row["variant"])


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[2:], **json.loads(sys.argv[1]))))
