"""eval.evidence.rules: what a rule is, and what the measurements say of it."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from eval.evidence.bootstrap import Seeds, compare
from eval.evidence.comparison import Comparison, measure_entries
from eval.evidence.rules import SIGNS, Decision, Group, Inequality, Measurements, Quantity, Term, decide, parse
from tests.parts.comparisons import BySeed, comparison_values
from train.data.scores import Value

CLASSES = ["airplane", "bird", "cat", "dog"]


def decision(rule: object, values: Mapping[str, Value], *seedless: str) -> Decision:
    return decide(parse(rule), Measurements(Comparison(values), frozenset(seedless)))


def verdict(rule: object, values: Mapping[str, Value], *seedless: str) -> str:
    return decision(rule, values, *seedless).verdict


def why(rule: object, values: Mapping[str, Value], *seedless: str) -> str:
    return decision(rule, values, *seedless).why


# -- the grammar -------------------------------------------------------------------------------------------------------


def test_a_rule_is_read_as_it_is_written() -> None:
    top1, other = Term("probe/top1", "vicreg"), Term("probe/top1", "vicreg-variance0")
    assert parse("probe/top1 of vicreg >= 60 %") == Inequality((top1,), "", ">=", 0.6, True)
    assert parse("probe/top1  of vicreg\n>= 0.6") == Inequality((top1,), "", ">=", 0.6, False)
    assert parse("probe/top1 of vicreg - probe/top1 of vicreg-variance0 > 10%") == Inequality(
        (top1, other), "-", ">", 0.1, True
    )
    ratio = parse("probe/top1 of vicreg / probe/top1 of vicreg-variance0 < -2")
    assert ratio == Inequality((top1, other), "/", "<", -2.0, False)
    assert parse("probe/top1 of vicreg < probe/top1 of vicreg-variance0") == parse(
        "probe/top1 of vicreg - probe/top1 of vicreg-variance0 < 0"
    )
    pairs = parse("probe/pairs[cat, dog]/place of vicreg <= 2")
    assert pairs == Inequality((Term("probe/pairs[cat, dog]/place", "vicreg"),), "", "<=", 2.0, False)
    differences = parse("a/b of one - a/b of two > a/b of three - a/b of four")
    assert differences == Inequality(
        tuple(Term("a/b", name) for name in ("one", "two", "three", "four")), "-", ">", 0.0, False
    )
    nested = {"all": ["probe/top1 of a > 1", {"any": ["probe/top1 of b > 1"]}]}
    one, two = parse("probe/top1 of a > 1"), parse("probe/top1 of b > 1")
    assert parse(nested) == Group(True, (one, Group(False, (two,))))


@pytest.mark.parametrize(
    "wrong",
    [
        "probe/top1 of vicreg",
        "probe/top1 of vicreg = 0.6",
        "probe/top1 vicreg > 0.6",
        "top1 of vicreg > 0.6",
        "probe/top1 of vicreg > 0,6",
        "probe/top1 of vicreg > 1e3",
        "probe/top1 of vicreg + probe/top1 of pixels > 1",
        "probe/top1 of a - probe/top1 of b > probe/top1 of c",
        "probe/top1 of a > probe/top1 of b - probe/top1 of c",
        "probe/top1 of a / probe/top1 of b > probe/top1 of c - probe/top1 of d",
        "probe/top1 of a - probe/top1 of b > probe/top1 of c / probe/top1 of d",
        "probe/top1 of vicreg-probe/top1 of pixels > 0",
        "probe/top1[cat] of vicreg > 0",
        "probe/pairs[cat] of vicreg > 0",
        "probe/per_class[cat]/place of vicreg > 0",
        "__import__('os').getcwd()",
        "",
        {"all": []},
        {"all": "probe/top1 of vicreg > 0.6"},
        {"none": ["probe/top1 of vicreg > 0.6"]},
        {"all": ["probe/top1 of vicreg > 0.6"], "any": ["probe/top1 of vicreg > 0.6"]},
        ["probe/top1 of vicreg > 0.6"],
        None,
        0.6,
    ],
)
def test_what_is_no_rule_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"not a rule|compares three"):
        parse(wrong)


# -- verdicts ----------------------------------------------------------------------------------------------------------

NUMPY = {">=": np.greater_equal, ">": np.greater, "<=": np.less_equal, "<": np.less}


def brute(sign: str, possible: Any, threshold: float) -> str:
    """By trying every value that the quantity may have."""
    met = NUMPY[sign](np.asarray(possible, np.float64), threshold)
    return "holds" if met.all() else "does not hold" if not met.any() else "not decided"


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("ends", list(itertools.combinations_with_replacement([0.4, 0.5, 0.6, 0.7, 0.8], 2)))
def test_an_interval_decides_as_every_value_in_it_would(sign: str, ends: tuple[float, float]) -> None:
    values = comparison_values({"probe/top1": {"vicreg": ([0.1, 0.9], list(ends))}})
    assert verdict(f"probe/top1 of vicreg {sign} 0.6", values) == brute(sign, np.linspace(*ends, 101), 0.6)


@pytest.mark.parametrize("sign", SIGNS)
def test_without_intervals_all_seeds_must_agree(sign: str) -> None:
    outcomes = set()
    for seeds in itertools.product([0.4, 0.6, 0.7], repeat=3):
        values = comparison_values({"cluster/nmi": {"vicreg": (seeds, None)}})
        expected = brute(sign, seeds, 0.6)
        assert verdict(f"cluster/nmi of vicreg {sign} 0.6", values) == expected
        outcomes.add(expected)
    assert outcomes == {"holds", "does not hold", "not decided"}


@pytest.mark.parametrize(("join", "threshold"), [("-", 0.0), ("-", 0.1), ("/", 1.0), ("/", 1.2)])
def test_without_intervals_all_pairs_of_seeds_must_agree(join: str, threshold: float) -> None:
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(200):
        one, other = (
            np.round(rng.uniform(0.3, 0.7, rng.integers(2, 5)) + shift, 1) for shift in (rng.choice(3) / 5, 0)
        )
        values = comparison_values({"cluster/nmi": {"vicreg": (one.tolist(), None), "pixels": (other.tolist(), None)}})
        for sign in SIGNS:
            pairs = np.subtract.outer(one, other) if join == "-" else np.divide.outer(one, other)
            expected = brute(sign, pairs, threshold)
            assert verdict(f"cluster/nmi of vicreg {join} cluster/nmi of pixels {sign} {threshold}", values) == expected
            outcomes.add(expected)
    assert outcomes == {"holds", "does not hold", "not decided"}


def test_two_measures_are_compared_over_all_that_both_intervals_allow() -> None:
    rng = np.random.default_rng(1)
    outcomes = set()
    for _ in range(200):
        one, other = (np.sort(rng.uniform(0.1, 0.5, 2)) + shift for shift in (rng.choice([0, 0.3]), 0))
        measures = {
            "cluster/silhouette/clusters": {"vicreg": ([one.mean()], one.tolist())},
            "cluster/silhouette/classes": {"vicreg": ([other.mean()], other.tolist())},
        }
        first, second = (low + np.linspace(0, 1, 50) * (high - low) for low, high in (one, other))
        differences, ratios = np.subtract.outer(first, second), np.divide.outer(first, second)
        for join, possible in ((">", differences), ("/", np.log(ratios))):
            rule = f"cluster/silhouette/clusters of vicreg {join} cluster/silhouette/classes of vicreg"
            outcome = verdict(rule if join == ">" else f"{rule} > 1", comparison_values(measures))
            assert outcome == brute(">", possible, 0.0)
            outcomes.add(outcome)
    assert outcomes == {"holds", "does not hold", "not decided"}


def test_a_difference_of_variants_is_decided_by_the_paired_interval_in_either_order() -> None:
    measures = {"probe/top1": {"vicreg": ([0.6], [0.55, 0.65]), "patches": ([0.57], [0.52, 0.62])}}
    values = comparison_values(measures, {("probe/top1", "vicreg", "patches"): (0.03, [0.01, 0.05])})
    assert verdict("probe/top1 of vicreg > probe/top1 of patches", values) == "holds"
    assert verdict("probe/top1 of patches > probe/top1 of vicreg", values) == "does not hold"
    assert verdict("probe/top1 of patches - probe/top1 of vicreg < -2 %", values) == "not decided"
    assert verdict("probe/top1 of patches - probe/top1 of vicreg > -6 %", values) == "holds"
    alone = comparison_values(measures)
    assert verdict("probe/top1 of vicreg > probe/top1 of patches", alone) == "not decided", "the intervals overlap"


def test_verdicts_agree_with_those_of_the_comparison_itself() -> None:
    rng = np.random.default_rng(2)
    good, bad = rng.random(400) < 0.7, rng.random(400) < 0.5
    samples = {"shapes-a": good, "shapes-b": bad, "shapes-c": np.roll(good, 1)}
    measure = {name: Seeds([float(hits.mean())], [(hits,)]) for name, hits in samples.items()}
    entries = measure_entries("probe/top1", *compare("probe/top1", measure, 500, 0))
    values = comparison_values({}) | entries | {"compare/variants": list(samples)}
    words = {"higher": "holds", "lower": "does not hold", "no difference shown": "not decided"}
    verdicts = {}
    for one, other in itertools.combinations("abc", 2):
        direction = str(values[f"probe/top1/shapes-{one}-minus-shapes-{other}/verdict"])
        verdicts[one + other] = verdict(f"probe/top1 of {one} > probe/top1 of {other}", values)
        assert verdicts[one + other] == words[direction]
    assert verdicts == {"ab": "holds", "ac": "not decided", "bc": "does not hold"}


def test_one_seed_without_an_interval_decides_only_what_depends_on_no_seed() -> None:
    values = comparison_values(
        {
            "collapse/effective_rank": {
                "vicreg": ([35.0], None),
                "pixels": ([620.0], None),
                "patches": ([1.0, 2.0], None),
            },
            "probe/chance": {"vicreg": ([0.1], None)},
            "probe/top1": {"vicreg": ([0.15], [0.14, 0.16])},
        }
    )
    assert verdict("collapse/effective_rank of vicreg > 1", values, "pixels") == "not decided"
    assert "one seed without an interval decides nothing" in why("collapse/effective_rank of vicreg > 1", values)
    assert verdict("collapse/effective_rank of pixels > 1", values, "pixels") == "holds"
    assert (
        verdict("collapse/effective_rank of pixels > collapse/effective_rank of patches", values, "pixels") == "holds"
    )
    assert verdict("collapse/effective_rank of vicreg < collapse/effective_rank of pixels", values, "pixels") == (
        "not decided"
    )
    near = "probe/top1 of vicreg / probe/chance of vicreg <= 2"
    assert verdict(near, values) == "not decided"
    assert verdict(near, values, "probe/chance") == "holds"


def test_a_divisor_that_may_be_zero_decides_nothing() -> None:
    rule = "probe/top1 of vicreg / probe/chance of vicreg <= 2"
    for chance in ([0.0, 0.1], [0.0, 0.0]):
        values = comparison_values(
            {"probe/top1": {"vicreg": ([0.5], [0.4, 0.6])}, "probe/chance": {"vicreg": (chance, None)}}
        )
        assert verdict(rule, values) == "not decided"
        assert "may be 0" in why(rule, values)


POSSIBLE = {"holds": (True,), "does not hold": (False,), "not decided": (True, False)}
RULES = {
    "holds": "probe/top1 of a > 0.1",
    "does not hold": "probe/top1 of a > 0.9",
    "not decided": "probe/top1 of a > 0.5",
}


@pytest.mark.parametrize(("kind", "needed"), [("all", all), ("any", any)])
def test_a_group_is_decided_as_every_way_in_which_its_parts_could_turn_out(kind: str, needed: Any) -> None:
    values = comparison_values({"probe/top1": {"a": ([0.5], [0.4, 0.6])}})
    for parts in itertools.product(RULES, repeat=3):
        outcomes = {needed(ways) for ways in itertools.product(*(POSSIBLE[part] for part in parts))}
        expected = "not decided" if len(outcomes) == 2 else "holds" if outcomes == {True} else "does not hold"
        assert verdict({kind: [RULES[part] for part in parts]}, values) == expected, parts
        nested = {kind: [RULES[parts[0]], {kind: [RULES[part] for part in parts[1:]]}]}
        assert verdict(nested, values) == expected


# -- classes -----------------------------------------------------------------------------------------------------------


def by_class(*seeds: tuple[list[float], list[list[Any]]]) -> dict[str, Value]:
    """seeds: accuracy of each class and pairs, one of each a seed."""
    lists: dict[str, list[Any]] = {
        "probe/classes": [CLASSES for _ in seeds],
        "probe/per_class": [rates for rates, _ in seeds],
        "probe/pairs": [pairs for _, pairs in seeds],
    }
    return comparison_values({}, lists={path: {"vicreg": by_seed} for path, by_seed in lists.items()})


def test_classes_are_taken_by_name_from_the_lists() -> None:
    pairs = [["cat", "dog", 0.3], ["bird", "cat", 0.2], ["airplane", "bird", 0.1]]
    values = by_class(([0.9, 0.6, 0.3, 0.5], pairs), ([0.8, 0.7, 0.2, 0.4], pairs[1:] + pairs[:1]))
    figures = {
        rule: decision(f"{rule} of vicreg > 0", values).figures
        for rule in ("probe/per_class[cat, airplane]", "probe/pairs[dog, cat]", "probe/pairs[dog,cat]/place")
    }
    averages = [np.mean([0.3, 0.9]), np.mean([0.2, 0.8])]
    assert figures == {
        "probe/per_class[cat, airplane]": [
            [
                "probe/per_class[cat, airplane] of vicreg",
                pytest.approx(np.mean(averages)),
                pytest.approx(averages[::-1]),
            ]
        ],
        "probe/pairs[dog, cat]": [["probe/pairs[dog, cat] of vicreg", 0.3, [0.3, 0.3]]],
        "probe/pairs[dog,cat]/place": [["probe/pairs[dog,cat]/place of vicreg", 2.0, [1.0, 3.0]]],
    }
    assert verdict("probe/per_class[airplane] of vicreg > probe/per_class[bird, cat, dog] of vicreg", values) == "holds"
    assert verdict("probe/pairs[cat, dog]/place of vicreg <= 1", values) == "not decided"


def test_a_class_that_the_data_set_lacks_is_named() -> None:
    values = by_class(([0.9, 0.6, 0.3, 0.5], [["cat", "dog", 0.3]]), ([0.9, 0.6, 0.3, 0.5], [["cat", "dog", 0.3]]))
    for rule in ("probe/pairs[deer, cat]/place of vicreg <= 2", "probe/per_class[deer, cat] of vicreg > 0"):
        assert verdict(rule, values) == "not decided"
        assert why(rule, values) == "shapes has no class deer"
    unlisted = "probe/pairs[bird, cat] of vicreg > 0"
    assert why(unlisted, values) == "probe/pairs[bird, cat] of vicreg was not measured"


# -- the sentence ------------------------------------------------------------------------------------------------------


def test_the_sentence_states_the_figures() -> None:
    measures: dict[str, BySeed] = {
        "probe/top1": {
            "vicreg": ([0.68, 0.666], [0.664, 0.682]),
            "untrained": ([0.426], [0.416, 0.436]),
            "eigenmaps": ([0.5], None),
        },
        "collapse/effective_rank": {"vicreg": ([35.0, 37.0], None), "pixels": ([620.0], None)},
        "anomaly/auc": {"vicreg": ([0.768], [0.76, 0.776])},
    }
    values = comparison_values(measures, {("probe/top1", "vicreg", "untrained"): (0.247, [0.23, 0.262])})
    assert why("probe/top1 of vicreg >= 60 %", values) == (
        "probe/top1 of vicreg is 67.3 % (66.4 to 68.2, 2 seeds), the claim needs at least 60 %"
    )
    assert why("probe/top1 of untrained - probe/top1 of vicreg < -25 %", values) == (
        "probe/top1 of untrained is 42.6 % (41.6 to 43.6, 1 seed), probe/top1 of vicreg is 67.3 % (66.4 to 68.2, 2 seeds): "
        "the difference is −24.7 points (−26.2 to −23.0), the claim needs less than −25 points, "
        "but the interval includes −25 points"
    )
    assert why("collapse/effective_rank of vicreg < collapse/effective_rank of pixels", values, "pixels") == (
        "collapse/effective_rank of vicreg is 36 (35 to 37 in 2 seeds), collapse/effective_rank of pixels is 620: "
        "the difference is −584 (−585 to −583), the claim needs less than 0, and all pairs of seeds agree"
    )
    assert why("collapse/effective_rank of vicreg > 36", values).endswith("more than 36, but the seeds disagree")
    assert why("anomaly/auc of vicreg >= 0.99", values).startswith(
        "anomaly/auc of vicreg against mnist is 0.768 (0.760 to"
    )
    assert why("probe/top1 of eigenmaps > probe/top1 of patches", values) == "shapes-patches was not compared"
    assert why("anomaly/auc of untrained > 0.5", values) == "anomaly/auc of untrained against mnist was not measured"


def test_of_several_comparisons_each_says_what_it_came_to() -> None:
    values = comparison_values({"probe/top1": {"a": ([0.5], [0.4, 0.6])}})
    joined = "probe/top1 of a is 0.500 (0.400 to 0.600, 1 seed), the claim needs more than "
    assert why({"all": [RULES["holds"], RULES["does not hold"]]}, values) == (
        f"{joined}0.1 (holds); and {joined}0.9 (does not hold)"
    )
    assert why({"any": [RULES["holds"], RULES["not decided"]]}, values) == (
        f"{joined}0.1 (holds); or {joined}0.5, but the interval includes 0.5 (not decided)"
    )
    figures = decision({"all": [RULES["holds"], RULES["does not hold"]]}, values).figures
    assert figures == [["probe/top1 of a", 0.5, [0.4, 0.6]]], "what both name is there once"


def test_two_differences_are_compared_by_the_far_ends_of_their_paired_intervals() -> None:
    random = np.random.default_rng(0)
    images = random.uniform(size=400) < 0.5
    samples = {}
    for name, share in (("a", 0.9), ("b", 0.5), ("c", 0.55), ("d", 0.5)):
        samples[name] = Seeds(
            [], [(np.where(random.uniform(size=400) < 0.3, images, random.uniform(size=400) < share),)]
        )
    samples = {name: Seeds([float(one.samples[0][0].mean())], one.samples) for name, one in samples.items()}
    estimates, differences = compare("probe/top1", samples, 500, 0)
    values: dict[str, Value] = {
        "compare/dataset": "x",
        "compare/variants": [f"x-{name}" for name in "abcd"],
        "compare/anomalies": None,
    }
    values |= measure_entries(
        "probe/top1",
        {f"x-{name}": estimate for name, estimate in estimates.items()},
        {(f"x-{one}", f"x-{other}"): difference for (one, other), difference in differences.items()},
    )
    rule = "probe/top1 of a - probe/top1 of b > probe/top1 of c - probe/top1 of d"
    (finding,) = decision(rule, values).findings
    assert isinstance(finding.quantity, Quantity) and finding.quantity.ends is not None
    one, other = differences["a", "b"], differences["c", "d"]
    assert one.interval is not None and other.interval is not None
    assert finding.quantity.value == pytest.approx(one.value - other.value)
    assert finding.quantity.ends == pytest.approx(
        (one.interval[0] - other.interval[1], one.interval[1] - other.interval[0])
    )
    assert verdict(rule, values) == ("holds" if finding.quantity.ends[0] > 0 else "not decided")
    assert "difference of the differences" in why(rule, values)
    assert verdict(rule.replace("of d", "of e"), values) == "not decided"


def test_a_ratio_that_no_number_holds_is_not_decided() -> None:
    values = comparison_values({"a/b": {"x": ([1e149], [1e148, 1e149]), "y": ([1e-200], [1e-200, 1e-199])}})
    result = decision("a/b of x / a/b of y > 2", values)
    assert (result.verdict, result.why) == ("not decided", "a/b of x is too large to be divided by a/b of y")


def test_what_cannot_be_decided_says_why_whatever_was_measured() -> None:
    rule = parse({"undecidable": "units are exchangeable"})
    decision = decide(rule, Measurements(Comparison(comparison_values({}))))
    assert (decision.verdict, decision.why, decision.figures) == ("not decided", "units are exchangeable", [])
    for wrong in ({"undecidable": ""}, {"undecidable": 3}, {"undecidable": "x", "all": ["y"]}):
        with pytest.raises(ValueError, match="is not a rule"):
            parse(wrong)
