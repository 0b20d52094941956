"""Every study. A new one is its folder and its line here."""

from eval.labbook.study import Study
from eval.studies.peel.study import STUDY as PEEL
from eval.studies.reconstruction.study import STUDY as RECONSTRUCTION
from eval.studies.siamese.study import STUDY as SIAMESE
from train.tracking import Problem

STUDIES = {study.name: study for study in (PEEL, SIAMESE, RECONSTRUCTION)}
ALL = "all"  # which no study is called


def get_study(name: str) -> Study:
    """Raises Problem where there is none of this name."""
    if name not in STUDIES:
        names = "; ".join(f"{study.name} ({study.question})" for study in STUDIES.values())
        raise Problem(f"no study is called {name!r}; choose one of: {names}")
    return STUDIES[name]


def get_studies(name: str) -> tuple[Study, ...]:
    """The study of this name; every one for ALL."""
    return tuple(STUDIES.values()) if name == ALL else (get_study(name),)
