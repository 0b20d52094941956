"""What was found, said first: some sentences that are chosen by rule from the numbers, the same rule for every study.

A difference counts where its paired 95 % interval excludes 0, as everywhere on the page.
"""

from collections.abc import Sequence

from eval.evidence.comparison import Difference, Estimate
from eval.evidence.measures import Measure
from eval.evidence.numbers import number, span
from eval.labbook.book import Book
from eval.labbook.estimates import difference, estimate, leaders
from eval.labbook.markup import Html, join, tag, unbroken
from eval.labbook.study import Ablation, Use
from eval.labbook.writing import capital, series, share

EASY = 0.9  # of the test images at least: where a floor reads so many, methods differ by the few that remain
PERFECT = 0.995  # reads "1.000" or all but that
NEARLY_ALL = 0.75  # of the variants, and of no fewer than
SEVERAL = 4
RULE = (
    "Better and worse: the 95 % interval of the paired difference excludes 0. A set is too easy where"
    f" a floor reaches {share(EASY)} and no training is shown to exceed it."
)


def opening(book: Book) -> Html:
    """The caveats, the sentences, and the rule that chose them."""
    sentences = [_use(book, use) for use in book.study.uses]
    if headline := book.headline:
        sentences = [_best(book, headline), _ablations(book, headline), *sentences, _floors(book, headline)]
    items = [tag("li", unbroken(sentence)) for sentence in sentences if sentence]
    warnings = [tag("p", unbroken(caveat), class_="caveat", role="note") for caveat in caveats(book)]
    if not items:
        return join(*warnings, tag("p", "Nothing of what this study asks for was measured.", class_="absent"))
    return join(*warnings, tag("ul", *items, class_="findings"), tag("p", RULE, class_="rule"))


# -- which representations -------------------------------------------------------------------------------------------


def _estimates(book: Book, measure: Measure, variants: Sequence[str]) -> dict[str, Estimate]:
    return {variant: mean for variant in variants if (mean := estimate(book, measure, variant))}


def _baselines(book: Book) -> list[str]:
    return [variant for name in book.study.baselines if (variant := book.variant(name)) in book.variants]


def _rivals(book: Book) -> list[str]:
    """The variants that something was learned for, without labels."""
    labeled = {one.name for one in book.study.representations if one.labeled}
    excluded = {book.variant(name) for name in (*labeled, *book.study.baselines)}
    return [variant for variant in book.variants if variant not in excluded]


def first_of(book: Book, measure: Measure, variants: Sequence[str]) -> str | None:
    """The variant with the best value, None where none has one."""
    means = _estimates(book, measure, variants)
    return max(means, key=lambda variant: (measure.better or 1) * means[variant].value, default=None)


def best_variant(book: Book) -> str | None:
    """The best of those that something was learned for, by the study's first measure; None where none has it."""
    return first_of(book, book.headline, _rivals(book)) if book.headline else None


# -- sentences -------------------------------------------------------------------------------------------------------


def caveats(book: Book) -> list[Html]:
    """Why differences between the variants may say little."""
    notes = []
    headline = book.headline
    floor, rival = (
        first_of(book, headline, variants) if headline else None for variants in (_baselines(book), _rivals(book))
    )
    if headline and floor and rival:
        gap, value = difference(book, headline, rival, floor), estimate(book, headline, floor)
        exceeded = gap and headline.better * gap.value > 0 and (gap.decided or gap.interval is None)
        if value and not exceeded and _ends_at_one(headline) and value.value >= EASY:
            notes.append(
                join(
                    tag("strong", "Too easy to tell methods apart. "),
                    f"{capital(book.label(floor))}, for which nothing was learned, reach{_s(book, floor)}"
                    f" {number(value.value, headline.form)} by {headline.words}, and no training is shown to exceed that.",
                )
            )
    for measure in book.summary:
        means = _estimates(book, measure, book.variants)
        perfect = [variant for variant, mean in means.items() if mean.value >= PERFECT]
        if _ends_at_one(measure) and len(means) >= SEVERAL and len(perfect) >= NEARLY_ALL * len(means):
            notes.append(
                join(
                    tag("strong", f"{measure.label} does not tell the variants apart. "),
                    f"{len(perfect)} of {len(means)} have {number(PERFECT, measure.form)} or more.",
                )
            )
    return notes


def _ends_at_one(measure: Measure) -> bool:
    return measure.better > 0 and measure.form in ("percent", "share")


def _best(book: Book, measure: Measure) -> Html | None:
    """The best representation, and by how much it is over the best floor."""
    rivals = _estimates(book, measure, _rivals(book))
    best = first_of(book, measure, tuple(rivals))
    if best is None:
        return None
    # Where all are as good `leaders` names none.
    ties = (leaders(measure, rivals, lambda one, other: difference(book, measure, one, other)) or set(rivals)) - {best}
    value = f"{number(rivals[best].value, measure.form)}{_interval(rivals[best], measure)}"
    also = f" {_number_of(len(ties))} not shown to differ from it." if ties and len(rivals) > 1 else ""
    label, floor = book.label(best), first_of(book, measure, _baselines(book))
    gap = difference(book, measure, best, floor) if floor else None
    if floor is None or gap is None:
        return join(tag("strong", f"{capital(label)} {_is(book, best)} best by {measure.words}"), f": {value}.{also}")
    beside = f"{book.label(floor)}, the best floor"
    if gap.decided and gap.word(measure) == "better":
        lead = f"{capital(label)} {_is(book, best)} best by {measure.words}"
        rest = f": {value}, {_size(gap, measure)} better than {beside}."
    elif gap.decided:
        lead = f"No training reaches the best floor by {measure.words}"
        rest = f": the best, {label}, {_has(book, best)} {value}, {_size(gap, measure)} worse than {beside}."
    else:
        lead = f"No training is shown to exceed the best floor by {measure.words}"
        rest = f": the best, {label}, {_has(book, best)} {value}; the difference from {beside}, is {_size(gap, measure)}, {gap.verdict}."
    return join(tag("strong", lead), rest, also)


def _ablations(book: Book, headline: Measure) -> Html | None:
    """What each ablation cost."""
    costs: list[tuple[Ablation, Measure, Difference]] = []
    for ablation in book.study.ablations:
        measure = ablation.measure if ablation.measure and book.applicable([ablation.measure]) else headline
        rest, whole = (book.variant(name) for name in (ablation.rest, ablation.whole))
        gap = difference(book, measure, rest, whole)
        if gap and {rest, whole} <= set(book.variants):
            costs.append((ablation, measure, gap))
    if not costs:
        return None
    words = []
    for ablation, measure, gap in costs:
        about = ":" if measure is headline else f", by {measure.words}:"
        word = gap.word(measure)
        if word in ("worse", "better"):
            words.append(f"{ablation.words}{about} {_size(gap, measure)} {word}")
        else:
            words.append(f"{ablation.words}{about} {word}, {_size(gap, measure)}")
    wholes = series(list(dict.fromkeys(book.label(book.variant(ablation.whole)) for ablation, *_ in costs)))
    worse = sum(gap.word(measure) == "worse" for _, measure, gap in costs)
    lead = f"{worse} of {len(costs)} ablations of {wholes} cost{'s' if worse == 1 else ''} something"
    if not worse:
        lead = f"No ablation of {wholes} is shown to cost anything"
    if any(gap.interval is None for *_, gap in costs):
        lead = f"The ablations of {wholes}"
    return join(tag("strong", lead), f", by {headline.words}: {'; '.join(words)}.")


def _use(book: Book, use: Use) -> Html | None:
    """What a representation is good for beside its probe, and whether a floor is as good."""
    applicable = book.applicable([use.measure, *([use.unlabeled] if use.unlabeled else [])])
    if not applicable:
        return None
    measure, *_ = applicable
    names = use.of or (book.study.subject,)
    best = first_of(book, measure, [variant for name in names if (variant := book.variant(name)) in book.variants])
    floors = [book.variant(name) for name in use.against or book.study.baselines]
    floor = first_of(book, measure, [variant for variant in floors if variant in book.variants])
    mean = estimate(book, measure, best) if best else None
    if best is None or mean is None:
        return None
    value = f"{capital(use.words)} of {book.label(best)}"
    text = f" ({measure.words} {number(mean.value, measure.form)}{_interval(mean, measure)}"
    gap = difference(book, measure, best, floor) if floor else None
    other = estimate(book, measure, floor) if floor else None
    if floor is None or gap is None or other is None:
        return join(tag("strong", value), f"{text}).")
    word = gap.word(measure)
    verb, those = ("are", "those") if use.plural else ("is", "that")
    verdict = f"{word} than" if word in ("better", "worse") else "not shown to be better than"
    verdict = "not decided against" if gap.interval is None else verdict
    return join(
        tag("strong", f"{value} {verb} {verdict} {those} of {book.label(floor)}"),
        f"{text}, against {number(other.value, measure.form)}; difference {_size(gap, measure)}).",
    )


def _floors(book: Book, measure: Measure) -> Html | None:
    """What no training gives."""
    means = _estimates(book, measure, _baselines(book))
    if not means:
        return None
    ranking = sorted(means, key=lambda variant: -(measure.better or 1) * means[variant].value)
    words = [f"{book.label(variant)} {number(means[variant].value, measure.form)}" for variant in ranking]
    mark = measure.mark
    chance = book.value(measure.artifact, ranking[0], mark) if isinstance(mark, str) else mark
    beside = f"; chance {number(chance, measure.form)}" if isinstance(chance, int | float) else ""
    return join(tag("strong", "Without any training"), f", by {measure.words}: {', '.join(words)}{beside}.")


def _size(gap: Difference, measure: Measure) -> str:
    """`16.1 points (14.0 to 18.2)` of what is decided, else with its sign."""
    form = "points" if measure.form == "percent" else measure.form
    if not gap.decided:
        sign = "+" if gap.value > 0 else ""
        ends = f" ({span(gap.interval, form).removesuffix(' points')})" if gap.interval else ""
        return f"{sign}{number(gap.value, form)}{ends}"
    assert gap.interval is not None
    low, high = sorted(abs(end) for end in gap.interval)
    return f"{number(abs(gap.value), form)} ({span((low, high), form).removesuffix(' points')})"


def _interval(mean: Estimate, measure: Measure) -> str:
    return f" ({span(mean.interval, measure.form).removesuffix(' %')})" if mean.interval else ""


def _number_of(count: int) -> str:
    return "One other is" if count == 1 else f"{count} others are"


def _is(book: Book, variant: str) -> str:
    return "are" if book.plural(variant) else "is"


def _has(book: Book, variant: str) -> str:
    return "have" if book.plural(variant) else "has"


def _s(book: Book, variant: str) -> str:
    """Of a verb in the third person."""
    return "" if book.plural(variant) else "es"
