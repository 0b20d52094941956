"""What the page says first: other numbers give other sentences, by the same rule for every study."""

import re
from collections.abc import Mapping

from eval.labbook.opening import caveats, opening
from tests.parts.comparisons import BySeed, Ends, comparison_values
from tests.parts.shapes import ACCURACIES, collect, publish_compare, publish_images, publish_scores, text

Gaps = Mapping[tuple[str, str, str], tuple[float, Ends]]

TOP1: Mapping[str, BySeed] = {
    "probe/top1": {
        "untrained": ([0.42], [0.40, 0.44]),
        "patches": ([0.5], [0.48, 0.52]),
        "vicreg": ([0.673], [0.65, 0.69]),
        "vicreg-variance0": ([0.141], [0.12, 0.16]),
        "vicreg-neighbors": ([0.66], [0.64, 0.68]),
    }
}
GAPS: Gaps = {
    ("probe/top1", "vicreg", "patches"): (0.173, [0.15, 0.19]),
    ("probe/top1", "vicreg", "vicreg-variance0"): (0.532, [0.52, 0.54]),
    ("probe/top1", "vicreg", "vicreg-neighbors"): (0.013, [-0.01, 0.03]),
}


def said(measures: Mapping[str, BySeed] = TOP1, gaps: Gaps = GAPS) -> list[str]:
    """The sentences of a page whose variants have these measures."""
    publish_images()
    variants = dict.fromkeys(variant for by_variant in measures.values() for variant in by_variant)
    for variant in variants:
        artifacts = {path.partition("/")[0] for path in measures}
        for name in artifacts:
            values = {
                path: by_variant[variant][0][0]
                for path, by_variant in measures.items()
                if path.startswith(f"{name}/") and variant in by_variant
            }
            publish_scores(name, {**values, "probe/chance": 1 / 3}, f"shapes-{variant}")
    publish_compare(comparison_values(measures, gaps, anomalies="letters"))
    markup = opening(collect(tuple(f"shapes-{variant}" for variant in variants), "letters"))
    return [text(part) for part in re.findall(r"<p class=\"caveat\".*?</p>|<li>.*?</li>", markup, re.S)]


def test_the_best_representation_comes_first_with_its_distance_to_the_best_floor() -> None:
    best, *_ = said()
    assert best == (
        "VICReg is best by the linear probe : 67.3 % (65.0 to 69.0), 17.3 points (15.0 to 19.0) better than whitened patches,"
        " the best floor. One other is not shown to differ from it."
    )


def test_what_each_ablation_cost_is_said_by_the_interval_of_its_difference() -> None:
    _, ablations, _ = said()
    assert ablations.startswith("1 of 2 ablations of VICReg costs something , by the linear probe:")
    assert "without the variance term: 53.2 points (52.0 to 54.0) worse" in ablations
    assert "with an image and its neighbor as views: no difference shown, −1.3 points (−3.0 to 1.0)" in ablations


def test_what_no_training_gives_comes_last_the_best_floor_first() -> None:
    assert (
        said()[-1]
        == "Without any training , by the linear probe: whitened patches 50.0 %, the untrained network 42.0 %; chance 33.3 %."
    )


def test_a_floor_that_training_does_not_exceed_is_said_to_be_so() -> None:
    equal: Gaps = {**GAPS, ("probe/top1", "vicreg", "patches"): (0.173, [-0.01, 0.3])}
    best, *_ = said(gaps=equal)
    assert best.startswith(
        "No training is shown to exceed the best floor by the linear probe : the best, VICReg, has 67.3 %"
    )
    assert best.endswith("no difference shown. One other is not shown to differ from it.")


def test_a_set_on_which_a_floor_is_as_good_and_nearly_perfect_is_called_too_easy_before_all_else() -> None:
    high: Mapping[str, BySeed] = {"probe/top1": {"patches": ([0.99], [0.98, 1.0]), "vicreg": ([0.98], [0.97, 0.99])}}
    first, second, *_ = said(high, {("probe/top1", "vicreg", "patches"): (-0.01, [-0.02, -0.001])})
    assert first.startswith(
        "Too easy to tell methods apart. Whitened patches, for which nothing was learned, reach 99.0 %"
    )
    assert second.startswith("No training reaches the best floor by the linear probe : the best, VICReg, has 98.0 %")


def test_a_measure_that_is_perfect_for_nearly_all_is_named_before_all_else() -> None:
    perfect: Mapping[str, BySeed] = {
        "anomaly/auc": {
            "untrained": ([1.0], None), "patches": ([0.999], None), "vicreg": ([1.0], None), "vicreg-neighbors": ([0.8], None)
        }
    }  # fmt: skip
    first, *_ = said({**TOP1, **perfect})
    assert first == "Anomaly AUC does not tell the variants apart. 3 of 4 have 0.995 or more."
    fewer: Mapping[str, BySeed] = {"anomaly/auc": {**perfect["anomaly/auc"], "patches": ([0.9], None)}}
    assert not said({**TOP1, **fewer})[0].startswith("Anomaly AUC")


def test_the_detector_and_the_clusters_are_compared_with_the_best_floor_s() -> None:
    uses: Mapping[str, BySeed] = {
        "anomaly/auc": {"vicreg": ([0.9], [0.88, 0.92]), "untrained": ([0.8], None), "patches": ([0.7], None)},
        "cluster/purity": {"vicreg": ([0.5], [0.4, 0.6]), "untrained": ([0.45], None), "patches": ([0.55], None)},
    }
    gaps: Gaps = {
        **GAPS,
        ("anomaly/auc", "vicreg", "untrained"): (0.1, [0.05, 0.15]),
        ("cluster/purity", "vicreg", "patches"): (-0.05, [-0.1, 0.02]),
    }
    sentences = said({**TOP1, **uses}, gaps)
    assert sentences[2] == (
        "The anomaly detector of VICReg is better than that of the untrained network (AUC 0.900 (0.880 to 0.920), against 0.800;"
        " difference 0.100 (0.050 to 0.150))."
    )
    assert sentences[3].startswith("The clusters of VICReg are not shown to be better than those of whitened patches")
    assert len(sentences) == 5


def test_without_a_comparison_nothing_is_called_better_and_without_scores_the_page_says_so() -> None:
    publish_images()
    for variant in ("shapes-vicreg", "shapes-patches"):
        publish_scores("probe", {"probe/top1": ACCURACIES[variant]}, variant)
    words = text(opening(collect(("shapes-vicreg", "shapes-patches"), None)))
    assert "not decided" in words and "better than" not in words
    publish_scores("retrieve", {"retrieve/precision@5": 0.5}, "shapes-eigenmaps")
    alone = collect(("shapes-eigenmaps",), None)
    assert text(opening(alone)) == "Nothing of what this study asks for was measured." and caveats(alone) == []
