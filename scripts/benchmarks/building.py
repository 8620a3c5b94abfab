"""What has to be built or fetched before it can be measured. Must not know measures."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.place import CannotMeasure, PROGRAMS, ROOT

PROXY, PROXY_CONNECTIONS = "mcp-proxy==0.13.0", 16


def cargo(arguments):
    done = subprocess.run(["cargo", "build", "--release", *arguments], cwd=ROOT)
    if done.returncode != 0:
        raise CannotMeasure(f"`cargo build --release {' '.join(arguments)}` failed: see above")


def build_peer(folder):
    cargo(["--locked", "--manifest-path", f"benches/{folder}/Cargo.toml", "--target-dir", "target/peers"])


def build_waygate(plain):
    """The server and its echo, as they are shipped or as `cargo build --release` makes them, into one place."""
    if plain:
        cargo(["--locked", "--bin", "waygate-mcp", "--example", "echo"])
        built = [ROOT / "target/release/waygate-mcp", ROOT / "target/release/examples/echo"]
    else:
        env = os.environ | {"CARGO_TARGET_DIR": str(ROOT / "target")}
        done = subprocess.run([str(ROOT / "scripts/release"), "--example", "echo"], cwd=ROOT, env=env)
        if done.returncode != 0:
            raise CannotMeasure("scripts/release failed: see above; --plain measures what `cargo build --release` builds")
        built = [ROOT / "target/shipped/waygate-mcp", ROOT / "target/shipped/echo"]
    PROGRAMS.mkdir(parents=True, exist_ok=True)
    for program in built:
        shutil.copy2(program, PROGRAMS)


def build(names, skip, plain):
    """The command of each named server; built first unless `skip`."""
    if not skip:
        if "waygate" in names:
            build_waygate(plain)
        for name in names:
            if name != "waygate":
                build_peer({"rmcp": "rmcp-echo"}.get(name, name))
    built = {
        "waygate": PROGRAMS / "echo",
        "rmcp": ROOT / "target/peers/release/rmcp-echo",
        "floor": ROOT / "target/peers/release/floor",
    }
    return {name: [str(built[name])] for name in names}


def find_program(name, package):
    """Where a program is; Debian's package of it is installed when that is possible without asking."""
    def find():
        return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")

    if not find() and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"installing {package} with apt-get", file=sys.stderr)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with no_service_starts():
            if subprocess.run(["apt-get", "install", "-y", "--no-install-recommends", package], **quiet).returncode != 0:
                subprocess.run(["apt-get", "update"], **quiet)
                subprocess.run(["apt-get", "install", "-y", "--no-install-recommends", package], **quiet)
    found = find()
    if not found:
        raise CannotMeasure(
            f"{name} is missing: install it with `sudo apt-get install {package}` or your system's package manager"
        )
    return found


@contextlib.contextmanager
def no_service_starts():
    """Debian starts what it installs, nginx on port 80, unless this file says no."""
    says = Path("/usr/sbin/policy-rc.d")
    ours = not says.exists()
    if ours:
        says.write_text("#!/bin/sh\nexit 101\n")
        says.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            says.unlink()


def find_wrk():
    return find_program("wrk", "wrk")


def build_gateway(bench):
    """What stands behind and beside the gateway; gives the folder of it."""
    if not bench.built:
        build_peer("gateway-floor")
        bench.built = True
    return ROOT / "target/peers/release"


def build_rmcp(bench):
    """The echo on the Rust SDK."""
    if not bench.built:
        build_peer("rmcp-echo")
    return ROOT / "target/peers/release/rmcp-echo"


def find_mcp_proxy(bench):
    """Where mcp-proxy is; installed below target/ when it is not there."""
    folder = ROOT / "target/mcp-proxy"
    if (folder / "installed").exists() and (folder / "installed").read_text() == PROXY:
        return folder / "bin/mcp-proxy"
    print(f"installing {PROXY} into {folder}", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    pip = [str(folder / "bin/pip"), "install", "--quiet", "--disable-pip-version-check", PROXY]
    for command in ([sys.executable, "-m", "venv", str(folder)], pip):
        if subprocess.run(command, stdout=sys.stderr).returncode != 0:
            raise CannotMeasure(f"{PROXY} cannot be installed: see above; Python with venv and the network are needed once")
    (folder / "installed").write_text(PROXY)
    return folder / "bin/mcp-proxy"


@contextlib.contextmanager
def private_postgres():
    """The URL of a PostgreSQL that ends with the block."""
    command = [str(ROOT / "scripts/postgres"), "--install", "fsync=on", "full_page_writes=on"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as script:
        url = script.stdout.readline().strip()
        if not url:
            raise CannotMeasure("PostgreSQL does not start: see above")
        yield url
