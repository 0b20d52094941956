"""What the commands, the gaps and the steps of a study are made of; and that the lab book knows no study."""

import ast
import dataclasses
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import eval.labbook
from eval.evidence.claims import Claims
from eval.evidence.maps import SMALLEST
from eval.evidence.retrieval import PER_QUERY
from eval.evidence.rules import Group, Inequality, Rule, Term
from eval.labbook.study import LEAST, Representation, absent, preset
from eval.studies.all import STUDIES, get_study
from eval.studies.peel.study import STUDY
from tests.parts.artifacts import refusal
from train.methods.variants import default_preset, variant_name
from train.tracking import stage_command
from train.tracking.declarations import declaration

FOLDER = Path(eval.labbook.__file__).parent


def test_chapters_speak_of_representations_of_their_study_and_read_what_it_evaluates() -> None:
    for study in STUDIES.values():
        numbers = [chapter.number for chapter in study.chapters]
        assert numbers == sorted(set(numbers)) and 0 not in numbers
        assert study.subject in study.by_name
        for chapter in study.chapters:
            assert set(chapter.representations) <= set(study.by_name), chapter.title
            artifacts = {panel.artifact for panel in chapter.panels} | {m.artifact for m in chapter.measures}
            assert artifacts <= set(study.scores), chapter.title


@pytest.mark.parametrize(("count", "size"), [(1_000, 16), (1_000, 32), (50_000, 16), (50_000, 32)])
def test_a_representation_that_is_trained_bears_the_name_of_its_variant(count: int, size: int) -> None:
    """`make run` goes on by the variant's name, the page and the claims by the representation's."""
    for study in STUDIES.values():
        for one in study.representations:
            if one.makes("training"):
                stage, *words = one.words({"images": "x"}, preset=default_preset(count, size), seed=0)
                assert variant_name(stage_command(stage).parse(words), "x", count, size) == f"x-{one.name}"


def test_the_preset_is_that_for_the_number_of_images_and_their_size() -> None:
    sets = {(9_999, 16): "tiny", (9_999, 17): "small", (10_000, 16): "default", (10_000, 32): "default"}
    for (count, size), name in sets.items():
        assert preset(np.zeros((count, size, size, 3), np.uint8)) == name


def test_claims_are_about_representations_and_scores_of_their_study() -> None:
    for study in STUDIES.values():
        assert study.claims is not None
        for claim in Claims.load(study.claims, study.questions).claims:
            assert {variant for _, variant in claim.panels} <= set(study.by_name), claim.id
            assert {path.partition("/")[0] for path, _ in claim.panels} <= set(study.scores), claim.id
            for term in terms(claim.rule):
                assert term.variant in study.by_name, (claim.id, str(term))


def terms(rule: Rule) -> list[Term]:
    if isinstance(rule, Group):
        return [term for part in rule.parts for term in terms(part)]
    return list(rule.terms) if isinstance(rule, Inequality) else []


def test_each_evaluation_of_a_study_is_declared_with_its_command() -> None:
    for study in STUDIES.values():
        for name in study.evaluations:
            declared = declaration(name)
            assert declared.command and declared.type == "scores" and "variant" in declared.fields


def test_what_a_representation_lacks_follows_from_what_its_stage_makes() -> None:
    reasons = {
        (artifact, representation.name): reason
        for representation in STUDY.representations
        for artifact in STUDY.scores
        if (reason := absent(artifact, representation.stage))
    }
    assert reasons == {
        ("anomaly", "eigenmaps"): "transductive",
        ("training", "eigenmaps"): "not trained",
        ("training", "pixels"): "not trained",
        ("training", "patches"): "not trained",
    }


def test_the_steps_after_an_encoder_embed_it_and_make_what_evaluations_need_before_them() -> None:
    steps = [step.split()[0] for step in STUDY.steps(STUDY.by_name["vicreg"])]
    assert steps == [
        *("eval.embed", "eval.index", "eval.probe", "eval.project", "eval.retrieve", "eval.cluster"),
        *("eval.embed", "eval.anomaly"),
    ]
    without_encoder = [step.split()[0] for step in STUDY.steps(STUDY.by_name["eigenmaps"])]
    assert without_encoder == ["eval.index", "eval.probe", "eval.project", "eval.retrieve", "eval.cluster"]
    probe_alone = dataclasses.replace(STUDY, evaluations=("probe",))
    assert [step.split()[0] for step in probe_alone.steps(STUDY.by_name["vicreg"])] == ["eval.embed", "eval.probe"]
    assert not probe_alone.asks_for_anomalies and probe_alone.scores == ("training", "probe")
    other = dataclasses.replace(STUDY.by_name["vicreg"], flags={"probe": "--seed 1", "cluster": "--k 3"})
    flags = [step for step in probe_alone.steps(other) if step.endswith("--seed 1") or "--k" in step]
    assert flags == ["eval.probe --embeddings {variant} --seed 1"]


def test_a_variant_with_other_settings_is_of_the_representation_whose_name_it_begins_with() -> None:
    for name, nearest in (("vicreg-variance0", "vicreg-variance0"), ("vicreg-variance0-1a2b3c", "vicreg-variance0"),
                          ("vicreg-compact", "vicreg"), ("eigenmaps-k5-pixels", "eigenmaps")):  # fmt: skip
        representation = STUDY.nearest(name)
        assert representation and representation.name == nearest
    assert STUDY.nearest("byol") is None and STUDY.nearest("vicregs") is None


def test_a_command_takes_preset_and_seed_where_its_stage_has_them_and_it_names_none() -> None:
    aliases = {"images": "digits", "untrained": "digits-untrained-s1"}
    flags = {"preset": "small", "seed": 1}
    words = [
        " ".join(STUDY.by_name[name].words(aliases, **flags)) for name in ("vicreg-variance0", "eigenmaps", "patches")
    ]
    assert words == [
        "train.pretrain --images digits --variance 0 --preset small --seed 1",
        "train.eigenmaps --embeddings digits-untrained-s1",
        "train.patches --images digits --kind patches --seed 1",
    ]
    own = Representation("compact", "train.pretrain --images {images} --preset compact", "the compact one")
    assert own.words(aliases, **flags)[1:] == ("--images", "digits", "--preset", "compact", "--seed", "1")


def test_results_of_the_default_study_are_called_by_the_data_set_alone_and_others_by_their_name_too() -> None:
    other = dataclasses.replace(STUDY, name="other", default=False)
    assert [study.alias("digits") for study in (STUDY, other)] == ["digits", "digits-other"]
    assert " ".join(other.deciding("digits")) == "eval.claims --compare digits-other --study other"
    assert " ".join(STUDY.reporting(["a", "b"], "photos")) == "eval.report --variants a b --anomalies photos"
    assert " ".join(other.comparing(["a"], None)) == "eval.compare --variants a --study other"
    assert [study.name for study in STUDIES.values() if study.default] == ["peel"]


def test_images_too_few_for_an_evaluation_are_refused_and_just_enough_are_not() -> None:
    assert LEAST == {"retrieve": (PER_QUERY + 1, 0), "project": (0, SMALLEST)}
    train, test = np.arange(6) % 3, np.arange(4) % 3
    STUDY.check_counts("x", train, test)
    assert "5 training images, and eval.retrieve needs 6" in refusal(lambda: STUDY.check_counts("x", train[:5], test))
    assert "3 test images, and eval.project needs 4" in refusal(lambda: STUDY.check_counts("x", train, test[:3]))
    assert "two images of a class" in refusal(lambda: STUDY.check_counts("x", np.arange(6), test))
    dataclasses.replace(STUDY, evaluations=("cluster",)).check_counts("x", train[:1], test[:1])


@pytest.mark.parametrize("stage", ["eval.compare", "eval.claims", "eval.report", "sweeps.make"])
def test_a_study_that_there_is_not_is_refused_with_those_that_there_are(stage: str) -> None:
    required: dict[str, dict[str, Any]] = {
        "eval.compare": {"variants": ("a",)},
        "eval.report": {"variants": ("a",)},
        "eval.claims": {"compare": "a"},
    }
    module = importlib.import_module(stage)
    line = refusal(lambda: module.Config(**required.get(stage, {}), study="peeel"))
    assert line.startswith("no study is called 'peeel'; choose one of: peel")
    assert get_study("peel") is STUDY


def test_the_lab_book_spells_out_no_representation_and_no_study() -> None:
    """Also none that is a plain word besides, as pixels are (tests/train/engine/test_rooms.py has the others)."""
    names = {one.name for study in STUDIES.values() for one in study.representations} | set(STUDIES)
    for file in FOLDER.glob("*.py"):
        texts = {node.value for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Constant)}
        assert not names & texts, file.name
