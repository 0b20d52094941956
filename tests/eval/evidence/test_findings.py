"""What an evaluation found reads as the issue that asked for it has it."""

import pytest

from eval.evidence.findings import PARTS, finding
from eval.evidence.measures import MEASURES


def test_a_probe_reads_as_accuracy_with_interval_features_and_chance() -> None:
    values = {
        "probe/top1": 0.95,
        "probe/top1/interval": [0.928, 0.97],
        "probe/features/top1": 0.9639,
        "probe/chance": 0.1,
    }
    assert finding("probe", "digits-vicreg", values) == (
        "probe of digits-vicreg: 95.0 % (92.8 to 97.0) on the representation, 96.4 on the features; chance 10.0"
    )


def test_what_was_not_measured_is_left_out() -> None:
    assert finding("anomaly", "x", {"anomaly/auc": 0.5, "anomaly/auc/interval": None}) == "anomaly of x: AUC 0.500"
    assert finding("cluster", "x", {}) == "cluster of x: nothing was measured"


def test_transfer_reads_as_the_frozen_encoder_with_fewest_and_most_labels() -> None:
    values = {
        "transfer/labels": [160, 10, 40],
        "transfer/chance": 0.1,
        "transfer/probe/10": 0.3,
        "transfer/frozen/10": 0.25,
        "transfer/frozen/10/interval": [0.2, 0.3],
        "transfer/frozen/40": 0.4,
        "transfer/frozen/160": 0.5,
        "transfer/frozen/10/recipe": "60 steps",
    }
    assert finding("transfer", "x", values) == (
        "transfer of x: frozen, 25.0 % (20.0 to 30.0) with 10 labels, 50.0 with 160; chance 10.0"
    )


@pytest.mark.parametrize("artifact", PARTS)
def test_a_number_has_the_form_that_it_has_on_the_page(artifact: str) -> None:
    forms = {path: (form, MEASURES[path].form) for path, form, _ in PARTS[artifact] if path in MEASURES}
    assert forms and all(ours == pages for ours, pages in forms.values())
