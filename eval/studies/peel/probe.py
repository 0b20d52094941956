"""How well the classes can be read off VICReg's representation by one linear layer."""

from eval.evidence.comparison import Estimate
from eval.evidence.measures import CONFUSED, FEATURES, PROBE, Measure
from eval.evidence.numbers import number
from eval.labbook.chapter import PER_CLASS, Chapter, Panel
from eval.labbook.writing import Writer, phrase, series, share
from eval.studies.peel.representations import FLOORS, FULL

TARGET = 0.6  # the probe's accuracy that the exercise asks for


def probe(w: Writer) -> None:
    accuracy = w.estimate(PROBE, FULL)
    if accuracy:
        w.conclude(
            f"The probe classifies {number(accuracy.value, 'percent')} of the test images correctly: {_against_target(accuracy)}."
        )
        w.say(f"On the representation: {phrase(accuracy, 'percent')}.")
    if features := w.phrase(FEATURES, FULL):
        w.say(f"On the features that the head reads: {features}.")
    confused = w.value("probe", "probe/confused", FULL)
    if confused:
        most = [f"{true} for {taken} ({number(rate, 'percent')})" for true, taken, rate in confused[:3]]
        w.say(f"It most often takes {series(most)}.")
    for floor in FLOORS:
        if w.has(floor):
            w.versus(f"Against {w.label(floor)}", PROBE, FULL, floor)


def _against_target(accuracy: Estimate) -> str:
    low, high = accuracy.interval or (accuracy.value, accuracy.value)
    without = "" if accuracy.interval else ", without an interval"
    if low >= TARGET:
        return f"at least the {share(TARGET)} that the exercise asks for{without}"
    if high < TARGET:
        return f"below the {share(TARGET)} that the exercise asks for{without}"
    return f"whether it reaches {share(TARGET)} is not decided"


CHAPTER = Chapter(
    3,
    "probe",
    "Linear probe",
    "One linear layer on the frozen encoder's representation, trained on the training set's labels: how many test"
    " images does it classify correctly (at least 60 %?), and which classes does it take for each other?",
    (Panel("probe", "probe/confusion", "Confusion matrix"), PER_CLASS),
    (
        PROBE,
        FEATURES,
        Measure("probe", "probe/chance", "Chance", "percent"),
        Measure("probe", "probe/regularisation", "Regularization", "scale"),
        CONFUSED,
    ),
    by_class=("probe/per_class", "Accuracy by class, in numbers"),
    answer=probe,
    rule=f"The probe reaches {share(TARGET)} where its whole interval lies at or above that.",
)
