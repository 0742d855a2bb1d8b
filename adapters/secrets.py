"""Where secrets stand: files of one folder, readable by their owner only, or the environment."""

import os
import stat
from pathlib import Path


class SecretMissing(Exception):
    """A secret cannot be had; the text says which and what to do, never its value."""


class Secrets:
    """Resolves `file:NAME` in the folder and `env:NAME`; read anew each time, so a rotation needs no restart."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, ref: str) -> Path:
        """Return the path behind `file:NAME`. Raises SecretMissing."""
        kind, _, name = ref.partition(":")
        if kind != "file" or name in {"", ".."} or "\0" in name or Path(name).name != name:
            raise SecretMissing(f"{ref!r} is not of the form file:NAME (a plain file name)")
        return self._folder / name

    def resolve(self, ref: str) -> str:
        """Return the secret. Raises SecretMissing, also when others may read its file."""
        kind, _, name = ref.partition(":")
        if kind == "env":
            value = os.environ.get(name)
            if value is None:
                raise SecretMissing(f"environment variable {name} is not set (secret {ref})")
            return value
        path = self.path(ref)
        try:
            mode = path.stat().st_mode
            value = path.read_text("utf-8").rstrip("\n")
        except FileNotFoundError as error:
            said = f"secret {ref} cannot be read: no such file; write it to MAILFLEET_HOME/secrets, mode 0600"
            raise SecretMissing(said) from error
        except OSError as error:
            raise SecretMissing(f"secret {ref} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError:
            raise SecretMissing(f"secret {ref} is not UTF-8 text") from None  # the error holds its octets
        if stat.S_IMODE(mode) & 0o077:
            raise SecretMissing(f"secret {ref} may be read by others: chmod 600 its file")
        return value
