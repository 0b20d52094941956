"""The driver: it makes what is missing, reuses what is there, and says what became of each step."""

import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from pathlib import Path

import pytest

from eval import report
from eval.evidence.measures import INSTANCES, PROBE
from eval.labbook.study import Representation, Study
from eval.studies import all as studies
from eval.studies.all import get_study
from sweeps import make
from sweeps.make import Config, Driver
from tests.parts.pictures import two_classes, write_folder
from train.tracking import Problem, stage_command
from train.tracking.store import Store, home
from train.tracking.store.records import Version


@pytest.fixture(autouse=True)
def server() -> Iterator[None]:
    """A process to fork from that has this test's environment and output."""
    yield
    forkserver._forkserver._stop()  # type: ignore[attr-defined]  # as CPython's own tests do


@pytest.fixture
def few_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    """What train.prepare needs is loaded ahead, and not the ten seconds that all stages need."""
    monkeypatch.setattr(make, "PRELOADED", ["train.prepare", "wandb"])


PHOTOS = ("train.prepare", "--dataset", "photos")


@pytest.mark.usefixtures("few_imports")
def test_a_step_is_made_once_reused_then_and_made_again_when_asked(capfd: pytest.CaptureFixture[str]) -> None:
    first = Driver(fresh=False)
    version = first.make(*PHOTOS)["images"]
    assert "python -m train.prepare --dataset photos" in capfd.readouterr().out
    second = Driver(fresh=False)
    assert second.make(*PHOTOS)["images"] == version
    fresh = Driver(fresh=True)
    assert fresh.make(*PHOTOS)["images"].digest == version.digest  # the same content is the same version
    assert [run.steps[0].state for run in (first, second, fresh)] == ["made", "reused", "made"]
    assert len(Store().versions("images")) == 1


@pytest.mark.usefixtures("few_imports")
def test_other_settings_are_another_step() -> None:
    run = Driver(fresh=False)
    run.make(*PHOTOS)
    run.make(*PHOTOS, "--size", "16")
    assert [step.state for step in run.steps] == ["made", "made"]
    assert run.make(*PHOTOS)["images"].aliases == ("latest", "photos")  # the alias is back at the 32 pixels
    assert [step.state for step in run.steps] == ["made", "made", "reused"]


def test_a_failed_step_is_named_with_its_command(capfd: pytest.CaptureFixture[str]) -> None:
    run = Driver(fresh=False)
    with pytest.raises(Problem, match=r"train\.patches --images nothing.*exit code 2"):
        run.make("train.patches", "--images", "nothing")
    assert "no artifact 'images:nothing'" in capfd.readouterr().err
    assert run.table().splitlines()[-1] == "0 made, 0 reused, 1 failed"


def test_a_set_cannot_be_its_own_anomalies() -> None:
    with pytest.raises(Problem, match="ANOMALIES"):
        Config(dataset="digits", anomalies="digits")


def test_a_set_may_be_the_anomalies_of_a_study_that_asks_for_none() -> None:
    assert not get_study("siamese").asks_for_anomalies
    Config(study="siamese", dataset="digits", anomalies="digits")
    with pytest.raises(Problem, match="ANOMALIES"):
        Config(study="all", dataset="digits", anomalies="digits")


def test_labels_are_left_out_of_a_set_that_is_named_at_every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Problem, match="--unlabeled True leaves out the labels of a --dataset"):
        Config(unlabeled=True)
    driver = Driver(fresh=False)
    calls: list[tuple[str, ...]] = []

    def note(*command: str) -> dict[str, Version]:
        calls.append(command)
        raise KeyboardInterrupt

    monkeypatch.setattr(driver, "make", note)
    for study in ("peel", "siamese"):  # as it comes, and at 16 pixels
        with pytest.raises(KeyboardInterrupt):
            make.run(driver, get_study(study), Config(study=study, dataset="digits", unlabeled=True))
    assert all("--unlabeled=True" in command for command in calls) and "--size=16" in calls[1]


def test_a_name_for_the_sets_of_all_studies_is_refused() -> None:
    with pytest.raises(Problem, match="--name birds would stand for the image sets of several studies"):
        Config(study="all", name="birds")
    Config(study="all", name="birds", dataset="digits")


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages run in this process, without the seconds that another one takes."""

    def here(body: Callable[..., None], stage: str, flags: list[str], study: str) -> int:
        stage_command(stage).run(flags)
        return 0

    monkeypatch.setattr(make, "run_to_its_end", here)


PIXELS = Representation("pixels", "train.patches --images {images} --kind pixels", "raw pixels", seedless=True)


def test_variants_of_which_nothing_is_measured_without_labels_are_not_compared(
    one_process: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = Representation("untrained", "train.pretrain --images {images} --epochs 0", "untrained")
    study = Study("peel", "What?", "untrained", (PIXELS, trained), ("probe",), (PROBE, INSTANCES), (), default=True)
    birds = write_folder(tmp_path / "birds", two_classes(each=8))
    for representations in ((PIXELS, trained), (PIXELS,)):
        there = dataclasses.replace(study, representations=representations)
        for module in (studies, make, report):
            monkeypatch.setattr(module, "STUDIES", {"peel": there})
        config = Config(dataset=str(birds), unlabeled=True)
        if trained in representations:
            make.main(config)
            lines = capsys.readouterr().out.splitlines()
            assert "birds is unlabeled; what needs labels is left out: eval.probe" in lines
            assert any(line.endswith("python -m eval.compare --variants birds-untrained") for line in lines)
            assert "Images told apart" in (home() / "lab-book.html").read_text()
        else:
            with pytest.raises(
                Problem, match="birds is unlabeled, and the study 'peel' measures nothing without labels"
            ):
                make.main(config)


def test_all_studies_are_made_of_one_set_and_share_what_they_have_in_common(
    one_process: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = Study("peel", "What?", "pixels", (PIXELS,), ("probe",), (PROBE,), (), default=True)
    two = dataclasses.replace(one, name="two", default=False)
    for module in (studies, make, report):
        monkeypatch.setattr(module, "STUDIES", {"peel": one, "two": two})
    birds = write_folder(tmp_path / "birds", two_classes(each=8))
    shared = ["train.prepare", "train.patches", "eval.embed", "eval.probe"]
    own = [("made", "eval.compare"), ("made", "eval.report")]
    for fresh in (False, True):
        make.main(Config(study="all", dataset=str(birds), fresh=fresh))
        *table, _, last = capsys.readouterr().out.rstrip().rpartition("\n\n")[2].splitlines()
        steps = [(step.split()[0], step.split()[5]) for step in table]
        assert steps == [*(("made", stage) for stage in shared), *own, *(("reused", stage) for stage in shared), *own]
        assert last == str(home() / "lab-book.html")
    assert all((home() / f"lab-book-{name}.html").is_file() for name in ("peel", "two"))
    rows = Path(last).read_text().count('data-variant="birds-pixels"')
    assert rows == 3  # of each study, and of the league


def test_an_interrupted_driver_waits_until_its_stage_has_saved(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        textwrap.dedent(f"""
            import signal, time
            def save(number, frame):
                time.sleep(1)
                open({str(tmp_path / "saved")!r}, "w").close()
                raise SystemExit(130)
            def body():
                signal.signal(signal.SIGINT, save)
                signal.signal(signal.SIGTERM, save)
                print("ready", flush=True)
                time.sleep(60)
        """)
    )
    (tmp_path / "driver.py").write_text(
        textwrap.dedent("""
            import sys
            import slow
            from sweeps import make
            if __name__ == "__main__":
                make.PRELOADED = []
                sys.exit(make.run_to_its_end(slow.body))
        """)
    )
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    for number, to_all in ((signal.SIGINT, True), (signal.SIGTERM, False)):
        (tmp_path / "saved").unlink(missing_ok=True)
        command = [sys.executable, str(tmp_path / "driver.py")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True, env=environment)
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        if to_all:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.send_signal(number)
        assert process.wait() == 130
        assert (tmp_path / "saved").exists()
        process.stdout.close()


def test_a_fork_server_that_was_killed_takes_nothing_with_it(tmp_path: Path) -> None:
    """Killed while a stage runs, between two, or as one starts; and where the path of its socket is too long for it."""
    (tmp_path / "bodies.py").write_text(
        textwrap.dedent(f"""
            import os, signal, sys, time
            def orphaned():
                signal.signal(signal.SIGTERM, lambda number, frame: (open({str(tmp_path / "saved")!r}, "w").close(), os._exit(0)))
                os.kill(os.getppid(), signal.SIGKILL)
                time.sleep(60)
            def sound():
                sys.exit(7)
        """)
    )
    (tmp_path / "driver.py").write_text(
        textwrap.dedent("""
            import os, signal, sys
            from multiprocessing import forkserver
            import bodies
            from sweeps import make
            if __name__ == "__main__":
                make.PRELOADED = []
                if len(sys.argv) > 1:
                    sys.exit(make.run_to_its_end(bodies.sound))
                print(make.run_to_its_end(bodies.orphaned), make.run_to_its_end(bodies.sound), flush=True)
                os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)
                print(make.run_to_its_end(bodies.sound), flush=True)
                forkserver._forkserver.connect_to_new_process = lambda descriptors: (_ for _ in ()).throw(EOFError())
                print(make.run_to_its_end(bodies.sound), flush=True)
        """)
    )
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, str(tmp_path / "driver.py")]
    process = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100)
    assert (process.stdout.split(), process.stderr) == ([str(make.UNTOLD), "7", "7", "7"], "")
    wait_for(tmp_path / "saved")
    (folder := tmp_path / ("x" * 100)).mkdir()
    environment["TMPDIR"] = str(folder)
    process = subprocess.run([*command, "sound"], capture_output=True, text=True, env=environment, timeout=100)
    assert (process.returncode, process.stderr) == (7, "")


def wait_for(path: Path) -> None:
    for _ in range(200):
        if path.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"no {path}")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (-signal.SIGKILL, "was killed"),
        (make.UNTOLD, "memory was short"),
        (2, "failed (exit code 2); mend that"),
        (1, "(exit code 1)"),
    ],
)
def test_how_a_stage_ended_is_said_with_what_helps(code: int, words: str) -> None:
    assert words in make.failure(code)


def test_what_is_loaded_ahead_starts_no_thread() -> None:
    """Forking a process with threads can leave a lock that nobody will open."""
    script = f"import importlib, threading; [importlib.import_module(name) for name in {make.PRELOADED!r}]; print(threading.active_count())"
    counted = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert counted.stdout == "1\n"


def test_the_first_figure_of_a_stage_loads_nothing_more() -> None:
    script = """
import importlib, sys, sweeps.make
for name in sweeps.make.PRELOADED:
    importlib.import_module(name)
modules = set(sys.modules)
from train.tracking.panels import figure
figure("accuracy", "epoch", "percent").to_json()
print(sorted(set(sys.modules) - modules))
"""
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"
