import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from train.tracking.declarations import clean_name, reference
from train.tracking.problem import Problem

ROOT = Path(__file__).parents[3]

STAGE = '''
"""What the stage does."""

import dataclasses
from typing import Literal

from train.tracking import Command, Problem
from train.tracking.command import choice

@dataclasses.dataclass(frozen=True)
class Config:
    preset: str = "default"
    """which settings"""
    batch_size: int = 256
    """images a batch"""
    flag: bool = True
    """whether"""
    lr: float = 0.1
    """learning rate"""
    backbone: Literal["compact", "resnet18"] = "compact"
    """architecture"""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise Problem(f"--batch-size {self.batch_size} is below 1; give 1 or more")

PRESETS = {"default": Config(), "small": Config(preset="small", batch_size=32, lr=0.5)}

def configured(flags):
    return PRESETS[choice(flags, "preset", list(PRESETS))]

def main(config: Config) -> None:
    print(*dataclasses.astuple(config))

COMMAND = Command(main, configured)

if __name__ == "__main__":
    COMMAND.launch()
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "stage.py").write_text(STAGE)
    (tmp_path / "needs.py").write_text(
        STAGE.replace('    preset: str = "default"', "    images: str").partition("PRESETS")[0]
        + "def main(config: Config) -> None:\n    print(config.images)\n\nCommand(main, Config).launch()\n"
    )
    return tmp_path


def run(folder: Path, module: str, *flags: str) -> "subprocess.CompletedProcess[str]":
    code = (
        f"import sys; sys.path[:0] = [{str(folder)!r}, {str(ROOT)!r}]; sys.argv[1:] = {list(flags)!r}; import runpy; "
    )
    code += f"runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("flags", "values"),
    [
        ([], "default 256 True 0.1 compact"),
        (["--batch_size=64", "--flag=False", "--lr=0.01"], "default 64 False 0.01 compact"),  # W&B's agent
        (["--batch-size", "64", "--backbone", "resnet18"], "default 64 True 0.1 resnet18"),
        (["--preset", "small"], "small 32 True 0.5 compact"),
        (["--lr", "2", "--preset=small"], "small 32 True 2.0 compact"),
    ],
)
def test_flags_override_the_preset(folder: Path, flags: list[str], values: str) -> None:
    process = run(folder, "stage", *flags)
    assert (process.returncode, process.stderr, process.stdout) == (0, "", f"{values}\n")


@pytest.mark.parametrize(
    ("module", "flags", "parts"),
    [
        ("stage", ["--batch_sz=3"], ["no flag --batch-sz; did you mean --batch-size?"]),
        ("stage", ["--nothing", "1"], ["no flag --nothing"]),
        ("stage", ["stray"], ["stray"]),
        ("stage", ["--lr=abc"], ["--lr", "'abc'"]),
        ("stage", ["--flag"], ["--flag"]),
        ("stage", ["--flag=maybe"], ["--flag", "'maybe'", "'True', 'False'"]),
        ("stage", ["--backbone=vgg"], ["--backbone", "'vgg'", "'compact', 'resnet18'"]),
        ("stage", ["--preset", "huge"], ["'huge'", "default, small"]),
        ("stage", ["--preset"], ["default, small"]),
        ("stage", ["--batch-size=0"], ["--batch-size 0 is below 1; give 1 or more"]),
        ("needs", [], ["--images"]),
        ("needs", ["--images"], ["--images"]),
        ("needs", ["--imgaes", "x"], ["no flag --imgaes; did you mean --images?"]),
    ],
)
def test_a_wrong_flag_is_one_line_that_names_it(folder: Path, module: str, flags: list[str], parts: list[str]) -> None:
    process = run(folder, module, *flags)
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr.startswith(f"{module}: ")
    assert process.stderr.count("\n") == 1
    assert not set("│╭╰─") & set(process.stderr)
    for part in parts:
        assert part in process.stderr


def test_help_tells_what_the_stage_and_each_flag_do(folder: Path) -> None:
    process = run(folder, "stage", "--help")
    assert (process.returncode, process.stderr) == (0, "")
    for text in ("What the stage does.", "images a batch", "{compact,resnet18}", "default: 256"):
        assert text in process.stdout
    assert "default: 32" in run(folder, "stage", "--preset", "small", "--help").stdout


@pytest.mark.parametrize("ignored", ["SIGINT", None])  # a shell's background jobs ignore SIGINT
def test_sigterm_stops_a_stage_as_ctrl_c_does(folder: Path, ignored: str | None) -> None:
    body = """
        import os, signal, sys
        if {ignored!r}:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        from train.tracking.command import answer
        def body():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                signal.pause()
            finally:
                print("tidied up")
        answer("stage", body)
    """
    code = textwrap.dedent(body).format(ignored=ignored)
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (process.returncode, process.stdout) == (130, "tidied up\n")
    assert process.stderr.count("\n") == 1


def test_a_full_disk_is_one_line_and_another_error_keeps_its_traceback() -> None:
    code = "from train.tracking.command import answer\ndef body():\n    open('/dev/full', 'w').write('x' * 99999)\n"
    process = subprocess.run(
        [sys.executable, "-c", code + "answer('stage', body)"], capture_output=True, text=True, cwd=ROOT
    )
    assert (process.returncode, process.stderr.count("\n")) == (2, 1)
    assert "No space left on device; free some space" in process.stderr
    code = "from train.tracking.command import answer\nanswer('stage', lambda: open('/nowhere/at/all'))"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert process.returncode == 1
    assert "Traceback" in process.stderr


PRINTS = """
import io, os, sys
from tqdm import tqdm
from train.tracking.command import answer
from train.tracking.problem import Problem
def body():
    for _ in tqdm(range(3), file=sys.stderr, mininterval=0):
        print("x" * 100_000, flush=True)
    with open(sys.argv[1], "x") as file:  # its number is none of a standard stream
        assert file.fileno() > 2
        file.write("done")
    if sys.argv[2]:
        raise Problem(sys.argv[2])
    print("the last line")
answer("stage", body)
"""


@pytest.mark.parametrize(
    "streams", ["| true", "| head -1 >/dev/null", "2>&1 | true", ">&-", "2>&-", "<&- >&- 2>&-", "2>&- | true"]
)
@pytest.mark.parametrize(("problem", "code"), [("", 0), ("bad input", 2)])
def test_streams_that_nobody_reads_end_nothing(streams: str, problem: str, code: int, tmp_path: Path) -> None:
    shell = f'"$0" -c "$1" "$2" "$3" {streams}; exit ${{PIPESTATUS[0]}}'
    command = ["bash", "-c", shell, sys.executable, PRINTS, str(tmp_path / "file"), problem]
    process = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert process.returncode == code
    assert (tmp_path / "file").read_text() == "done"
    assert "Traceback" not in process.stderr and "Exception ignored" not in process.stderr


@pytest.mark.parametrize("flush", ["", ", flush=True"])
def test_a_full_disk_under_the_output_is_one_line(flush: str) -> None:
    code = f"from train.tracking.command import answer\nanswer('stage', lambda: print('x'{flush}))"
    with Path("/dev/full").open("w") as full:
        process = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=-1, text=True, cwd=ROOT)
    assert process.returncode == 2 and process.stderr.count("\n") == 1
    assert "No space left on device; free some space" in process.stderr


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("encoder:digits-vicreg", None, ("encoder", "digits-vicreg")),
        ("encoder", None, ("encoder", "latest")),
        ("digits-vicreg", "encoder", ("encoder", "digits-vicreg")),
        ("encoder:v3", "encoder", ("encoder", "v3")),
    ],
)
def test_reference_reads_name_and_alias(text: str, name: str | None, expected: tuple[str, str]) -> None:
    assert reference(text, name) == expected


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("../x", None), ("x:../y", None), ("x:", None), (":x", None), ("", None), ("a/b", None), ("-x", None), ("a:b:c", None),
        ("a b", None), ("x\n", None), ("ä", None), ("probe:x", "encoder"), ("", "encoder"), ("..", "encoder"),
    ],
)  # fmt: skip
def test_a_bad_reference_is_refused(text: str, name: str | None) -> None:
    with pytest.raises(Problem):
        reference(text, name)


@pytest.mark.parametrize("text", ["Müller's photos (2)", "..hidden", "a/b\\c", "plain-1.0_x", "-" * 5 + "x", "x" * 300])
def test_a_cleaned_name_can_be_an_alias(text: str) -> None:
    assert reference(clean_name(text), "images") == ("images", clean_name(text))


def test_a_log_on_the_full_disk_changes_no_exit_code() -> None:
    code = (
        "from train.tracking.command import answer\nanswer('stage', lambda: open('/dev/full', 'w').write('x' * 99999))"
    )
    with Path("/dev/full").open("w") as full:
        process = subprocess.run([sys.executable, "-c", code], stderr=full, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert (process.returncode, process.stdout) == (2, "")
