"""A real Postfix in a folder: the configuration of ops/postfix with its ports and folders on loopback.

Debian's packages, not ours: postfix and, for logins, dovecot. Postfix starts as root only.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from ops.embedded.process import CannotStart, check_space, port_for, start, stop, tail, wait_until
from ops.receiver import make_certificate

SHIPPED = Path(__file__).parent.parent / "postfix"
NOTHING: Mapping[str, str] = MappingProxyType({})
SERVICES = ("smtp", "submission", "submissions")


class EmbeddedPostfix:
    """One MTA with its own configuration and queue. `settings` go over those of ops/postfix/main.cf."""

    def __init__(self, folder: Path, settings: Mapping[str, str] = NOTHING) -> None:
        self.folder = folder.absolute()
        self.config = self.folder / "config"
        self.queue = self.folder / "queue"
        self.log = self.folder / "mail.log"
        self.certificate = self.folder / "receiver-ca.pem"
        self.ports: dict[str, int] = {}
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Configure, start and wait until it greets. Raises CannotStart."""
        if shutil.which("postfix") is None:
            raise CannotStart("postfix is missing: apt-get install postfix")
        if os.geteuid() != 0:
            raise CannotStart("Postfix starts as root only: run this as root, or in a container.")
        self.configure()
        self.run("postfix", "check")  # makes the folders of the queue
        daemons = self.run("postconf", "-h", "daemon_directory").strip()
        # Not by `postfix start`: its shell would stand between us and the master, which has to end with us.
        master = [f"{daemons}/master", "-c", str(self.config), "-d"]
        self._process = start(master, self.folder / "postfix.out")
        wait_until(self._greets, self._process, "Postfix", self.log, 30)

    def configure(self) -> None:
        """Write the configuration, with free ports, and make its folders."""
        self.config.mkdir(parents=True, exist_ok=True)
        check_space(self.folder)
        for name in ("main.cf", "master.cf", "receivers"):
            shutil.copy2(SHIPPED / name, self.config / name)
        certificate, key = make_certificate(self.folder)
        shutil.copyfile(certificate, self.folder / "fullchain.pem")
        shutil.copyfile(key, self.folder / "privkey.pem")
        for name in SERVICES:
            (self.folder / name).mkdir(exist_ok=True)
            self.ports[name] = port_for(self.folder / name, None, "Postfix")
        data, mail = self.folder / "data", self.folder / "mail"
        self.queue.mkdir(exist_ok=True)
        give(data, "postfix")
        give(mail, "nobody")
        ours = {
            "myhostname": "mx1.agency.test",
            "bounce_domain": "bounces.agency.test",
            "queue_directory": str(self.queue),
            "data_directory": str(data),
            "maillog_file": str(self.log),
            "maillog_file_prefixes": f"/{self.folder.parts[1]}",
            "multi_instance_enable": "no",
            "inet_interfaces": "127.0.0.1",
            "certificate_folder": str(self.folder),
            "dkim_milter": "",
            "virtual_mailbox_base": str(mail),
            "virtual_uid_maps": f"static:{mail.stat().st_uid}",
            "virtual_gid_maps": f"static:{mail.stat().st_gid}",
            **self._settings,
        }
        self._postconf("-e", *(f"{name} = {value}" for name, value in ours.items()))
        for name in SERVICES:
            self._postconf("-F", "-e", f"{name}/inet/service = 127.0.0.1:{self.ports[name]}")

    def run(self, program: str, *arguments: str) -> str:
        """Run one of Postfix's commands on this instance; return what it says. Raises CannotStart."""
        command = [*self._command(program), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise CannotStart(f"{program} {' '.join(arguments)} failed: {done.stderr.strip()}")
        return done.stdout + done.stderr

    def lines(self) -> Sequence[str]:
        """Return the log so far."""
        return self.log.read_text("utf-8", "replace").splitlines() if self.log.exists() else []

    def stop(self) -> None:
        """End it and all its daemons."""
        if self._process is not None:
            stop(self._process, signal.SIGTERM)
            self._process = None

    def _command(self, program: str) -> list[str]:
        return [program, "-c", str(self.config)]

    def _postconf(self, *arguments: str) -> None:
        """Change a file, and date it back: Postfix waits until a file that it reads is two seconds old."""
        self.run("postconf", *arguments)
        for name in ("main.cf", "master.cf"):
            os.utime(self.config / name, (0, 0))

    def _greets(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.ports["submission"]), 5) as connection:
                return connection.recv(64).startswith(b"220")
        except OSError:
            return False


def give(folder: Path, user: str) -> None:
    """Make a folder that belongs to `user`."""
    folder.mkdir(exist_ok=True)
    entry = pwd.getpwnam(user)
    os.chown(folder, entry.pw_uid, entry.pw_gid)


class EmbeddedDovecot:
    """IMAPS with a Maildir for each user, and the logins of a Postfix when its queue is given."""

    def __init__(self, folder: Path, users: Mapping[str, str], postfix_queue: Path | None = None) -> None:
        self.folder = folder.absolute()
        self._users = users
        self.certificate = self.folder / "receiver-ca.pem"
        self.log = self.folder / "dovecot.log"
        self.port = 0
        self._queue = postfix_queue
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until it greets. A Postfix has to run already: the socket of logins lies in its queue."""
        if shutil.which("dovecot") is None:
            raise CannotStart("dovecot is missing: apt-get install dovecot-imapd")
        if os.geteuid() != 0:
            raise CannotStart("Dovecot with logins starts as root only: run this as root, or in a container.")
        self.folder.mkdir(parents=True, exist_ok=True)
        check_space(self.folder)
        mail = self.folder / "mail"
        give(mail, "nobody")
        make_certificate(self.folder)
        self.port = port_for(self.folder, None, "Dovecot")
        users = self.folder / "users"
        users.write_text("".join(f"{name}:{{PLAIN}}{password}\n" for name, password in self._users.items()))
        config = self.folder / "dovecot.conf"
        config.write_text(self._config(mail.stat().st_uid, mail.stat().st_gid))
        self._process = start(["dovecot", "-F", "-c", config], self.folder / "dovecot.out")
        wait_until(self._greets, self._process, "Dovecot", self.log, 20)

    def _config(self, uid: int, gid: int) -> str:
        here = self.folder
        socket_of_logins = (
            f"unix_listener {self._queue}/private/auth {{\n mode = 0660\n user = postfix\n group = postfix\n }}"
            if self._queue is not None
            else ""
        )
        return f"""base_dir = {here}/run
state_dir = {here}/state
log_path = {self.log}
protocols = imap
listen = 127.0.0.1
ssl = required
ssl_cert = <{self.certificate}
ssl_key = <{here}/receiver.key
disable_plaintext_auth = yes
auth_mechanisms = plain login
auth_failure_delay = 0
first_valid_uid = {uid}
mail_uid = {uid}
mail_gid = {gid}
mail_location = maildir:{here}/mail/%u
passdb {{
 driver = passwd-file
 args = scheme=PLAIN username_format=%u {here}/users
}}
userdb {{
 driver = static
 args = uid={uid} gid={gid} home={here}/mail/%u
}}
namespace inbox {{
 inbox = yes
}}
service imap-login {{
 inet_listener imap {{
  port = 0
 }}
 inet_listener imaps {{
  address = 127.0.0.1
  port = {self.port}
  ssl = yes
 }}
}}
service auth {{
 {socket_of_logins}
}}
service anvil {{
 unix_listener anvil-auth-penalty {{
  mode = 0
 }}
}}
"""

    def _greets(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 5).close()
        except OSError:
            return False
        return "fatal" not in tail(self.log).lower()

    def stop(self) -> None:
        """End it and all its processes."""
        if self._process is not None:
            stop(self._process, signal.SIGTERM)
            self._process = None
