"""The files of an artifact from W&B, within limits: what its server says is hostile until it is checked.

W&B's own download has no limit of time or bytes, so that it gives the manifest and the addresses alone.
"""

import base64
import binascii
import hashlib
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from train.tracking.declarations import check_path
from train.tracking.problem import Problem
from train.tracking.store.records import File, manifest_digest

T = TypeVar("T")

SECONDS = 120  # for an artifact, besides its bytes
BYTES_A_SECOND = 50_000  # slower than that, a connection counts as lost
SILENCE = 30  # seconds without a byte
RETRIES = 4  # of a request that the server fails


def download(artifact: Any, name: str, digest: str, folder: Path, headers: Mapping[str, str]) -> None:
    """Writes the files of W&B's `artifact` into the new `folder`. name: what messages call it; digest: as its server named it.

    Raises Problem, and leaves nothing, where the manifest is not of that digest or names what it does not hold, where a file is
    not what the manifest says, or where the server is too slow.
    """
    manifest = within(SECONDS, f"the manifest of {name}", lambda stop: artifact.manifest)
    files = {path: _content(path, entry, name) for path, entry in manifest.entries.items()}
    if (other := manifest_digest(files)) != digest:
        raise Problem(
            f"W&B names {name} with digest {digest} and a manifest of digest {other}; run the same command again"
        )
    size = sum(content.size for content in files.values())
    folder.mkdir()
    try:
        if size > (free := shutil.disk_usage(folder).free):
            raise Problem(f"{name} has {size:,} bytes, and the disk {free:,}; free some space and run again")
        within(patience(size), name, lambda stop: _write_all(artifact, files, folder, headers, stop))
    except BaseException:
        shutil.rmtree(folder)
        raise


def patience(size: int) -> float:
    """The seconds after which so many bytes count as lost."""
    return SECONDS + size / BYTES_A_SECOND


def within(seconds: float, what: str, body: Callable[[threading.Event], T]) -> T:
    """What `body(stop)` returns. Raises Problem once it takes longer: it is left in a thread that ends with the process, and
    told to stop."""
    stop = threading.Event()
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(body(stop))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        thread.join(seconds)
    finally:
        stop.set()
    if errors:
        raise errors[0]
    if not results:
        raise Problem(f"W&B did not give {what} within {seconds:.0f} s; run the same command again")
    return results[0]


def _content(path: str, entry: Any, name: str) -> File:
    """What an entry of the manifest says of a file. Raises Problem where it is none of ours."""
    check_path(path, name)
    if entry.ref is not None:
        raise Problem(
            f"{name} refers to {entry.ref!r} instead of holding {path!r}; log the file itself (nothing was written)"
        )
    try:
        md5 = base64.b64decode(entry.digest, validate=True)
    except (binascii.Error, ValueError):
        md5 = b""
    if len(md5) != 16:
        raise Problem(f"{name} has no MD5 of {path!r} but {entry.digest!r}; name another version (nothing was written)")
    return File(md5.hex(), entry.size or 0)  # W&B's client leaves out the size of an empty file


def _write_all(
    artifact: Any, files: Mapping[str, File], folder: Path, headers: Mapping[str, str], stop: threading.Event
) -> None:
    from requests import Session
    from requests.adapters import HTTPAdapter
    from urllib3.util.retry import Retry

    with Session() as session:
        session.headers.update(headers)
        retry = Retry(RETRIES, backoff_factor=0.5, status_forcelist=(408, 429, 500, 502, 503, 504))
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=retry))
        for path, content in files.items():
            if stop.is_set():
                return
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            _write(session, _address(artifact, path, stop), target, content, stop)


def _address(artifact: Any, path: str, stop: threading.Event) -> str:
    """Where W&B says that a file is; its addresses hold for a while alone. Should it call none as the manifest does, its first."""
    addresses: list[str] = []
    for entry in artifact.files(names=[path]):
        if entry.name == path:
            return str(entry.direct_url)
        addresses = addresses or [str(entry.direct_url)]
        if stop.is_set():
            break
    if not addresses:
        raise Problem(f"W&B has no file {path!r}, which the manifest names; run the same command again")
    return addresses[0]


def _write(session: Any, url: str, target: Path, content: File, stop: threading.Event) -> None:
    """Writes no more than the bytes of `content`, and checks them."""
    digest = hashlib.md5(usedforsecurity=False)
    size = 0
    with session.get(url, stream=True, timeout=SILENCE) as response, target.open("xb") as file:
        response.raise_for_status()
        for piece in response.iter_content(1 << 16):
            size += len(piece)
            if size > content.size or stop.is_set():
                break
            digest.update(piece)
            file.write(piece)
    if File(digest.hexdigest(), size) != content:
        more = "more than " if size > content.size else ""
        raise Problem(
            f"{target.name} arrived with {more}{min(size, content.size)} bytes and not as the manifest says"
            f" ({content.size} bytes, MD5 {content.md5}); run the same command again"
        )
