"""JupyterHub's configuration for a room; `workshop/hub.py` starts the hub and sends its settings.

They come over standard input, as JSON, so that the passwords are in no file, no argument and no
environment variable, which the learners' processes could read.
"""

import ctypes
import json
import os
import signal
import sys
from pathlib import Path

from jupyterhub.spawner import SimpleLocalProcessSpawner

c = get_config()  # type: ignore[name-defined]  # noqa: F821  # JupyterHub provides it
settings = json.load(sys.stdin)
hub, home = Path(settings["hub"]), Path(settings["home"])

if sys.platform == "linux":  # PR_SET_PDEATHSIG: end with the command that started the hub
    ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)


class LearnerSpawner(SimpleLocalProcessSpawner):
    """Starts each learner's server in a folder of its own, where possible out of others' sight."""

    def make_preexec_fn(self, name):
        def prepare():
            os.umask(0o077)
            os.chdir(home / name)

        return prepare

    def start(self):
        self.cmd = [part.replace("{home}", self.home_dir) for part in settings["command"]]
        return super().start()

    def user_env(self, env):
        return {
            **super().user_env(env),
            "TMPDIR": f"{self.home_dir}/.tmp",
            "JUPYTER_RUNTIME_DIR": f"{settings['run']}/{self.user.name}",  # short: of sockets too
            "WORKSHOP_WARM_KERNELS": settings["warm"],
        }


c.JupyterHub.bind_url = f"http://{settings['address']}:{settings['port']}"
c.JupyterHub.hub_ip = "127.0.0.1"
c.JupyterHub.hub_port = settings["ports"][0]
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{settings['ports'][1]}"
c.ConfigurableHTTPProxy.command = settings["proxy"]
c.ConfigurableHTTPProxy.pid_file = str(hub / "proxy.pid")
c.JupyterHub.cookie_secret_file = str(hub / "cookie_secret")
c.JupyterHub.db_url = f"sqlite:///{hub / 'hub.sqlite'}"
c.JupyterHub.log_level = "INFO"

c.JupyterHub.authenticator_class = "shared-password"
c.SharedPasswordAuthenticator.user_password = settings["password"]
c.SharedPasswordAuthenticator.admin_password = settings["admin_password"]
c.Authenticator.allowed_users = set(settings["learners"])
c.Authenticator.admin_users = {settings["admin"]}
c.Authenticator.delete_invalid_users = True  # who is no longer on the list

c.JupyterHub.spawner_class = LearnerSpawner
c.SimpleLocalProcessSpawner.home_dir_template = str(home / "{username}")
c.Spawner.default_url = "/lab/tree/notebooks"
c.Spawner.start_timeout = c.Spawner.http_timeout = 600  # thirty start at once on two cores
# limits of memory are not set here: this spawner would not enforce them

c.JupyterHub.services = [
    {
        "name": "idle-culler",
        "command": [
            sys.executable,
            "-m",
            "jupyterhub_idle_culler",
            f"--timeout={settings['idle']}",
        ],
    }
]
c.JupyterHub.load_roles = [
    {
        "name": "idle-culler",
        "scopes": ["list:users", "read:users:activity", "read:servers", "delete:servers"],
        "services": ["idle-culler"],
    }
]
