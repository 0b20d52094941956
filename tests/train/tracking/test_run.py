"""Every stage has a run of its own: one of them that which W&B's agent has started the program for."""

import json
import os
import re
import subprocess
import textwrap
from pathlib import Path

import pytest

from tests.loopback import Server
from tests.parts import processes
from tests.train.tracking.test_stage import Config, write
from train.tracking import Stage
from train.tracking.remote import OF_A_RUN
from train.tracking.store import Store, home


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> str:
    """What `wandb agent` sets for a trial's program. Returns the id of its run."""
    for name, value in {"WANDB_SWEEP_ID": "sweep1", "WANDB_RUN_ID": "trial1", "WANDB_DIR": str(home())}.items():
        monkeypatch.setenv(name, value)
    return "trial1"


def prepare(text: str) -> str:
    with Stage("train.prepare", Config()) as stage:
        stage.dataset = "digits"
        stage.log({"x": 1.0})
        stage.publish("images", write({"train": text}), {"dataset": "digits"})
        assert stage.run.id == stage.id
        assert stage.run.sweep_id == (os.environ.get("WANDB_SWEEP_ID") if stage.id == "trial1" else None)
    return stage.id


def ids() -> list[str]:
    """Of the runs in the registry, in their order."""
    store = Store()
    rows = [row["id"] for row in store.rows("SELECT id FROM runs ORDER BY rowid")]
    store.close()
    return rows


def test_the_first_stage_has_the_agents_run_and_the_others_their_own(agent: str) -> None:
    runs = [prepare(text) for text in ("one", "two", "three")]
    assert runs == ids() and runs[0] == agent and len(set(runs)) == 3
    assert len(list((home() / "wandb").glob("offline-run-*"))) == 3


def test_a_stage_that_failed_has_left_the_agents_run_to_the_next(agent: str) -> None:
    with pytest.raises(ZeroDivisionError), Stage("train.prepare", Config()) as stage:
        assert stage.id == agent
        stage.log({"x": 1.0})
        raise ZeroDivisionError
    assert prepare("one") == agent and prepare("two") != agent


def test_two_stages_at_once_have_two_runs(agent: str) -> None:
    with Stage("train.prepare", Config()) as first:
        second = prepare("two")
        assert first.id == agent != second
        first.dataset = "digits"
        first.publish("images", write({"train": "one"}), {"dataset": "digits"})
    assert ids() == [second, agent]
    store = Store()
    assert list(store.scratch.iterdir()) == []
    store.close()


@pytest.mark.parametrize("setting", ["WANDB_RESUME=must", "WANDB_RESUME_FROM=a?_step=3", "WANDB_FORK_FROM=a?_step=3"])
def test_without_an_agent_a_run_is_no_other_ones(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, _, value = setting.partition("=")
    assert name in OF_A_RUN
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("WANDB_RUN_ID", "a")
    runs = [prepare("one"), prepare("two")]
    assert "a" not in runs and runs == ids()


KILLED = textwrap.dedent("""
    import os, signal, time
    from pathlib import Path
    from tests.train.tracking.test_stage import Config
    from train.tracking import Stage
    from train.tracking.command import answer

    def main():
        with Stage("train.prepare", Config()) as stage:
            stage.dataset = "digits"
            stage.log({"x": 1.0})
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                words = path.read_bytes().split(b"\\0")
                if words[0].endswith(b"wandb-core") and str(os.getpid()).encode() in words:
                    os.kill(int(path.parent.name), signal.SIGKILL)
            for _ in range(500):
                stage.log({"x": 1.0})
                time.sleep(0.01)

    answer("train.prepare", main)
""")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks for the client in /proc")  # noqa: PTH112
def test_a_client_that_was_killed_is_one_line() -> None:
    alone = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}  # with a client of its own
    process = processes.run("-c", KILLED, env=alone)
    assert process.returncode == 2
    (line,) = process.stderr.splitlines()
    assert "W&B's client takes this run's record no more" in line and "run the same command again" in line
    assert Store().versions() == []


# -- at W&B ------------------------------------------------------------------------------------------------------------

AS_MAKE_RUN = """
from sweeps.make import run_stage, run_to_its_end
raise SystemExit(run_to_its_end(run_stage, "train.prepare", ["--dataset", "digits", "--name", "figures"], "peel"))
"""
RESUMED = textwrap.dedent("""
    import os, signal
    from tests.parts.artifacts import publish_images
    from tests.train.engine.test_loop import TINY, dots
    from train import pretrain
    from train.engine.loop import Training

    publish_images(dots())
    step = Training._train_step

    def interrupting(self):
        if self.step == 13:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self)

    Training._train_step = interrupting
    try:
        pretrain.main(TINY)
    except KeyboardInterrupt:
        Training._train_step = step
        pretrain.main(TINY)
""")


def at_loopback(script: str, home: Path) -> tuple[Server, "subprocess.CompletedProcess[str]"]:
    """What a script's stages leave at the server, which has stopped, and what it printed."""
    alone = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    with Server() as server:
        environment = {**alone, **server.environment, "PEEL_HOME": str(home)}
        process = processes.run("-c", script, env=environment)
    assert process.returncode == 0, process.stderr
    assert server.unhandled == []
    return server, process


def test_a_run_at_wandb_says_by_itself_what_it_was(peel_home: Path) -> None:
    """Started as the driver starts it, whose own command line W&B's client would record."""
    server, process = at_loopback(AS_MAKE_RUN, peel_home)
    (run,) = server.state.runs.values()
    record = json.loads(run.files["wandb-metadata.json"])
    assert (record["program"], record["args"]) == ("-m train.prepare", ["--dataset", "digits", "--name", "figures"])
    assert run.tags == ["figures", "peel"]
    finding, reference, url = process.stdout.splitlines()
    assert (
        run.notes == finding == "images:figures: digits as it comes: 1,437 training and 360 test images of 10 classes"
    )
    assert re.fullmatch(r"images:v0  figures  [0-9a-f]{32}  new", reference)
    assert url == f"{server.base}/loopback/peel/runs/{run.name}"
    config = {name: entry["value"] for name, entry in json.loads(run.config).items()}
    about = {"dataset": "figures", "study": "peel", "flag/dataset": "digits", "size": 32}
    assert {name: config[name] for name in about} == about
    assert ("diff.patch" in run.files) == config["revision"].endswith("-dirty")


def test_a_training_that_was_interrupted_goes_on_in_its_run(peel_home: Path) -> None:
    server, _ = at_loopback(RESUMED, peel_home)
    (run,) = (run for run in server.state.runs.values() if run.job_type == "train.pretrain")
    assert run.state == "finished"
    assert [row["_step"] for row in run.history] == list(range(len(run.history)))
    assert [row["batch"] for row in run.history if "loss/total" in row] == list(range(1, 19))
    assert [row["epoch"] for row in run.history if "knn/top1" in row] == [0, 1, 2, 3]
    assert [row["epoch"] for row in run.history if "pace/seconds" in row] == [1, 2, 3]
    summary = {name: value for name, value in json.loads(run.summary).items() if not name.startswith("_")}
    media = {name for name, value in summary.items() if isinstance(value, dict) and "_type" in value}
    assert all(isinstance(value, int | float | str) for name, value in summary.items() if name not in media)
    accuracies = [row["knn/top1"] for row in run.history if "knn/top1" in row]
    assert (summary["knn/top1"], summary["knn/top1/max"]) == (accuracies[-1], max(accuracies))
    assert not {"batch", "epoch", "optimizer/learning_rate"} & summary.keys()
    settings = {name: entry["value"] for name, entry in json.loads(run.config).items()}
    assert (settings["dataset"], settings["method"], settings["variant"][:11]) == ("dots", "vicreg", "dots-vicreg")
    assert run.notes and run.notes.startswith(f"training of {settings['variant']}: loss ")
