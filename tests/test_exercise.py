"""The driver: it makes what is missing, reuses what is there, and says what became of each step."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from sweeps import exercise
from sweeps.exercise import Config, Exercise
from train.tracking import Problem, Stage
from train.tracking.store import Store, home

PHOTOS = ("train.prepare", "--dataset", "photos")


def test_a_step_is_made_once_reused_then_and_made_again_when_asked(capfd: pytest.CaptureFixture[str]) -> None:
    first = Exercise(fresh=False)
    version = first.make(*PHOTOS)["images"]
    assert "python -m train.prepare --dataset photos" in capfd.readouterr().out
    second = Exercise(fresh=False)
    assert second.make(*PHOTOS)["images"] == version
    fresh = Exercise(fresh=True)
    assert fresh.make(*PHOTOS)["images"].digest == version.digest  # the same content is the same version
    assert [run.steps[0].state for run in (first, second, fresh)] == ["made", "reused", "made"]
    assert len(Store().versions("images")) == 1


def test_other_settings_are_another_step() -> None:
    run = Exercise(fresh=False)
    run.make(*PHOTOS)
    run.make(*PHOTOS, "--size", "16")
    assert [step.state for step in run.steps] == ["made", "made"]
    assert run.make(*PHOTOS)["images"].aliases == ("latest", "photos")  # the alias is back at the 32 pixels
    assert [step.state for step in run.steps] == ["made", "made", "reused"]


def test_a_failed_step_is_named_with_its_command(capfd: pytest.CaptureFixture[str]) -> None:
    run = Exercise(fresh=False)
    with pytest.raises(Problem, match=r"train\.patches --images nothing.*exit code 2"):
        run.make("train.patches", "--images", "nothing")
    assert "no artifact 'images:nothing'" in capfd.readouterr().err
    assert run.table().splitlines()[-1] == "0 made, 0 reused, 1 failed"


def test_a_set_cannot_be_its_own_anomalies() -> None:
    with pytest.raises(Problem, match="ANOMALIES"):
        Config(dataset="digits", anomalies="digits")


def test_the_lab_book_is_replaced_as_a_whole(tmp_path: Path) -> None:
    with Stage("eval.report", Config()):
        pass  # makes the home
    page = tmp_path / "page.html"
    for text in ("old", "new"):
        page.write_text(text)
        assert exercise.place(page) == home() / "lab-book.html"
        assert (home() / "lab-book.html").read_text() == text
    assert [path.name for path in home().glob("*lab-book*")] == ["lab-book.html"]


def test_an_interrupted_driver_waits_until_its_stage_has_saved(tmp_path: Path) -> None:
    stage = textwrap.dedent(f"""
        import signal, time
        def save(number, frame):
            time.sleep(1)
            open({str(tmp_path / "saved")!r}, "w").close()
            raise SystemExit(130)
        signal.signal(signal.SIGINT, save)
        signal.signal(signal.SIGTERM, save)
        print("ready", flush=True)
        time.sleep(60)
    """)
    driver = f"import sys; from sweeps.exercise import run_to_its_end; sys.exit(run_to_its_end([sys.executable, '-c', {stage!r}]))"
    for number, to_all in ((signal.SIGINT, True), (signal.SIGTERM, False)):
        (tmp_path / "saved").unlink(missing_ok=True)
        process = subprocess.Popen([sys.executable, "-c", driver], stdout=subprocess.PIPE, start_new_session=True)
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        if to_all:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.send_signal(number)
        assert process.wait() == 130
        assert (tmp_path / "saved").exists()
        process.stdout.close()
