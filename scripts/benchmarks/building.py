"""What has to be built or fetched before it can be measured. Must not know measures."""

import contextlib
import os
import shutil
import subprocess
import sys

from benchmarks.place import CannotMeasure, ROOT

PROXY, PROXY_CONNECTIONS = "mcp-proxy==0.13.0", 16


def cargo(arguments):
    done = subprocess.run(["cargo", "build", "--release", *arguments], cwd=ROOT)
    if done.returncode != 0:
        raise CannotMeasure(f"`cargo build --release {' '.join(arguments)}` failed: see above")


def build_peer(folder):
    cargo(["--manifest-path", f"benches/{folder}/Cargo.toml", "--target-dir", "target/peers"])


def build(names, skip):
    """The command of each named server; built first unless `skip`."""
    if not skip:
        if "waygate" in names:
            cargo(["--example", "echo"])
        for name in names:
            if name != "waygate":
                build_peer({"rmcp": "rmcp-echo"}.get(name, name))
    built = {
        "waygate": ROOT / "target/release/examples/echo",
        "rmcp": ROOT / "target/peers/release/rmcp-echo",
        "floor": ROOT / "target/peers/release/floor",
    }
    return {name: [str(built[name])] for name in names}


def find_wrk():
    """Where wrk is; installs it when that is possible without asking."""
    if not shutil.which("wrk") and os.geteuid() == 0 and shutil.which("apt-get"):
        print("installing wrk with apt-get", file=sys.stderr)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        if subprocess.run(["apt-get", "install", "-y", "wrk"], **quiet).returncode != 0:
            subprocess.run(["apt-get", "update"], **quiet)
            subprocess.run(["apt-get", "install", "-y", "wrk"], **quiet)
    found = shutil.which("wrk")
    if not found:
        raise CannotMeasure("wrk is missing: install it with `sudo apt-get install wrk` or your system's package manager")
    return found


def build_gateway(bench):
    """What stands behind and beside the gateway; gives the folder of it."""
    if not bench.built:
        build_peer("gateway-floor")
        cargo(["--bin", "waygate-mcp"])
    return ROOT / "target/peers/release"


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
