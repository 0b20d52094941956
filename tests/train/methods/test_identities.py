"""What a command line of train.pretrain is called, and what it is reused by, for ever: results that users have stay theirs."""

import shlex

import pytest

from train import pretrain
from train.methods.variants import variant_name
from train.tracking.origin import digest_of, identity, settings

# Flags; the variant's name on CIFAR-10 and on the digits; the digest of the identity, and the settings hash, on CIFAR-10.
COMMANDS = (
    ("", "cifar10-vicreg", "digits-vicreg-default", "31df519afd340d4f", "8b8b2f8824324f51"),
    ("--preset default", "cifar10-vicreg", "digits-vicreg-default", "31df519afd340d4f", "8b8b2f8824324f51"),
    ("--preset default --views neighbors", "cifar10-vicreg-neighbors", "digits-vicreg-default-neighbors", "cc89648bebd8a720", "6788c1d640151e00"),
    ("--preset compact", "cifar10-vicreg-compact", "digits-vicreg-compact", "4357aae673adc020", "03e2ea5970c8bcd6"),
    ("--preset compact --views neighbors", "cifar10-vicreg-compact-neighbors", "digits-vicreg-compact-neighbors", "db18efa329a3ec84", "5c9d82aad9876ba2"),
    ("--preset small", "cifar10-vicreg-small", "digits-vicreg", "0588f005d32017a6", "e1ad7e4d010b0146"),
    ("--preset small --views neighbors", "cifar10-vicreg-small-neighbors", "digits-vicreg-neighbors", "461dcf9c06ecaa94", "91acce426ea416ec"),
    ("--preset exercise", "cifar10-vicreg-exercise", "digits-vicreg-exercise", "5fbdd8e6f2d73d58", "ca0bb02576347f87"),
    ("--preset exercise --views neighbors", "cifar10-vicreg-exercise-neighbors", "digits-vicreg-exercise-neighbors", "71c0d7f81d78f098", "97d8c7e6ddcce230"),
    ("--seed 3", "cifar10-vicreg", "digits-vicreg-default", "f06e7e8532f0d865", "3e2fdb4b2d5f02d7"),
    ("--epochs 0", "cifar10-untrained", "digits-untrained-default", "6832e8bab5abfdb9", "6e499937903c9c17"),
    ("--epochs 7", "cifar10-vicreg-dac5d8", "digits-vicreg-default-dac5d8", "a2fa9578a4cd6a0e", "dd76c168565dde54"),
    ("--variance 0", "cifar10-vicreg-variance0", "digits-vicreg-default-variance0", "d7590429a022f3aa", "4b795e617d7a22fb"),
    ("--invariance 0", "cifar10-vicreg-invariance0", "digits-vicreg-default-invariance0", "03beeb36b8c18ba8", "d0aa874996f92fa8"),
    ("--covariance 0", "cifar10-vicreg-covariance0", "digits-vicreg-default-covariance0", "860dabbff40991cc", "45630193a1c6b134"),
    ("--variance 0 --covariance 0", "cifar10-vicreg-variance0-covariance0", "digits-vicreg-default-variance0-covariance0", "fd3adc9953e7a01e", "096db202835d31ec"),
    ("--covariance 0.04", "cifar10-vicreg-covariance0.04", "digits-vicreg-default-covariance0.04", "d8102f757a6f63d3", "6acc821071555170"),
    ("--without crop", "cifar10-vicreg-crop0", "digits-vicreg-default-crop0", "eead089836e94ac8", "c3ecf622a22b2e9a"),
    ("--without flip", "cifar10-vicreg-flip0", "digits-vicreg-default-flip0", "65812669e64c8e21", "10a69dff318fcd1a"),
    ("--without jitter", "cifar10-vicreg-jitter0", "digits-vicreg-default-jitter0", "022bffa53a76aa8d", "534a16bde125dc91"),
    ("--without grayscale", "cifar10-vicreg-grayscale0", "digits-vicreg-default-grayscale0", "f22e205b31062504", "650339fce81216e7"),
    ("--without blur", "cifar10-vicreg", "digits-vicreg-default", "2cb1010f081a7e66", "be705d1eca6ceeec"),
    ("--without solarize", "cifar10-vicreg", "digits-vicreg-default", "71bf7d818ce9300c", "56a5e7c885311553"),
    ("--jitter 0", "cifar10-vicreg-jitter0", "digits-vicreg-default-jitter0", "4c3c8344ade13072", "e278035738a4ece5"),
    ("--hue 0.5", "cifar10-vicreg-hue0.5", "digits-vicreg-default-hue0.5", "e29905ae8d0084d6", "29b1a2f8d8e14890"),
    ("--brightness 0.1", "cifar10-vicreg-brightness0.1", "digits-vicreg-default-brightness0.1", "5f646854db7e348b", "a0337425bc248cff"),
    ("--contrast 0", "cifar10-vicreg-contrast0", "digits-vicreg-default-contrast0", "b5ed20193d42e65a", "19a2946c7f39a648"),
    ("--saturation 0.8", "cifar10-vicreg-saturation0.8", "digits-vicreg-default-saturation0.8", "7ae430ee7e5e90ff", "c2f5b263d5c1aca8"),
    ("--grayscale 1", "cifar10-vicreg-grayscale1", "digits-vicreg-default-grayscale1", "304685b4b94ed0e0", "0313e6dd171e2e39"),
    ("--solarize 0.2", "cifar10-vicreg-solarize0.2", "digits-vicreg-default-solarize0.2", "5207807439b70429", "8bd94efa6045c1ad"),
    ("--blur 0.5", "cifar10-vicreg-blur0.5", "digits-vicreg-default-blur0.5", "968cb33f43dd7fe5", "a8cdafb899030bf7"),
    ("--backbone compact", "cifar10-vicreg-compact", "digits-vicreg-default-compact", "6eb7614f7e152011", "ee7846551bb0f94e"),
    ("--backbone resnet18", "cifar10-vicreg-resnet18", "digits-vicreg-default-resnet18", "e235ce80414bf48c", "4da3448a1a59525d"),
    ("--backbone fourconv --epochs 0", "cifar10-untrained-fourconv", "digits-untrained-default-fourconv", "1155e1ceedfe1635", "fb32393963c5d113"),
    ("--grid 3", "cifar10-vicreg-grid3", "digits-vicreg-default-grid3", "c3bc05679156f3fb", "0b853c79b73f5c57"),
    ("--grid 3 --epochs 0", "cifar10-untrained-grid3", "digits-untrained-default-grid3", "befdd0026c239fd7", "8b924211a4089f6a"),
    ("--preset gpu", "cifar10-vicreg-gpu", "digits-vicreg-gpu", "692d06b6facae7d3", "f3f222757c9cf509"),
    ("--width 96 --epochs 12", "cifar10-vicreg-ed2e76", "digits-vicreg-default-ed2e76", "e6d74dcae63281bd", "3dbd671cbfa31531"),
    ("--hidden 512", "cifar10-vicreg-92fb4f", "digits-vicreg-default-92fb4f", "b6572db77edeed4c", "f1f0d2e18631d1e7"),
    ("--dimension 64", "cifar10-vicreg-252334", "digits-vicreg-default-252334", "9825e94bf10ca219", "273598da201ce770"),
    ("--projector-width 2048", "cifar10-vicreg-projector2048", "digits-vicreg-default-projector2048", "24eb830b48ca448e", "1541e1a30146f28c"),
    ("--projector-layers 2", "cifar10-vicreg-c3aa98", "digits-vicreg-default-c3aa98", "a292db8716efd4cb", "118528a1ac0f22ed"),
    ("--view-count 2", "cifar10-vicreg-bd8717", "digits-vicreg-default-bd8717", "70fc0f6aa4d3a3d3", "091a7aa1f972de51"),
    ("--view-size 32", "cifar10-vicreg-7ffa63", "digits-vicreg-default-7ffa63", "c6c8c721c7e91dff", "3521bdf687ff1149"),
    ("--view-size 0", "cifar10-vicreg-205467", "digits-vicreg-default-205467", "56dfdfb4fb6f657a", "b89b9606bf528f62"),
    ("--crop-smallest 0.08 --crop-largest 1", "cifar10-vicreg-091ca3", "digits-vicreg-default-091ca3", "9625427de8bffae2", "f5d72c351a2fd2fe"),
    ("--crop-smallest 1 --crop-largest 1", "cifar10-vicreg-crop0", "digits-vicreg-default-crop0", "9bd6a0084a30234f", "1242f0836f7b33f1"),
    ("--crop-ratio 1.5", "cifar10-vicreg-68eb29", "digits-vicreg-default-68eb29", "b426cb564895b3f6", "1112d5aad99851bb"),
    ("--optimizer adamw", "cifar10-vicreg-e0b29c", "digits-vicreg-default-e0b29c", "bf78623fb375981e", "bf9f67164a5ab998"),
    ("--optimizer adam", "cifar10-vicreg-dfae21", "digits-vicreg-default-dfae21", "8b86461b91dd0708", "cd83e5a42408edbc"),
    ("--learning-rate 0.01", "cifar10-vicreg-655528", "digits-vicreg-default-655528", "7a3f1cb973663742", "295a74adf792a3ab"),
    ("--muon-rate 0.05", "cifar10-vicreg-8f6369", "digits-vicreg-default-8f6369", "ab7d8efbf0aa84d8", "950222b10e8d3267"),
    ("--weight-decay 0", "cifar10-vicreg-f56e1d", "digits-vicreg-default-f56e1d", "e9f3312d6d36f708", "34ba6119f08e53bc"),
    ("--warmup 0", "cifar10-vicreg-0ef9ac", "digits-vicreg-default-0ef9ac", "622b58e637b08a08", "dce16ea5eede7e69"),
    ("--schedule constant", "cifar10-vicreg-5af22f", "digits-vicreg-default-5af22f", "6a2eb624beeadc9e", "74afef6af04d4d02"),
    ("--device cpu", "cifar10-vicreg", "digits-vicreg-default", "31df519afd340d4f", "8b8b2f8824324f51"),
    ("--compile True", "cifar10-vicreg", "digits-vicreg-default", "31df519afd340d4f", "8b8b2f8824324f51"),
    ("--precision float32", "cifar10-vicreg-005417", "digits-vicreg-default-005417", "613f40b5dfd11caa", "e1820ae80fcbac3f"),
    ("--precision bfloat16", "cifar10-vicreg-ad1807", "digits-vicreg-default-ad1807", "afa494764e97e787", "3d789bcad43b3691"),
    ("--batch-size 256", "cifar10-vicreg-0db006", "digits-vicreg-default-0db006", "37dceff40ee20db6", "a62db895472d13bf"),
    ("--views neighbors --nearest 5", "cifar10-vicreg-neighbors-nearest5", "digits-vicreg-default-neighbors-nearest5", "c41b2f5317883887", "69fa3022c1bc6287"),
    ("--views neighbors --neighbors cifar10-vicreg", "cifar10-vicreg-neighbors", "digits-vicreg-default-neighbors-c4b50c", "7278052bcc6a5823", "478b78e0b2d7b0b5"),
    ("--views neighbors --neighbors cifar10-vicreg-s0", "cifar10-vicreg-neighbors", "digits-vicreg-default-neighbors-d36dd8", "0fe5a6da4d7f86e5", "388cc656fb72dfc4"),
    ("--views neighbors --neighbors cifar10-patches", "cifar10-vicreg-neighbors-95a317", "digits-vicreg-default-neighbors-95a317", "f1a981d5837ef039", "3e84d8450cd4b495"),
    ("--views neighbors --epochs 3 --variance 0", "cifar10-vicreg-neighbors-variance0-543da7", "digits-vicreg-default-neighbors-variance0-543da7", "cfcad7831e845ae7", "83c72ed7c67fc8c8"),
    ("--views neighbors --flip 0.5", "cifar10-vicreg-neighbors-flip0.5", "digits-vicreg-default-neighbors-flip0.5", "ee3a81f83dd81b55", "cbb9f45e005f23cc"),
    ("--preset small --epochs 0", "cifar10-untrained-small", "digits-untrained", "7a40d41c893e981a", "5a1c579420d2a812"),
    ("--preset small --variance 0", "cifar10-vicreg-small-variance0", "digits-vicreg-variance0", "1a8afbab5705a393", "246360e0a14c4e6c"),
    ("--preset small --views neighbors --seed 2", "cifar10-vicreg-small-neighbors", "digits-vicreg-neighbors", "b9b6e60f80d0d3f4", "7c5808fccae2cada"),
    ("--preset exercise --without crop --seed 1", "cifar10-vicreg-exercise-crop0", "digits-vicreg-exercise-crop0", "fd498e0c4d5ca42d", "72a614eb503a4aaf"),
    ("--preset exercise --epochs 0 --backbone fourconv", "cifar10-untrained-exercise-fourconv", "digits-untrained-exercise-fourconv", "01e1b193373b5247", "4755950956fd0287"),
    ("--preset compact --width 8 --epochs 1 --batch-size 16", "cifar10-vicreg-compact-0557d7", "digits-vicreg-compact-0557d7", "2b760d8e49ed6a7c", "1ff8724c87eef544"),
    ("--flip=0.0 --variance=0.0 --view_count=2", "cifar10-vicreg-variance0-flip0-bd8717", "digits-vicreg-default-variance0-flip0-bd8717", "608e0e2848a1beac", "8847b378c174c359"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "name", "small", "same", "key"), COMMANDS, ids=[row[0] or "none" for row in COMMANDS]
)
def test_a_command_line_keeps_its_name_its_identity_and_its_settings_hash(
    flags: str, name: str, small: str, same: str, key: str
) -> None:
    config = pretrain.COMMAND.parse(["--images", "cifar10", *shlex.split(flags)])
    assert variant_name(config, "cifar10", 50_000) == name
    assert variant_name(pretrain.COMMAND.parse(["--images", "digits", *shlex.split(flags)]), "digits", 1_437) == small
    assert digest_of(identity(config)) == same
    assert settings("train.pretrain", config) == key
