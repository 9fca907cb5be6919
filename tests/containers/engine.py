"""A Docker engine for the tests, and an image for them, where there is none and no registry.

    python tests/containers/engine.py -- <command>

runs a command with an engine: one that answers already, else Debian's own, installed and started
for the time of the command (as root on Debian). Where that cannot be the command runs without, and
the tests that need containers say so. The image is Debian with Python, made by ``debootstrap``
once and kept as a file in the user's cache folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

IMAGE = "headgate-test-base:1"
SUITE = "bookworm"
PACKAGES = {  # Debian's, and a program of each
    "docker.io": "dockerd",
    "debootstrap": "debootstrap",
    "iptables": "iptables",
    "docker-registry": "docker-registry",
}
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
# Tried one after the other: not every machine may change its firewall or stack file systems.
FLAGS = (
    (),
    ("--storage-driver=vfs",),
    ("--iptables=false", "--ip6tables=false", "--storage-driver=vfs"),
)
LEFT_OUT = ("usr/share/doc", "usr/share/locale", "usr/share/man", "var/lib/apt/lists")


def say(text: str) -> None:
    print(f"docker for tests: {text}", file=sys.stderr, flush=True)


def answers() -> bool:
    """Whether an engine is there; the client of this machine is not needed."""
    return _docker("version", "--format", "{{.Server.Version}}", quiet=True)


def _docker(*arguments: str, quiet: bool = False) -> bool:
    if shutil.which("docker") is None:
        return False
    output = subprocess.DEVNULL if quiet else None
    done = subprocess.run(["docker", *arguments], stdout=output, stderr=output, check=False)
    return done.returncode == 0


def has_image() -> bool:
    """Whether an engine answers that has the image of the tests."""
    return _docker("image", "inspect", IMAGE, quiet=True)


def containers_of(data: Path) -> list[str]:
    """The containers of a data folder, running or not; none without an engine."""
    if not answers():
        return []
    installation = hashlib.sha256(str(data.absolute()).encode()).hexdigest()[:12]
    label = f"label=io.headgate.installation={installation}"
    listed = subprocess.run(
        ["docker", "ps", "--all", "--quiet", "--filter", label],
        capture_output=True,
        text=True,
        check=True,
    )
    return listed.stdout.split()


def install() -> None:
    """Debian's engine and the tool for the image, as far as they are not there."""
    missing = [package for package, program in PACKAGES.items() if shutil.which(program) is None]
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise RuntimeError(f"{', '.join(missing)} can be installed only by root on Debian")
    say(f"installing {', '.join(missing)}")
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (("update",), ("install", "-y", "--no-install-recommends", *missing)):
        subprocess.run(["apt-get", "-qq", *words], env=environ, check=True, stdout=sys.stderr)


class Daemon:
    """An engine of our own, with all that it keeps in one folder.

    Engines share the bridge and the firewall of their network namespace, and end them for each
    other; one that runs beside another needs a namespace of its own (``is_apart``).
    """

    def __init__(self, folder: Path, *, is_apart: bool = False) -> None:
        self.folder = folder
        self._command = ["unshare", "--net", "dockerd"] if is_apart else ["dockerd"]
        self.host = f"unix://{folder}/docker.sock"
        self._process: subprocess.Popen[bytes] | None = None
        self._flags: tuple[str, ...] | None = None

    def start(self) -> None:
        """Start it with the first flags that work here; RuntimeError when none do."""
        candidates = FLAGS if self._flags is None else (self._flags,)
        for flags in candidates:
            if self._starts(flags):
                self._flags = flags
                return
        log = (self.folder / "dockerd.log").read_text(errors="replace").splitlines()
        raise RuntimeError("dockerd does not start here: " + " | ".join(log[-3:]))

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _starts(self, flags: tuple[str, ...]) -> bool:
        own = {"data-root": "root", "exec-root": "exec", "pidfile": "dockerd.pid"}
        places = [f"--{name}={self.folder / place}" for name, place in own.items()]
        # Of an engine that was killed: another process may have the number by now.
        for left in ("dockerd.pid", "exec/containerd/containerd.pid"):
            (self.folder / left).unlink(missing_ok=True)
        with (self.folder / "dockerd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command, f"--host={self.host}", *places, *flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < until and self._process.poll() is None:
            if _docker("--host", self.host, "version", quiet=True):
                return True
            time.sleep(0.1)
        self.stop()
        return False


@contextlib.contextmanager
def apart() -> Iterator[Daemon]:
    """An engine beside the one that answers, with the image of the tests, which may be stopped."""
    folder = Path(tempfile.mkdtemp(prefix="hg-engine-"))
    daemon = Daemon(folder, is_apart=True)
    before = os.environ.get("DOCKER_HOST")
    try:
        daemon.start()
        os.environ["DOCKER_HOST"] = daemon.host
        try:
            ensure_image()
        finally:
            if before is None:
                del os.environ["DOCKER_HOST"]
            else:
                os.environ["DOCKER_HOST"] = before
        yield daemon
    finally:
        daemon.stop()
        subprocess.run(["umount", "-q", "-R", str(folder / "root")], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def ensure_image() -> None:
    """The image of the tests, from the cache folder, else made here."""
    if _docker("image", "inspect", IMAGE, quiet=True):
        return
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "headgate"
    archive = cache / f"{IMAGE.replace(':', '-')}-{SUITE}.tar"
    if not archive.exists():
        cache.mkdir(parents=True, exist_ok=True)
        _make(archive)
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    changes = ["--change", 'CMD ["python3"]', "--change", f"ENV PATH={path}"]
    subprocess.run(["docker", "import", *changes, str(archive), IMAGE], check=True, stdout=2)


def _make(archive: Path) -> None:
    say("making the image with debootstrap; it is kept for the next time")
    folder = Path(tempfile.mkdtemp(prefix="hg-base-"))
    try:
        root = folder / "root"
        packages = "--include=python3,python3-venv,ca-certificates"
        with (folder / "log").open("wb") as log:
            made = subprocess.run(
                ["debootstrap", "--variant=minbase", packages, SUITE, str(root)],
                stdout=log,
                stderr=log,
                check=False,
            )
        if made.returncode != 0:
            lines = (folder / "log").read_text(errors="replace").splitlines()
            raise RuntimeError("debootstrap has failed: " + " | ".join(lines[-3:]))
        for place in LEFT_OUT:
            shutil.rmtree(root / place, ignore_errors=True)
        for package in (root / "var/cache/apt/archives").glob("*.deb"):
            package.unlink()
        draft = archive.with_suffix(".draft")
        subprocess.run(["tar", "-C", str(root), "-cf", str(draft), "."], check=True)
        draft.replace(archive)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    command = sys.argv[sys.argv.index("--") + 1 :]
    folder = Path(tempfile.mkdtemp(prefix="hg-engine-"))
    daemon = Daemon(folder)
    try:
        try:
            if not answers():
                install()
                daemon.start()
                os.environ["DOCKER_HOST"] = daemon.host
            ensure_image()
        except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
            say(f"none: {error}")
        return subprocess.run(command, check=False).returncode
    finally:
        daemon.stop()
        subprocess.run(["umount", "-q", "-R", str(folder / "root")], check=False)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
