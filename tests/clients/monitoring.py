"""Lets a real Prometheus scrape a real server, and asks it every query of our alerts and of our dashboard.

Then breaks it, and looks whether the alerts speak that should. Run by scripts/monitoring with the folder `packaging`;
WAYGATE_URL says where the server is, WAYGATE_SERVER_FOLDER where its data are. Needs nothing but Python.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

PATIENCE_SECONDS = 60
# What a server that was just started has no sample of, each for its reason.
MAY_BE_EMPTY = {
    "waygate_errors_total": "no error happened",
    "waygate_cancelled_total": "no caller went away",
    "waygate_refused_total": "nothing was refused",
    "waygate_plugin_panics_total": "no plugin panicked",
    "waygate_tool_definition_changes_total": "no definition changed",
    "waygate_plugin_restarts_total": "no plugin failed",
    "waygate_plugin_resident_memory_bytes": "no plugin has a program of its own",
    "waygate_actor_restarts": "no actor crashed",
}


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def until(what, look):
    """Asks again and again until there is an answer."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    why = None
    while time.monotonic() < deadline:
        try:
            found = look()
            if found:
                return found
        except OSError as error:
            why = error
        time.sleep(0.2)
    sys.exit(f"monitoring: {what} did not come about in {PATIENCE_SECONDS} s ({why})")


def call(url):
    """One call, so that counters have something to count."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "monitoring", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    body = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "waygate__status", "arguments": {}, "_meta": meta},
    }
    request = urllib.request.Request(url, json.dumps(body).encode(), method="POST")
    for name, value in {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "tools/call",
        "Mcp-Name": "waygate__status",
    }.items():
        request.add_header(name, value)
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200, answer.status


def check_exposition(text):
    """promtool's own lint; it wants units that are base units and counters that end in _total."""
    lint = subprocess.run(["promtool", "check", "metrics"], input=text, text=True, capture_output=True)
    # Names that Prometheus' own client libraries use, and gauges over counts that are kept elsewhere.
    known = re.compile(r"process_cpu_seconds_total|process_")
    faults = [line for line in lint.stderr.splitlines() if line.strip() and not known.search(line)]
    assert not faults, "\n".join(faults)


def expressions(packaging):
    """Every query of the pack, with where it stands."""
    dashboard = json.load(open(os.path.join(packaging, "grafana", "waygate.json")))
    filled = {"$__rate_interval": "10s", "$instance": ".*"}
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            text = target["expr"]
            for variable, value in filled.items():
                text = text.replace(variable, value)
            yield f"the panel {panel['title']!r}", text


def main():
    packaging = sys.argv[1]
    url = os.environ["WAYGATE_URL"]
    address = urllib.parse.urlsplit(url).netloc
    call(url)
    check_exposition(get(f"http://{address}/metrics"))
    with tempfile.TemporaryDirectory() as folder:
        config = open(os.path.join(packaging, "prometheus", "prometheus.yml")).read()
        config = config.replace("127.0.0.1:8000", address).replace("15s", "1s")
        # Nobody waits here for minutes until what is so has been so for long.
        alerts = open(os.path.join(packaging, "prometheus", "alerts.yml")).read()
        with open(os.path.join(folder, "alerts.yml"), "w") as file:
            file.write(re.sub(r"for: \d+m", "for: 1s", alerts))
        with open(os.path.join(folder, "prometheus.yml"), "w") as file:
            file.write(config)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        prometheus = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=warn",
            ]
        )
        try:
            watch(f"http://127.0.0.1:{port}", url, packaging)
            alarm(f"http://127.0.0.1:{port}", f"http://{address}", os.environ["WAYGATE_SERVER_FOLDER"])
        finally:
            prometheus.terminate()
            prometheus.wait(30)


def rules_of(prometheus):
    groups = json.loads(get(f"{prometheus}/api/v1/rules"))["data"]["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alarm(prometheus, server, folder):
    """What operators are to be woken by, one after the other."""

    def speaks(name):
        return any(rule["name"] == name and rule["state"] == "firing" for rule in rules_of(prometheus))

    plugins = os.path.join(folder, "plugins")
    os.makedirs(plugins, mode=0o700, exist_ok=True)
    with open(os.path.join(plugins, "gone.toml"), "w") as file:
        file.write('kind = "mcp"\nurl = "http://127.0.0.1:1/mcp"\n')
    until("the alert of a plugin whose server is gone", lambda: speaks("WaygatePluginAway"))
    assert not speaks("WaygateDown"), "the server is there"
    os.kill(json.loads(get(f"{server}/diagnostics/performance"))["pid"], signal.SIGKILL)
    until("the alert of a server that was killed", lambda: speaks("WaygateDown"))
    print("monitoring: a plugin that is gone and a server that was killed are told of")


def watch(prometheus, url, packaging):
    def ask(query):
        call(url)
        answer = json.loads(get(f"{prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": query})))
        assert answer["status"] == "success", answer
        return answer["data"]["result"]

    # Three scrapes, so that there are rates.
    until("a first scrape", lambda: get(f"{prometheus}/-/ready"))
    until("some scrapes", lambda: ask('count_over_time(up{job="waygate"}[1m]) >= 5'))
    until("a scrape that worked", lambda: ask('up{job="waygate"} == 1'))

    def judged():
        rules = rules_of(prometheus)
        return rules if rules and all(rule["health"] == "ok" for rule in rules) else None

    rules = until("the judgement of every rule", judged)
    speak = [rule["name"] for rule in rules if rule["state"] == "firing"]
    assert not speak, f"alerts of a healthy server: {speak}"

    names = set()
    for where, query in expressions(packaging):
        names.update(re.findall(r"\b(?:waygate|process)_[a-z_]+", query))
        ask(query)
    for rule in rules:
        names.update(re.findall(r"\b(?:waygate|process)_[a-z_]+", rule["query"]))
    silent = [name for name in sorted(names) if name not in MAY_BE_EMPTY and not ask(name + '{job="waygate"}')]
    assert not silent, f"no sample of {silent}"
    print(f"monitoring: {len(rules)} rules judged, none speaks; {len(names)} metrics of the pack are there")


main()
