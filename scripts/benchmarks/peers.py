"""Those that Waygate is measured beside: where they come from, in which versions, and how they are started.

They come from npm, PyPI and Debian, the first two into target/bench. Must not know what is measured.
"""

import base64
import hashlib
import hmac
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.building import find_program
from benchmarks.place import CannotMeasure, ROOT
from benchmarks.servers import Interpreted, Server
from benchmarks.wire import MESSAGE, SESSION_VERSION, ask, legacy_call

FOLDER = ROOT / "target/bench"
# What is installed, by the name of its folder.
PYPI = {
    "fastmcp": ["fastmcp==4.1.2", "uvicorn==0.54.0", "uvloop==0.23.0", "httptools==0.9.0"],
    "contextforge": ["mcp-contextforge-gateway==1.0.7.post20260921"],
}
NPM = {"typescript": ["@modelcontextprotocol/server@2.4.0", "@modelcontextprotocol/node@2.1.2", "zod@4.6.7"]}


def is_installed(folder, wanted):
    mark = folder / "installed"
    return mark.exists() and mark.read_text() == wanted


def install(name):
    """The folder of what is called so; fetched when it is not there in the pinned versions."""
    folder, packages = FOLDER / name, PYPI.get(name) or NPM[name]
    wanted = " ".join(packages)
    if is_installed(folder, wanted):
        return folder
    print(f"installing {wanted} into {folder}", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if name in PYPI:
        pip = [str(folder / "bin/pip"), "install", "--quiet", "--disable-pip-version-check", *packages]
        commands = [[sys.executable, "-m", "venv", str(folder)], pip]
    else:
        npm = ["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--save-exact", "--loglevel=error"]
        commands = [[*npm, *packages]]
    for command in commands:
        try:
            failed = subprocess.run(command, stdout=sys.stderr).returncode != 0
        except FileNotFoundError:
            raise CannotMeasure(f"{wanted} cannot be installed: there is no {command[0]} here") from None
        if failed:
            raise CannotMeasure(f"{wanted} cannot be installed: see above; the network is needed once")
    (folder / "installed").write_text(wanted)
    return folder


def find_nginx():
    """Where nginx is, if it is there."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/sbin")


def versions():
    """What is pinned, in words."""
    return [package for packages in (PYPI | NPM).values() for package in packages]


def fastmcp():
    return [str(install("fastmcp") / "bin/python"), str(ROOT / "benches/peers/fastmcp_echo.py")]


def typescript():
    folder = install("typescript")
    # It finds what it imports beside itself.
    program = folder / "typescript-echo.mjs"
    shutil.copyfile(ROOT / "benches/peers/typescript-echo.mjs", program)
    node = shutil.which("node")
    if not node:
        raise CannotMeasure("node is missing: install Node.js 20 or newer")
    return [node, str(program)]


class Nginx(Server):
    """nginx as a plain reverse proxy: one worker, kept connections to the server behind, nothing written."""

    WORKERS = ()

    def __init__(self, name, upstream, folder):
        super().__init__(name, [], folder)
        own = Path(folder) / f"{name}-nginx"
        own.mkdir(exist_ok=True)
        temporary = "".join(f"{kind}_temp_path {own}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        settings = own / "nginx.conf"
        settings.write_text(
            f"daemon off; master_process off; pid {own}/pid; error_log stderr error;\n"
            "events { worker_connections 1024; }\n"
            f"http {{ access_log off; {temporary} keepalive_requests 100000000;\n"
            f"upstream behind {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 100000000; }}\n"
            f"server {{ listen 127.0.0.1:{self.port}; client_max_body_size 16m; client_body_buffer_size 1m;\n"
            "location / { proxy_pass http://behind; proxy_http_version 1.1; proxy_set_header Connection \"\"; "
            "proxy_buffers 8 64k; } } }\n"
        )
        self.command = [find_program("nginx", "nginx-light"), "-c", str(settings), "-p", str(own), "-e", "stderr"]


class ContextForge(Interpreted):
    """ContextForge: one worker, SQLite, without its pages, its rate limit and its plugins; a caller shows a token."""

    WORKERS = ()
    SECRET = "a-secret-of-the-measurement-0123456789abcdef"

    def __init__(self, name, upstream, folder):
        super().__init__(name, [str(install("contextforge") / "bin/mcpgateway")], folder, path="/mcp/")
        self.command += ["--host", "127.0.0.1", "--workers", "1", "--log-level", "error"]
        self.upstream = upstream
        own = Path(folder) / f"{name}-data"
        own.mkdir(exist_ok=True)
        self.env |= {
            "DATABASE_URL": f"sqlite:///{own}/mcp.db", "JWT_SECRET_KEY": self.SECRET, "AUTH_ENCRYPTION_SECRET": self.SECRET,
            "PLATFORM_ADMIN_EMAIL": "admin@example.com", "PLATFORM_ADMIN_PASSWORD": "A-measured-1-password",
            "MCPGATEWAY_UI_ENABLED": "false", "MCPGATEWAY_ADMIN_API_ENABLED": "true", "RATE_LIMITING_ENABLED": "false",
            "JSON_RESPONSE_ENABLED": "true", "USE_STATEFUL_SESSIONS": "false", "LOG_LEVEL": "ERROR", "PLUGINS_ENABLED": "false",
            "CACHE_TYPE": "memory", "ENVIRONMENT": "development", "SSRF_ALLOW_LOCALHOST": "true",
            "SSRF_ALLOW_PRIVATE_NETWORKS": "true", "HOME": str(own),
        }
        self.registered = False

    def token(self):
        def part(value):
            return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

        claims = {"sub": "admin@example.com", "username": "admin@example.com", "iss": "mcpgateway", "aud": "mcpgateway-api",
                  "iat": int(time.time()), "exp": int(time.time()) + 86_400, "jti": "measured", "is_admin": True, "teams": None,
                  "token_use": "session", "user": {"email": "admin@example.com", "is_admin": True, "auth_provider": "local"}}
        body = part({"alg": "HS256", "typ": "JWT"}) + b"." + part(claims)
        seal = hmac.new(self.SECRET.encode(), body, hashlib.sha256).digest()
        return (body + b"." + base64.urlsafe_b64encode(seal).rstrip(b"=")).decode()

    def answers(self):
        """Ready when it serves, knows the server behind it, and answers a call for it."""
        if ask(self.port, "/health")[0] != 200:
            return False
        headers = {"Authorization": f"Bearer {self.token()}"}
        if not self.registered:
            form = {"name": "up", "url": f"http://127.0.0.1:{self.upstream}/mcp", "transport": "STREAMABLEHTTP"}
            own = headers | {"Content-Type": "application/json"}
            status, _, text = ask(self.port, "/gateways", json.dumps(form), own, seconds=30)
            # Of an earlier start on the same folder it knows it already.
            if status not in (200, 201, 409):
                raise CannotMeasure(f"ContextForge does not take the server behind it: {status} {text[:300]}")
            self.registered = True
        self.asked = legacy_call("up-echo", headers | {"MCP-Protocol-Version": SESSION_VERSION})
        status, _, text = ask(self.port, self.path, self.asked["body"], self.asked["headers"], seconds=30)
        return status == 200 and MESSAGE in text
